"""What exists on this machine: data sets, member types, what is missing."""
