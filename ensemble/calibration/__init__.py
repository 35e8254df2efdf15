"""From fused logits to probabilities that mean what they say."""
