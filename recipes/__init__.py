"""Experiments as YAML files; a new experiment is just a new file."""
