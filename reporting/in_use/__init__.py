"""What answers mean in use: triage, and figures at the share of the minority that is expected."""
