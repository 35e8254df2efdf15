"""What a backbone's ONNX graph looks like to those who make one, run one, and put one into a file."""

from __future__ import annotations

OPSET = 18
PIXELS, POOLED, PATCHES = "pixels", "pooled", "patches"
"""Input ``[N, 3, S, S]`` float32, 0…255; outputs ``[N, D]`` and ``[N, C, g, g]``, float32."""
