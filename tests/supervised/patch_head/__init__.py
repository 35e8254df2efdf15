"""Tests of the patch-wise head."""
