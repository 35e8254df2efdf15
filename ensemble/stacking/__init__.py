"""From member scores to one logit: transforms, weights, the gate, and each member's contribution."""
