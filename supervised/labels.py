"""Checks and score forms that all supervised members share."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from contracts.errors import DataError
from contracts.rows import LabelArray


def require_every_class(member: str, labels: LabelArray, n_classes: int, least: int = 1) -> None:
    """Refuse training rows in which a class is missing or too small to learn from.

    Raises:
        DataError: naming the class index and its count.
    """
    counts = np.bincount(labels, minlength=n_classes)
    for index, count in enumerate(counts):
        if count < least:
            raise DataError(
                f"{member}: class {index} has {count} training images but {least} are needed. "
                "Add images of it or use fewer folds."
            )


def score_columns(logits: Tensor) -> Tensor:
    """Member scores from class logits: ``[N, 1]`` log-odds of the minority for two classes, else ``[N, K]``.

    Args:
        logits: ``[N, K]``, minority last. For K > 2 they are centred, as only differences mean anything.
    """
    if logits.shape[1] == 2:
        return logits[:, 1:] - logits[:, :1]
    return logits - logits.mean(dim=1, keepdim=True)
