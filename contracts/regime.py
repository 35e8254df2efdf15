"""What is known about the labels of a data set, which decides what can be fitted and promised."""

from __future__ import annotations

from typing import Literal

Regime = Literal["unlabelled", "normal_only", "labelled"]
"""``unlabelled``: nobody has looked at the images; most are taken to be normal, but some may not be.
``normal_only``: every image is known to be normal, and none of the minority is known yet.
``labelled``: there is at least one labelled image of the minority."""
