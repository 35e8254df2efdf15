"""How members become one logit: transforms, weights, the gate, and what each member contributes."""
