"""Lay one picture over another: a small affine warp, found coarse to fine.

A copy may have been cropped by a few pixels, rotated by a degree or two, or stretched to another shape, and
none of that makes it another exposure. So before two pictures are compared, the second is warped onto the
first by Gauss-Newton steps on the six parameters of an affine map, with gain and offset of the grey values as
unknowns beside them (Lucas & Kanade 1981; coarse to fine as in Bergen et al. 1992).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float32]
Warp = npt.NDArray[np.float64]

IDENTITY: Warp = np.zeros(6)
"""The warp that changes nothing: scale, shear and shift, each as a difference from the identity."""

_COARSEST, _FINEST = 32, 128  # a twentieth of a pixel there is a tenth at 256, which detail survives
_STEPS = {63: 10, 127: 6}  # most Gauss-Newton steps at a side of up to so many pixels
_FEWEST_STEPS = 4
_POINTS = 64  # along a side that are looked at; more of them cost time and settle nothing
_LARGEST_STEP = 0.05  # of the side, per step: farther than that the linearisation means nothing
_CONVERGED = 2e-4  # of the side: a twentieth of a pixel at 256
_DAMPING = 1e-3
_LARGEST_WARP = 0.15
"""Scale, shear or shift, as a share of the side, beyond which two pictures are not laid over each other."""


def warped(picture: Picture, warp: Warp) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """The picture as seen through a warp, and where it has pixels at all.

    Args:
        picture: ``[s, s]`` grey values.
        warp: ``[6]``, in units of the side and about the centre.

    Returns:
        ``[s, s]`` grey values, and ``[s, s]`` True where the warp points inside the picture.
    """
    from scipy.ndimage import map_coordinates

    side = picture.shape[0]
    if not warp.any():
        return picture, np.ones(picture.shape, dtype=np.bool_)
    centre = (side - 1) / 2
    u, v = _coordinates(side)
    x = ((1 + warp[0]) * u + warp[1] * v + warp[2]) * side + centre
    y = (warp[3] * u + (1 + warp[4]) * v + warp[5]) * side + centre
    is_inside = (x >= 0) & (x <= side - 1) & (y >= 0) & (y <= side - 1)
    # Cubic, because linear interpolation would blur the very detail that is compared afterwards.
    values = map_coordinates(picture, [y, x], order=3, mode="nearest")
    return values.astype(np.float32), is_inside


def halved(picture: Picture) -> Picture:
    """Means of squares of 2 x 2 pixels; an odd last row or column falls away."""
    side = picture.shape[0] // 2
    cut = picture[: 2 * side, : 2 * side]
    means: Picture = cut.reshape(side, 2, side, 2).mean(axis=(1, 3), dtype=np.float32)
    return means


def register(fixed: Picture, moving: Picture) -> Warp | None:
    """The warp that lays ``moving`` over ``fixed``; None where no small one does.

    Args:
        fixed: ``[s, s]`` grey values.
        moving: ``[s, s]`` grey values.
    """
    while fixed.shape[0] >= 2 * _FINEST:
        fixed, moving = halved(fixed), halved(moving)
    pyramid = [(fixed, moving)]
    while pyramid[-1][0].shape[0] >= 2 * _COARSEST:
        pyramid.append((halved(pyramid[-1][0]), halved(pyramid[-1][1])))
    warp = IDENTITY.copy()
    for one, other in reversed(pyramid):
        found = _refined(one, other, warp)
        if found is None:
            return None
        warp = found
    return warp


def _refined(fixed: Picture, moving: Picture, warp: Warp) -> Warp | None:
    """A warp after Gauss-Newton steps at one side of the pyramid; None where it leaves what is small."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    side = fixed.shape[0]
    steps = next((count for limit, count in _STEPS.items() if side <= limit), _FEWEST_STEPS)
    one, other = gaussian_filter(fixed, 1.0), gaussian_filter(moving, 1.0)
    slope_y, slope_x = (slope * side for slope in np.gradient(other))
    stride = max(1, side // _POINTS)
    one = one[::stride, ::stride]
    u, v = (each[::stride, ::stride] for each in _coordinates(side))
    centre = (side - 1) / 2
    for _ in range(steps):
        x = ((1 + warp[0]) * u + warp[1] * v + warp[2]) * side + centre
        y = (warp[3] * u + (1 + warp[4]) * v + warp[5]) * side + centre
        is_inside = (x >= 0) & (x <= side - 1) & (y >= 0) & (y <= side - 1)
        at = [y[is_inside], x[is_inside]]
        if len(at[0]) < is_inside.size // 2:
            return None
        seen, gx, gy = (
            map_coordinates(each, at, order=1, mode="nearest") for each in (other, slope_x, slope_y)
        )
        mine, p, q = one[is_inside], u[is_inside], v[is_inside]
        centred = seen - seen.mean()
        gain = float(centred @ (mine - mine.mean())) / max(float(centred @ centred), 1e-6)
        if gain <= 0:
            return None
        jacobian = np.stack([gx * p, gx * q, gx, gy * p, gy * q, gy], axis=1) * gain
        # Gain and offset are unknowns beside the warp, so that brightness does not pass for a shift.
        design = np.concatenate([jacobian, seen[:, None], np.ones((len(seen), 1))], axis=1).astype(np.float64)
        offset = mine.mean() - gain * seen.mean()
        normal = design.T @ design
        normal[np.arange(6), np.arange(6)] += _DAMPING * len(seen)
        normal[7, 7] += 1e-6
        right = design.T @ (mine - gain * seen - offset).astype(np.float64)
        step = np.linalg.lstsq(normal, right, rcond=None)[0][:6]
        warp = warp + np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(warp).max() > _LARGEST_WARP:
            return None
        if np.abs(step).max() < _CONVERGED:
            break
    return warp


def _coordinates(side: int) -> tuple[Picture, Picture]:
    """``[s, s]`` columns and rows about the centre, in units of the side."""
    steps = ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)
    u, v = np.meshgrid(steps, steps)
    return u, v
