"""Expected calibration error (Naeini et al. 2015) with the equal-mass bins of Nixon et al. 2019."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from evaluation.metric import Metric
from evaluation.rows import Float64Array, Rows, calibrated_event, ece_bin_of_row
from evaluation.sums import Sums, binned


def _gaps(rows: Rows) -> csr_array:
    """``[bins, N]`` predicted probability minus what came true, in bins of equal mass.

    The bins are those of the whole sample in every replicate.
    """
    p, came_true = calibrated_event(rows)
    return binned(p - came_true, *ece_bin_of_row(p))


def _compute(sums: Sums) -> Float64Array:
    """Sum over bins of (rows in bin / N) * abs(mean p - share that came true)."""
    error: Float64Array = np.abs(sums.total(_gaps)).sum(axis=0) / sums.total_weight
    return error


METRIC = Metric(
    name="ece",
    title="ECE",
    short="ECE",
    order=160,
    higher_is_better=False,
    classes="any",
    explanation=(
        "ECE is the expected calibration error in bins of equally many rows: of the minority's probability, "
        "or of the most probable of more than two classes; at the class shares of the images measured."
    ),
    compute=_compute,
)
