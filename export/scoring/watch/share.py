"""The share of the minority in a batch without labels: two estimates, and a figure only where they agree.

By EM (Saerens, Latinne & Decaestecker 2002): the share at which the batch's calibrated log-odds are most
likely. By black-box shift estimation (BBSE: Lipton, Wang & Smola 2018): from the share of images above a
cut, whose rates of hits and false alarms are known out of fold. Both hold if only the class shares have
changed, and read different things from the scores, so that where images themselves have changed they tend to
disagree.

Neither the calibration nor the two rates are known exactly; each rests on the out-of-fold images, of which
few are of the minority. Both estimates are therefore averaged over draws of what these could be, which makes
their intervals as wide as they need to be (for EM: Platt maps fitted to bootstrap draws of the out-of-fold
counts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.scoring.watch.reference import FloatArray64, IntArray, WatchReference, fine_centres

LEVEL = 0.95
"""Of the intervals."""

POSSIBLE = 0.999
"""Of the shares that drift may be explained by."""

LEAST_IMAGES = 20
"""Fewer scored images are not compared with training."""

_DRAWS = 60
_STEPS = 12  # of Newton's method; it converges in about six
_GRID = np.linspace(0.0, 1.0, 122)[1:-1] ** 2
"""Shares at which likelihoods are evaluated, denser towards 0."""

_LEAST_DIFFERENCE = 0.2
"""Hits less false alarms, at the best cut; below it too little is known of which class an image is of."""


@dataclass(frozen=True)
class Estimate:
    """A share with its interval, all 0…1."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """``{value, low, high}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Share:
    """What is known about the share of the minority in a batch.

    Attributes:
        figure: the share; None where there is none.
        why_not: why there is none; empty where there is.
        em: by EM; None where nothing could be computed.
        bbse: by black-box shift estimation; None likewise.
        possible: ``(least, most)`` shares that one of the two does not exclude, at a level of
            :data:`POSSIBLE`, if nothing but the share has changed.
    """

    figure: Estimate | None
    why_not: str = ""
    em: Estimate | None = None
    bbse: Estimate | None = None
    possible: tuple[float, float] = (0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Of the JSON documents."""
        return {
            "figure": None if self.figure is None else self.figure.to_json(),
            "why_not": self.why_not,
            "em": None if self.em is None else self.em.to_json(),
            "bbse": None if self.bbse is None else self.bbse.to_json(),
        }


def estimate_share(reference: WatchReference, log_odds: IntArray, seed: int = 0) -> Share:
    """Estimate the share of the minority in a batch.

    Args:
        reference: of the file.
        log_odds: ``[N_FINE]`` images of the batch, by log-odds at the class shares of training.
        seed: of the draws.
    """
    n = int(log_odds.sum())
    if reference.log_odds is None:
        return Share(None, reference.no_share)
    if n < LEAST_IMAGES:
        return Share(None, f"{n} scored images are too few; {LEAST_IMAGES} are needed.")
    random = np.random.default_rng(seed)
    # Images of one group count as one: fewer, but independent.
    known = reference.log_odds * np.asarray(reference.independent)[:, None]
    cut, difference = _best_cut(known.sum(axis=0))
    if difference < _LEAST_DIFFERENCE:
        return Share(
            None,
            f"out of fold the model tells {reference.minority} from {reference.normal} too poorly: of "
            "the two, "
            f"{difference:.0%} more of the first lie above its best cut.",
        )
    draws = _draws(known, random)
    likelihoods = (
        _em_likelihood(known.sum(axis=0), draws, log_odds),
        _bbse_likelihood(draws, log_odds, cut),
    )
    em, bbse = (_interval(each, LEVEL) for each in likelihoods)
    wide = [_interval(each, POSSIBLE) for each in likelihoods]
    possible = (min(each.low for each in wide), max(each.high for each in wide))
    if not bbse.low <= em.value <= bbse.high:
        return Share(
            None,
            f"two ways to estimate it disagree ({_range(em)} by EM, {_range(bbse)} by counting above a "
            "cut), so "
            "more than the share has changed.",
            em,
            bbse,
            possible,
        )
    figure = Estimate(em.value, min(em.low, bbse.low), max(em.high, bbse.high))
    return Share(figure, "", em, bbse, possible)


def _best_cut(known: FloatArray64) -> tuple[int, float]:
    """The cut at which BBSE varies least: its first fine bin, and the rate of hits less false alarms."""
    above = known[:, ::-1].cumsum(axis=1)[:, ::-1]
    n = known.sum(axis=1, keepdims=True)
    false_alarms, hits = (above + 0.5) / (n + 1.0)
    share = float(n[1, 0] / n.sum())
    flagged = (1.0 - share) * false_alarms + share * hits
    difference = np.maximum(hits - false_alarms, 1e-3)
    cut = int(np.argmin(flagged * (1.0 - flagged) / difference**2))
    return cut, float(hits[cut] - false_alarms[cut])


def _draws(known: FloatArray64, random: np.random.Generator) -> FloatArray64:
    """``[B, 2, N_FINE]`` what the out-of-fold counts could have been: other folds, and other images in them.

    Args:
        known: ``[F, 2, N_FINE]`` counts of each fold, whose fits differ as the fit on all rows does from
            them.
        random: source of the draws.
    """
    n_folds = len(known)
    of_folds = random.multinomial(n_folds, np.full(n_folds, 1.0 / n_folds), _DRAWS)
    mean = np.tensordot(of_folds.astype(np.float64), known, axes=1)
    drawn = random.poisson(mean).astype(np.float64)
    # A draw without any image of a class says nothing; the counts themselves stand in for it.
    empty = drawn.sum(axis=2) == 0.0
    drawn[empty] = np.broadcast_to(known.sum(axis=0), drawn.shape)[empty]
    return drawn


def _em_likelihood(known: FloatArray64, draws: FloatArray64, batch: IntArray) -> FloatArray64:
    """``[B, G]`` log-likelihood of each share of the grid, for each draw of the calibration."""
    there = np.flatnonzero(batch)
    slope, intercept = _platt_maps(known, draws)
    # log of (density of the minority / density of normal images) in each bin of the batch.
    log_ratio = intercept[:, None] + slope[:, None] * fine_centres()[there]
    ratio = np.exp(np.clip(log_ratio, -30.0, 30.0))
    likelihood = np.empty((len(slope), len(_GRID)))
    for at, share in enumerate(_GRID):
        likelihood[:, at] = np.log1p(share * (ratio - 1.0)) @ batch[there]
    return likelihood


def _platt_maps(known: FloatArray64, draws: FloatArray64) -> tuple[FloatArray64, FloatArray64]:
    """``[B]`` slopes and ``[B]`` intercepts of log density ratios, one Platt map for each draw.

    A weak prior at slope 1, the calibration as it is, keeps separated classes from an infinite one.
    """
    x = fine_centres()
    kept = np.flatnonzero(known.sum(axis=0))
    x, w0, w1 = x[kept], draws[:, 0, kept], draws[:, 1, kept]
    offset = np.log(w1.sum(axis=1) / w0.sum(axis=1))
    centre = offset - np.log(known[1].sum() / known[0].sum())
    intercept, slope = centre.copy(), np.ones(len(draws))
    for _ in range(_STEPS):
        z = np.clip(intercept[:, None] + slope[:, None] * x, -30.0, 30.0)
        p = 1.0 / (1.0 + np.exp(-z))
        weight = (w0 + w1) * p * (1.0 - p)
        residual = (w0 + w1) * p - w1
        g_a = residual.sum(axis=1) + (intercept - centre)
        g_b = residual @ x + (slope - 1.0) / 0.25
        h_aa, h_ab, h_bb = weight.sum(axis=1) + 1.0, weight @ x, weight @ x**2 + 4.0
        determinant = h_aa * h_bb - h_ab**2
        step_a = (h_bb * g_a - h_ab * g_b) / determinant
        step_b = (h_aa * g_b - h_ab * g_a) / determinant
        intercept, slope = intercept - np.clip(step_a, -2.0, 2.0), slope - np.clip(step_b, -0.5, 0.5)
    return slope, intercept - offset


def _bbse_likelihood(draws: FloatArray64, batch: IntArray, cut: int) -> FloatArray64:
    """``[B, G]`` log-likelihood of the number above the cut, for each draw of hits and false alarms."""
    above, n = draws[:, :, cut:].sum(axis=2), draws.sum(axis=2)
    false_alarms, hits = ((above + 0.5) / (n + 1.0)).T[:, :, None]
    flagged = np.clip(false_alarms + (hits - false_alarms) * _GRID, 1e-9, 1.0 - 1e-9)
    n_above = int(batch[cut:].sum())
    return np.asarray(
        n_above * np.log(flagged) + (int(batch.sum()) - n_above) * np.log1p(-flagged), dtype=np.float64
    )


def _interval(likelihood: FloatArray64, level: float) -> Estimate:
    """Median and central interval of the share under Jeffreys' prior, averaged over the draws."""
    prior = -0.5 * (np.log(_GRID) + np.log1p(-_GRID)) + np.log(np.gradient(_GRID))
    weight = np.exp(likelihood - likelihood.max(axis=1, keepdims=True) + prior)
    weight /= weight.sum(axis=1, keepdims=True)
    below = np.cumsum(weight.mean(axis=0))
    tail = (1.0 - level) / 2.0
    low, value, high = np.interp([tail, 0.5, 1.0 - tail], below, _GRID)
    # Nothing tells the lowest share of the grid from none at all.
    return Estimate(float(value), 0.0 if low <= _GRID[0] else float(low), float(high))


def _range(estimate: Estimate) -> str:
    return f"{estimate.low:.1%} to {estimate.high:.1%}"
