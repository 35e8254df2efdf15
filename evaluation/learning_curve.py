"""How a figure grows with the number of labelled images, and what a few more would add.

Figures come from refits on subsets of the labels at hand. A learning curve of an error such as 1 - AUROC is
close to a power law over the range that matters here (Figueroa et al. 2012, BMC Medical Informatics and
Decision Making 12:8; Hestness et al. 2017): ``error(n) = a n^-b``. With four sizes a third parameter, the
error that no label can remove, cannot be estimated, so the law is used for short ways only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.errors import DataError
from evaluation.bootstrap import CONFIDENCE, central_interval
from evaluation.rows import Float64Array

FIGURES = ("average_precision", "auroc")
"""Figures that curves are made of, the one that a rare class is felt in first."""

N_REPLICATES = 4000
CEILING = 0.005
"""An error below this leaves nothing worth labelling for."""

_LEAST_ERROR = 1e-4  # of an error of 0, which has no logarithm
_FEWEST_SIZES = 2
_FEWEST_DRAWS = 2


@dataclass(frozen=True)
class Extrapolation:
    """What more labels would do to a figure, on the same judged images.

    Attributes:
        now: the figure with all labels, 0…1.
        then: the figure expected with the additional ones.
        low: lower end of the 95 % interval of ``then``. It holds the spread of draws, the misfit of the law,
            and which images the additional ones would be.
        high: its upper end.
        exponent: b of the law; above 0 where the error falls.
        exponent_interval: of the draws and the misfit.
    """

    now: float
    then: float
    low: float
    high: float
    exponent: float
    exponent_interval: tuple[float, float]

    @property
    def trend(self) -> str:
        """``ceiling``, ``rises``, ``falls``, or ``none`` where draws and misfit explain the change."""
        if 1.0 - self.now < CEILING:
            return "ceiling"
        low, high = self.exponent_interval
        return "rises" if low > 0.0 else "falls" if high < 0.0 else "none"


def extrapolate(
    n_labels: Float64Array, figures_DS: Float64Array, more: float, seed: int = 0
) -> Extrapolation:
    """Continue a learning curve by a power law that passes through the figure with all labels.

    The interval joins three things. Whole draws are drawn again, since the subsets of a draw are nested. The
    logarithms of the mean errors are moved by the standard deviation of the law's residuals. And the
    additional images are other images than those at hand: with V the variance of the figure over sets of n
    images, that of the step to n + k is V k / (n + k), as for a mean of n terms. V is estimated from draws of
    m of the n images, whose variance is about V (n - m) / m (the delete-d jackknife, Shao & Wu 1989). The
    larger set is measured with other folds, too: to that adds what different folds change with all labels,
    once for the figure now and once for the one then, each a mean over the repeats.

    Args:
        n_labels: ``[S]`` sizes, ascending; the last one is all labels.
        figures_DS: ``[D, S]`` figure of each draw at each size, 0…1, higher is better. There is one way only
            to take all labels, so the last column has a value for each repeat of the folds, again and again.
        more: number of additional labels, above 0.
        seed: of the replicates.

    Raises:
        DataError: fewer than two sizes or two draws.
    """
    n_draws, n_sizes = figures_DS.shape
    if n_sizes < _FEWEST_SIZES or n_draws < _FEWEST_DRAWS:
        raise DataError(
            f"learning curve: {n_draws} draws of {n_sizes} sizes; at least {_FEWEST_DRAWS} draws of "
            f"{_FEWEST_SIZES} sizes are needed."
        )
    rng = np.random.default_rng(seed)
    errors_DS = 1.0 - figures_DS
    now = float(errors_DS[:, -1].mean())
    log_n = np.log(n_labels)
    centred = log_n - log_n.mean()
    log_errors = np.log(np.maximum(errors_DS.mean(axis=0), _LEAST_ERROR))
    exponent = -float(centred @ log_errors / (centred @ centred))
    residuals = log_errors - log_errors.mean() + exponent * centred
    misfit = float(np.sqrt((residuals @ residuals) / max(1, n_sizes - 2)))

    chosen = rng.integers(n_draws, size=(N_REPLICATES, n_draws))
    drawn = np.log(np.maximum(errors_DS[chosen].mean(axis=1), _LEAST_ERROR))
    # A bootstrap of D draws has (D - 1) / D of their variance.
    drawn = log_errors + (drawn - log_errors) * np.sqrt(n_draws / (n_draws - 1))
    drawn += rng.normal(0.0, misfit, drawn.shape)
    exponents = -(drawn - drawn.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)

    n = float(n_labels[-1])
    growth = (n + more) / n
    spread = np.sqrt(_variance(n_labels, figures_DS) * more / (n + more) + 2.0 * _of_folds(figures_DS[:, -1]))
    then = np.clip(now * growth**-exponents + rng.normal(0.0, spread, N_REPLICATES), 0.0, 1.0)
    low, high = central_interval(1.0 - then)
    low_exponent, high_exponent = central_interval(exponents)
    expected = 1.0 - min(1.0, now * growth**-exponent)
    return Extrapolation(
        now=1.0 - now,
        then=expected,
        low=min(float(low), expected),
        high=max(float(high), expected),
        exponent=exponent,
        exponent_interval=(float(low_exponent), float(high_exponent)),
    )


def _variance(n_labels: Float64Array, figures_DS: Float64Array) -> float:
    """V: variance of the figure over sets of as many images as there are labels."""
    part = n_labels[:-1] / n_labels[-1]
    # Each size by itself estimates V; a small one from far away, which is what the mean is robust against.
    return float(np.mean(figures_DS[:, :-1].var(axis=0, ddof=1) * part / (1.0 - part)))


def _of_folds(figures_D: Float64Array) -> float:
    """Variance, over folds, of the mean over repeats; 0 where one repeat cannot tell it."""
    of_repeats = np.unique(figures_D)
    return float(of_repeats.var(ddof=1)) / len(of_repeats) if len(of_repeats) > 1 else 0.0


def draw_interval(figures_D: Float64Array) -> tuple[float, float]:
    """The interval that a further draw of the same size lies in, by Student's t; within 0…1.

    Args:
        figures_D: ``[D]`` figures of at least two draws.
    """
    from scipy.stats import t

    n_draws = len(figures_D)
    reach = float(t.ppf(0.5 + CONFIDENCE / 2.0, n_draws - 1)) * float(np.sqrt(1.0 + 1.0 / n_draws))
    mean, spread = float(figures_D.mean()), float(figures_D.std(ddof=1))
    return max(0.0, mean - reach * spread), min(1.0, mean + reach * spread)
