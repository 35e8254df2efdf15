"""How well maps find defects whose places are known."""
