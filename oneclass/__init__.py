"""Members that learn what the majority looks like, and score how far an image is from that."""
