"""Experiments as YAML files; a new experiment is a new file and nothing else."""
