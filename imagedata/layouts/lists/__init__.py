"""Lists of images of the user's own: their columns, their files and their rows."""
