"""PatchCore: a bank of majority patches, and the distance to it."""
