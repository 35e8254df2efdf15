"""The fused graph, its parity gate, and the torch-free scorer."""
