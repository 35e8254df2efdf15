"""How well a map of the evidence finds the pixels that a mask calls anomalous.

Two figures. *Pixel AUROC* treats every pixel of every image alike, so that one large anomaly outweighs many
small ones. *PRO*, the per-region overlap, gives every connected anomalous region the same weight: at a
threshold it is the mean over regions of the share of a region's pixels that reach the threshold. It is
integrated over the false positive rate of all normal pixels up to 30 % and divided by 0.3, so that 1 is
perfect (Bergmann et al., *Uninformed Students*, CVPR 2020, section 4.1; Bergmann et al., *The MVTec Anomaly
Detection Dataset*, IJCV 2021, section 5.2). A map that says nothing has an expected PRO of 0.15.

Both are read off one curve. We differ in how it is sampled: instead of sorting some hundred million pixels,
they are counted between at most :data:`THRESHOLDS` values that the maps themselves take, evenly spread over
their ranks. Each threshold gives an exact point of the curve; between points the curve is straight. Where the
maps take no more values than that, the figures are exact.

Letters: N images, T thresholds, R replicates, H and W pixels, g cells per side of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from contracts.rows import FloatArray, LabelArray, MaskArray
from evaluation.bootstrap import central_interval, replicate_weights
from evaluation.rows import Float64Array

FPR_LIMIT = 0.3
"""False positive rate that PRO is integrated up to."""

THRESHOLDS = 4096

# Pixels that touch at a corner belong to one region, as in the authors' own evaluation.
_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval over images (over groups where there are any)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Localisation:
    """What maps are worth on a set of images.

    Attributes:
        pixel_auroc: over all pixels; 0.5 is guessing.
        pro: over all regions, up to :data:`FPR_LIMIT`; 0.15 is guessing.
        images: how many of them count.
        anomalous: how many of those have anomalous pixels.
        regions: connected regions in these.
    """

    pixel_auroc: Figure
    pro: Figure
    images: int
    anomalous: int
    regions: int


def thresholds_of(maps: Sequence[FloatArray], count: int = THRESHOLDS) -> FloatArray:
    """``[T]`` rising values at which pixels are counted.

    Args:
        maps: ``[g, g]`` each. Bilinear stretching gives no value beyond those of a map, so that these
            thresholds suit the stretched maps as well.
        count: T at most.

    Raises:
        ValueError: a map holds a value that is not finite.
    """
    values = np.unique(np.concatenate([np.ravel(each) for each in maps]).astype(np.float32))
    if not np.isfinite(values).all():
        raise ValueError("a map holds values that are not finite")
    if len(values) > count:
        # Even in rank, not in value: maps have long tails, and thresholds even in value would leave most
        # pixels in a few bins.
        values = values[np.rint(np.linspace(0, len(values) - 1, count)).astype(np.int64)]
    return values


class PixelCounts:
    """Counts of pixels between thresholds, image by image, so that no two maps need be in memory.

    Args:
        thresholds: ``[T]`` rising, as of :func:`thresholds_of`.
    """

    def __init__(self, thresholds: FloatArray) -> None:
        self._thresholds = thresholds
        self._normal: list[npt.NDArray[np.int64]] = []
        self._anomalous: list[npt.NDArray[np.int64]] = []
        self._regions: list[npt.NDArray[np.float32]] = []
        self._n_regions: list[int] = []

    def add(self, heat: FloatArray, mask: MaskArray) -> None:
        """Count one image.

        Args:
            heat: ``[H, W]`` map, stretched to the mask's size; higher = more anomalous.
            mask: ``[H, W]`` True where the image is anomalous; all False for a normal image.

        Raises:
            ValueError: the sizes differ.
        """
        if heat.shape != mask.shape:
            raise ValueError(f"a map of {heat.shape} does not fit a mask of {mask.shape}")
        # Bin k holds the values that reach k thresholds: from the k-th on, and below the next.
        n_bins = len(self._thresholds) + 1
        bin_of = np.searchsorted(self._thresholds, heat.astype(np.float32), side="right")
        self._normal.append(np.bincount(bin_of[~mask], minlength=n_bins))
        self._anomalous.append(np.bincount(bin_of[mask], minlength=n_bins))
        labelled, n_regions = ndimage.label(mask, structure=_NEIGHBOURS)
        region_of = labelled[mask]
        sizes = np.bincount(region_of, minlength=n_regions + 1)
        # Each pixel counts 1 / (size of its region), so the sum over a region is the share of it that is
        # reached.
        share = np.bincount(bin_of[mask], weights=1.0 / sizes[region_of], minlength=n_bins)
        self._regions.append(share.astype(np.float32))
        self._n_regions.append(n_regions)

    def image_auroc(self, place: int) -> float:
        """Pixel AUROC within one image; NaN where it lacks anomalous or normal pixels.

        Args:
            place: position of the image, in the order that they were added.
        """
        normal, anomalous = (each[place].astype(np.float64)[None] for each in (self._normal, self._anomalous))
        if not normal.any() or not anomalous.any():
            return float("nan")
        return float(_areas(_share_reaching(normal), _share_reaching(anomalous), 1.0)[0])

    def measure(
        self,
        chosen: Sequence[int] | npt.NDArray[np.int64],
        groups: npt.NDArray[np.int64],
        *,
        n_replicates: int,
        seed: int,
    ) -> Localisation:
        """Both figures over some of the images, with percentile intervals of a bootstrap over groups.

        Images with and without anomalous pixels are drawn apart, so that no replicate lacks either.

        Args:
            chosen: positions of the images, in the order that they were added.
            groups: ``[len(chosen)]`` group of each; images of one group are drawn together.
            n_replicates: R.
            seed: the replicates follow from it alone.

        Raises:
            ValueError: no image with anomalous pixels among them, or no normal pixel.
        """
        normal = np.stack([self._normal[i] for i in chosen]).astype(np.float64)
        anomalous = np.stack([self._anomalous[i] for i in chosen]).astype(np.float64)
        regions = np.stack([self._regions[i] for i in chosen]).astype(np.float64)
        n_regions = np.array([self._n_regions[i] for i in chosen], dtype=np.float64)
        if not anomalous.any() or not normal.any():
            raise ValueError("localisation needs anomalous and normal pixels")
        # Strata of the bootstrap: images with and without anomalous pixels.
        has_anomaly: LabelArray = (n_regions > 0).astype(np.int64)
        aurocs, pros = [], []
        blocks = replicate_weights(
            has_anomaly, groups, n_replicates=n_replicates, seed=seed, weights_per_block=64 * len(chosen)
        )
        for weights in [np.ones((1, len(chosen))), *blocks]:
            false = _share_reaching(weights @ normal)
            aurocs.append(_areas(false, _share_reaching(weights @ anomalous), 1.0))
            overlap = _share_reaching(weights @ regions, (weights @ n_regions)[:, None])
            # Divided by the limit, so that a perfect map scores 1.
            pros.append(_areas(false, overlap, FPR_LIMIT) / FPR_LIMIT)
        return Localisation(
            pixel_auroc=_figure(np.concatenate(aurocs)),
            pro=_figure(np.concatenate(pros)),
            images=len(chosen),
            anomalous=int(has_anomaly.sum()),
            regions=int(n_regions.sum()),
        )


def _figure(values: Float64Array) -> Figure:
    """The first value is the whole sample's; the others are replicates."""
    low, high = central_interval(values[1:]) if len(values) > 1 else (np.nan, np.nan)
    return Figure(float(values[0]), float(low), float(high))


def _share_reaching(counts: Float64Array, total: Float64Array | None = None) -> Float64Array:
    """``[R, T + 1]`` shares that reach T, T-1, … 0 thresholds, rising to 1."""
    rising = np.cumsum(counts[:, ::-1], axis=1)
    return rising / (rising[:, -1:] if total is None else total)


def _areas(x: Float64Array, y: Float64Array, limit: float) -> Float64Array:
    """``[R]`` areas below curves from (0, 0) to x = ``limit``, each straight between its points."""
    start = np.zeros((len(x), 1))
    x, y = np.concatenate([start, x], axis=1), np.concatenate([start, y], axis=1)
    width = np.diff(x, axis=1)
    # The piece that crosses the limit counts up to there, at the height that the straight line has there.
    kept = np.clip(limit - x[:, :-1], 0.0, width)
    part = np.divide(kept, width, out=np.zeros_like(width), where=width > 0)
    end = y[:, :-1] + part * np.diff(y, axis=1)
    areas: Float64Array = (kept * (y[:, :-1] + end) / 2.0).sum(axis=1)
    return areas
