"""A copy of each run for MLflow."""
