"""What the watch sees: batches of real test images, as they are and changed."""
