"""Backbones as ONNX graphs: traced, run, and in int8."""
