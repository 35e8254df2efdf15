"""How many patches a bank may hold, by the budget that the settings name."""

from __future__ import annotations

import math
import statistics
import time

import torch

from contracts.errors import DataError
from contracts.rows import FeatureShapes
from features.tensors import BackboneFeatures
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings

LEAST_BANK = 10
_TIMED_IMAGES = 16
_TIMED_REPEATS = 7
_TIMED_BANKS = (500, 4000)


def bank_bytes_per_patch(settings: PatchCoreSettings, dim: int, grid: int = 0) -> int:
    """Bytes in the exported file per bank patch of ``dim`` coordinates.

    Args:
        settings: of the member.
        dim: coordinates of a patch in the bank.
        grid: cells per side of the patch grid; counts only with ``nearby``.
    """
    # The graph holds -2 b and |b|^2. The score of equation 7 looks bank patches up, so it needs b as well.
    copies = 2 if settings.image_score == "reweighted" else 1
    # What is usual around the patch.
    own = 1 if settings.image_score == "top_or_all" else 0
    # From which rows and from which columns it is too far; of large grids its own row and column, two int64.
    place = max(2 * grid, 16) if settings.nearby is not None else 0
    return 4 * (copies * dim + 1 + own) + place


def milliseconds_per_image(module: PatchCoreModule, shapes: FeatureShapes) -> float:
    """Milliseconds to score one image's patches on this machine, without the backbone.

    The median over several batches of 16 random images, so that short bursts of other load hardly matter.
    """
    generator = torch.Generator().manual_seed(0)
    grid = shapes.patch_grid
    patches = torch.rand(_TIMED_IMAGES, shapes.patch_channels, grid, grid, generator=generator)
    features = BackboneFeatures(torch.empty(0), torch.empty(0), patches)
    seconds = []
    with torch.inference_mode():
        module(features)  # warm-up: the first call allocates memory
        for _ in range(_TIMED_REPEATS):
            started = time.perf_counter()
            module(features)
            seconds.append(time.perf_counter() - started)
    return 1000.0 * statistics.median(seconds) / _TIMED_IMAGES


def resolve_bank_size(
    settings: PatchCoreSettings,
    shapes: FeatureShapes,
    n_images: int,
    n_candidates: int,
    dim: int,
) -> int:
    """The number of patches that the bank may hold.

    Args:
        settings: they name one budget.
        shapes: of the backbone's features.
        n_images: majority images.
        n_candidates: patches that the bank is chosen from.
        dim: coordinates of a patch in the bank.

    Raises:
        DataError: the budget has room for fewer than 10 patches, or asks for more patches than there are
            candidates.
    """
    if settings.bank_size is not None:
        return settings.bank_size
    if settings.bank_ratio is not None:
        n_patches = n_images * shapes.patch_grid**2
        # Of all patches of the images, as in the paper, although the bank is chosen from a sample of them.
        size = max(1, int(settings.bank_ratio * n_patches))
        if size > n_candidates:
            raise DataError(
                f"patchcore: bank_ratio={settings.bank_ratio:g} of {n_patches:,} patches is {size:,}, but "
                f"there are only {n_candidates:,} candidates. Raise candidate_patches or lower bank_ratio."
            )
        return size
    if settings.bank_mb is not None:
        size = int(settings.bank_mb * 1e6 / bank_bytes_per_patch(settings, dim, shapes.patch_grid))
        return _at_least(size, f"bank_mb={settings.bank_mb:g}", "Raise it or lower pca_dim.")
    assert settings.bank_ms is not None  # the settings hold exactly one of the four
    # Time is linear in the bank's size, so two banks give the slope and the time of an empty one.
    small, large = (_timed(settings, shapes, size, dim) for size in _TIMED_BANKS)
    per_patch = max((large - small) / (_TIMED_BANKS[1] - _TIMED_BANKS[0]), 1e-9)
    without_bank = small - per_patch * _TIMED_BANKS[0]
    size = int(min(max(settings.bank_ms - without_bank, 0.0) / per_patch, n_candidates))
    return _at_least(
        _round_down(size),
        f"bank_ms={settings.bank_ms:g}",
        f"Scoring takes {max(without_bank, 0.0):.2f} ms per image here with an empty bank. Raise it.",
    )


def _timed(settings: PatchCoreSettings, shapes: FeatureShapes, size: int, dim: int) -> float:
    generator = torch.Generator().manual_seed(size)
    bank = torch.randn(size, dim, generator=generator)
    # The projection takes part of the time, so the timed module has one wherever the real one will.
    projection = None
    if dim != shapes.patch_channels or settings.whiten:
        projection = torch.randn(shapes.patch_channels, dim, generator=generator)
    grid = shapes.patch_grid
    cells = torch.arange(size) % grid**2
    mean = torch.zeros(shapes.patch_channels)
    module = PatchCoreModule(settings, mean, projection, bank, grid, cells=cells)
    return milliseconds_per_image(module, shapes)


def _round_down(size: int) -> int:
    """Round down to 10 times a power of the square root of 2, so that another measurement gives the same."""
    if size < LEAST_BANK:
        return size
    steps = math.floor(2.0 * math.log2(size / LEAST_BANK))
    # Steps of a factor of 1.41: the noise of a timing rarely crosses one, so a repeated training gets the
    # same bank.
    return int(LEAST_BANK * 2.0 ** (steps / 2.0))


def _at_least(size: int, budget: str, advice: str) -> int:
    if size < LEAST_BANK:
        raise DataError(
            f"patchcore: {budget} has room for {size} bank patches, but at least {LEAST_BANK} are needed. "
            f"{advice}"
        )
    return size
