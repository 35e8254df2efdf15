"""A tree of histology patches as the IDC set is laid out, cut from a real picture that scikit-image carries.

The picture is ``skimage.data.immunohistochemistry()`` (512 x 512, in the package itself): colon, in which
3,3'-diaminobenzidine stains FHL2 brown. A patient is a window of it, turned, mirrored and a little
differently stained; a patch counts as carcinoma by the rule of :func:`is_stained`, so that labels follow from
the pixels. Windows of one picture overlap: `check` rightly finds near copies across patients here, and
what a model scores on it says nothing of histology.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 50
STAINED_SHARE = 0.30
_REDDER_BY = 75


def is_stained(patch: np.ndarray) -> bool:
    """Whether 30 % of the pixels of ``[h, w, 3]`` are brown: redder than blue by 75 of 255 levels."""
    pixels = patch.astype(np.int64)
    return bool((pixels[:, :, 0] - pixels[:, :, 2] >= _REDDER_BY).mean() >= STAINED_SHARE)


def write_idc_tree(
    data: Path, patients: int = 24, columns: int = 6, rows: int = 5, seed: int = 0, with_faults: bool = True
) -> dict[str, list[str]]:
    """Write ``data/idc/<patient>/<class>/<patient>_idx5_x<X>_y<Y>_class<class>.png``.

    Args:
        data: the directory that ``--data`` names.
        patients: how many.
        columns: patches beside each other, of each patient.
        rows: patches below each other.
        seed: of windows, stains and faults.
        with_faults: every third patient gets a broken file, and every fourth a patch that is not 50 x 50, as
            at the border of a real slide.

    Returns:
        ``broken`` and ``cut``: paths relative to ``data/idc``.
    """
    from skimage import data as pictures

    picture = pictures.immunohistochemistry()
    rng = np.random.default_rng(seed)
    faults: dict[str, list[str]] = {"broken": [], "cut": []}
    for number in range(patients):
        patient = f"{10253 + 7 * number}"
        height, width = rows * SIDE, columns * SIDE
        window = picture if rng.random() < 0.5 else picture[::-1]
        window = np.rot90(window, int(rng.integers(4)))
        top, left = (int(rng.integers(512 - size)) for size in (height, width))
        stained = window[top : top + height, left : left + width].astype(np.float64)
        gain = rng.uniform(0.94, 1.06) * rng.uniform(0.985, 1.015, 3)
        slide = np.clip(np.rint(stained * gain), 0, 255).astype(np.uint8)
        x0, y0 = (int(rng.integers(2, 30)) * SIDE + 1 for _ in range(2))
        for row in range(rows):
            for column in range(columns):
                corner = row in {0, rows - 1} and column in {0, columns - 1}
                if corner and rng.random() < 0.5:
                    continue  # no tissue there
                patch = slide[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
                label = int(is_stained(patch))
                place = f"x{x0 + column * SIDE}_y{y0 + row * SIDE}"
                name = f"{patient}/{label}/{patient}_idx5_{place}_class{label}.png"
                is_inner = (row, column) == (1, 1)
                if with_faults and number % 4 == 1 and row == rows - 1:
                    patch = patch[:31]
                    faults["cut"].append(name)
                path = data / "idc" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(patch).save(path)
                if with_faults and number % 3 == 0 and is_inner:
                    whole = path.read_bytes()
                    path.write_bytes((whole[: len(whole) // 2], b"", b"no image\n" * 40)[number // 3 % 3])
                    faults["broken"].append(name)
    return faults
