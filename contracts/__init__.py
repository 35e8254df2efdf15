"""What the rooms promise each other: errors, members, rows, out-of-fold scores, files on disk.

This room imports numpy and the standard library only, so that every other room, the torch-free
scorer included, can rely on it at no cost.
"""
