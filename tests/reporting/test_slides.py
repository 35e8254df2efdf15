"""Slides from patches: everything in its place, errors marked, broken patches crossed out."""

import numpy as np
import pytest

from reporting.slides import Patch, Slide, colour_of, png_bytes

COLOURS = np.array([[200, 180, 190], [120, 90, 160], [60, 140, 60], [240, 240, 200]], dtype=np.uint8)


def flat(colour: np.ndarray, height: int = 50, width: int = 50) -> np.ndarray:
    return np.broadcast_to(colour, (height, width, 3)).copy()


def patches(**of_last: object) -> list[Patch]:
    """Two by two; the last is of the minority class."""
    places = [(1001, 2001), (1051, 2001), (1001, 2051)]
    return [
        *(Patch(x, y, 50, 50, is_minority=False) for x, y in places),
        Patch(1051, 2051, 50, 50, is_minority=True, **of_last),
    ]


def made(all_patches: list[Patch], longest: int = 100) -> Slide:
    slide = Slide(all_patches, longest)
    for patch, colour in zip(all_patches, COLOURS, strict=True):
        slide.paste(patch, flat(colour))
    return slide


def test_patches_lie_at_their_coordinates():
    picture = np.asarray(made(patches()).labels())
    assert picture.shape == (100, 100, 3)
    np.testing.assert_array_equal(picture[10, 10], COLOURS[0])
    np.testing.assert_array_equal(picture[10, 90], COLOURS[1])
    np.testing.assert_array_equal(picture[90, 10], COLOURS[2])
    inside = picture[75, 75].astype(int)  # tinted, neither its own colour nor the outline's
    assert (inside != COLOURS[3]).any()
    np.testing.assert_array_equal(picture[50, 75], (0, 0, 0))
    np.testing.assert_array_equal(picture[51, 75], (240, 228, 66))
    assert (picture[:50, :50] == COLOURS[0]).all()  # nothing of the overlay beyond the minority


@pytest.mark.parametrize("longest", [37, 61, 250, 1000])
def test_no_seams_at_any_scale(longest):
    many = [Patch(50 * i, 50 * j, 50, 50, False) for i in range(7) for j in range(5)]
    slide = Slide(many, longest)
    for patch in many:
        slide.paste(patch, flat(np.array([10, 20, 30], dtype=np.uint8)))
    picture = np.asarray(slide.labels())
    assert (picture == [10, 20, 30]).all()
    assert max(picture.shape) <= longest


def test_border_patches_and_gaps():
    slide = Slide([Patch(0, 0, 50, 50, False), Patch(100, 0, 50, 31, False)], 150)
    slide.paste(Patch(0, 0, 50, 50, False), flat(COLOURS[0]))
    slide.paste(Patch(100, 0, 50, 31, False), flat(COLOURS[1], 31))
    picture = np.asarray(slide.labels())
    assert (picture[:, 50:100] == 255).all()
    assert (picture[:31, 100:] == COLOURS[1]).all()
    assert (picture[31:, 100:] == 255).all()


def test_broken_patch_is_crossed_out():
    slide = Slide(patches(), 100)
    slide.paste(patches()[0], None)
    picture = np.asarray(slide.labels())
    np.testing.assert_array_equal(picture[5, 25], (208, 208, 208))
    np.testing.assert_array_equal(picture[25, 25], (150, 150, 150))


def test_probabilities_colour_the_grey_slide():
    low, high = (
        np.asarray(made(patches(probability=p, is_flagged=True)).probabilities()) for p in (0.02, 0.98)
    )
    assert low[75, 75].mean() > high[75, 75].mean() + 60  # pale to dark, whatever the eyes
    grey = high[10, 10]
    assert grey[0] == grey[1] == grey[2]  # the model said nothing of it
    assert high.shape[0] > 100  # a legend stands below
    assert colour_of(0.0).mean() > colour_of(0.5).mean() > colour_of(1.0).mean()


def test_errors_are_marked_by_shape():
    fine = np.asarray(made(patches(probability=0.5, is_flagged=True)).probabilities())
    missed = np.asarray(made(patches(probability=0.5, is_flagged=False)).probabilities())
    changed = (fine[:100] != missed[:100]).any(axis=2)
    assert changed[50:, 50:].any()
    assert not changed[:50].any()
    assert not changed[73:76, 73:76].any()  # a ring is open in its middle
    alarm = patches()
    alarm[0] = Patch(1001, 2001, 50, 50, False, 0.5, True)
    calm = patches()
    calm[0] = Patch(1001, 2001, 50, 50, False, 0.5, False)
    crossed = (
        np.asarray(made(alarm).probabilities())[:100] != np.asarray(made(calm).probabilities())[:100]
    ).any(axis=2)
    assert crossed[24:26, 24:26].all()  # a cross is not
    assert not crossed[50:].any()


def test_same_slide_same_bytes():
    assert png_bytes(made(patches()).labels()) == png_bytes(made(patches()).labels())
