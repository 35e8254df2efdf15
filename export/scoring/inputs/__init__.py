"""What can be scored: files, folders, patterns, archives and tables."""
