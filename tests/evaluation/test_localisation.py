"""Pixel AUROC and PRO against the obvious way: every pixel in one array, every value a threshold."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from evaluation.localisation import FPR_LIMIT, PixelCounts, thresholds_of


def slow_pro(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Region by region and threshold by threshold, with the regions found by flood fill."""
    regions = []
    for heat, mask in zip(maps, masks, strict=True):
        left = {tuple(at) for at in np.argwhere(mask)}
        while left:
            waiting, region = [left.pop()], []
            while waiting:
                row, column = waiting.pop()
                region.append(float(heat[row, column]))
                for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                    if near in left:
                        left.remove(near)
                        waiting.append(near)
            regions.append(np.array(region))
    normal = np.concatenate([heat[~mask] for heat, mask in zip(maps, masks, strict=True)])
    thresholds = sorted({float(v) for heat in maps for v in heat.ravel()}, reverse=True)
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        points.append((float((normal >= threshold).mean()), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > FPR_LIMIT:
            if x0 < FPR_LIMIT:
                y_limit = y0 + (y1 - y0) * (FPR_LIMIT - x0) / (x1 - x0)
                area += (FPR_LIMIT - x0) * (y0 + y_limit) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / FPR_LIMIT


def pictures(seed: int, levels: int | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps of different sizes that know something of their masks; two images are all normal."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for number in range(6):
        height, width = 12 + number, 20 - number
        mask = np.zeros((height, width), dtype=bool)
        if number < 4:
            mask[2:5, 3:9] = True
            mask[7, 4] = mask[8, 5] = True  # one region, by the corner
            mask[-2:, -3:] = True
        heat = ndimage.gaussian_filter(mask.astype(float), 1.0) + rng.normal(0, 0.4, mask.shape)
        if levels is not None:
            heat = np.round(heat * levels) / levels
        maps.append(heat.astype(np.float32))
        masks.append(mask)
    return maps, masks


def measured(maps, masks, n_replicates=100, chosen=None, groups=None, count=4096):
    counts = PixelCounts(thresholds_of(maps, count))
    for heat, mask in zip(maps, masks, strict=True):
        counts.add(heat, mask)
    chosen = range(len(maps)) if chosen is None else chosen
    groups = np.arange(len(chosen)) if groups is None else groups
    return counts.measure(chosen, groups, n_replicates=n_replicates, seed=0)


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_every_pixel_in_one_array(seed, levels):
    maps, masks = pictures(seed, levels)
    found = measured(maps, masks)
    pixels = np.concatenate([heat.ravel() for heat in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    assert found.pixel_auroc.value == pytest.approx(roc_auc_score(truth, pixels), abs=1e-9)
    assert found.pro.value == pytest.approx(slow_pro(maps, masks), abs=1e-6)
    assert (found.images, found.anomalous, found.regions) == (6, 4, 12)


def test_few_thresholds_come_close():
    maps, masks = pictures(3)
    exact, sampled = measured(maps, masks), measured(maps, masks, count=200)
    assert sampled.pixel_auroc.value == pytest.approx(exact.pixel_auroc.value, abs=2e-3)
    assert sampled.pro.value == pytest.approx(exact.pro.value, abs=1e-2)


def test_a_perfect_map_and_one_that_says_nothing():
    _, masks = pictures(0)
    perfect = measured([mask.astype(np.float32) for mask in masks], masks)
    assert perfect.pixel_auroc.value == pytest.approx(1.0)
    assert perfect.pro.value == pytest.approx(1.0)
    nothing = measured([np.zeros(mask.shape, np.float32) for mask in masks], masks)
    assert nothing.pixel_auroc.value == pytest.approx(0.5)
    assert nothing.pro.value == pytest.approx(0.15)


def test_small_regions_weigh_as_much_as_large_ones():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:10, :10] = True
    mask[15, 15] = True
    only_large = np.where(np.arange(20)[:, None] < 10, mask, False).astype(np.float32)
    found = measured([only_large, np.zeros((20, 20), np.float32)], [mask, np.zeros((20, 20), dtype=bool)])
    # Half of the regions are found without a false pixel; the other half comes with all of them.
    assert found.pro.value == pytest.approx(0.5 + 0.5 * FPR_LIMIT / 2)


def test_interval_holds_the_figure_and_repeats():
    maps, masks = pictures(1)
    one, two = measured(maps, masks), measured(maps, masks)
    assert one == two
    for figure in (one.pixel_auroc, one.pro):
        assert figure.low <= figure.value <= figure.high
    whole = measured(maps, masks, groups=np.zeros(6, dtype=np.int64))
    assert whole.pro.low == pytest.approx(whole.pro.value)  # one group is drawn whole, always


def test_some_of_the_images():
    maps, masks = pictures(1)
    some = measured(maps, masks, chosen=[0, 1, 5])
    alone = measured([maps[i] for i in (0, 1, 5)], [masks[i] for i in (0, 1, 5)])
    assert some.regions == alone.regions
    assert some.pro.value == pytest.approx(alone.pro.value, abs=5e-3)  # thresholds are of all six


@pytest.mark.parametrize("levels", [None, 4])
def test_one_image_alone(levels):
    maps, masks = pictures(2, levels)
    counts = PixelCounts(thresholds_of(maps))
    for heat, mask in zip(maps, masks, strict=True):
        counts.add(heat, mask)
    for place in range(4):
        expected = roc_auc_score(masks[place].ravel(), maps[place].ravel())
        assert counts.image_auroc(place) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(counts.image_auroc(4))  # all normal


def test_refuses_what_cannot_be_measured():
    maps, masks = pictures(0)
    with pytest.raises(ValueError, match="does not fit"):
        PixelCounts(thresholds_of(maps)).add(maps[0], masks[1])
    with pytest.raises(ValueError, match="needs anomalous"):
        measured(maps[4:], masks[4:])
    with pytest.raises(ValueError, match="not finite"):
        thresholds_of([np.array([[np.nan]], dtype=np.float32)])
