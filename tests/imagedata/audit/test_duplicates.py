"""Copies: equal bytes, near pictures, the borders they cross; hashes against a slow, obvious search."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.near_copies import dated, frames
from contracts.errors import ImageError
from imagedata.audit import duplicates as module
from imagedata.audit.duplicates import find_duplicates
from imagedata.audit.exposures import Pictures
from imagedata.audit.facts import look_at_bytes
from imagedata.audit.hashing import are_alike, near_pairs, perceptual_hashes
from imagedata.layouts.listed_image import ListedImage
from tests.hostile import encode
from tests.hostile_corpus import photo


def resaved(pixels: np.ndarray, side: int | None = None, quality: int = 75) -> bytes:
    image = Image.fromarray(pixels)
    if side:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    return encode(image, "JPEG", quality=quality)


def listed(*rows: tuple[str, str, str]) -> list[ListedImage]:
    return [ListedImage(path, label, split) for path, label, split in rows]


def found_in(images: list[ListedImage], contents: list[bytes], groups=None):
    facts = [look_at_bytes(content) for content in contents]
    return find_duplicates(images, facts, Pictures(lambda position: contents[position]), groups)


def test_near_pairs_are_those_of_comparing_all_with_all():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 40, dtype=np.uint64)
    near = [h ^ np.uint64(sum(1 << int(b) for b in rng.choice(64, k, replace=False)))
            for h, k in zip(hashes, np.arange(40) % 9, strict=True)]  # fmt: skip
    everything = np.concatenate([hashes, np.array(near, dtype=np.uint64), hashes[:3]])
    slow = {
        (i, j)
        for i in range(len(everything))
        for j in range(i + 1, len(everything))
        if (int(everything[i]) ^ int(everything[j])).bit_count() <= 8
    }
    found = [tuple(pair) for block in near_pairs(everything) for pair in block.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == slow
    assert len(slow) > 25
    assert list(near_pairs(everything[:0])) == []


def test_large_buckets_are_compared_in_squares(monkeypatch):
    from imagedata.audit import hashing

    monkeypatch.setattr(hashing, "_COMPARED_AT_ONCE", 3)
    found = {tuple(pair) for block in near_pairs(np.zeros(11, np.uint64)) for pair in block.tolist()}
    assert found == {(i, j) for i in range(11) for j in range(i + 1, 11)}


@pytest.mark.parametrize(
    "changes", [{"quality": 50}, {"side": 48}, {"side": 150}, {"quality": 30, "side": 96}]
)
def test_resaved_and_resized_copies_are_found(changes):
    contents = [encode(photo(seed), "PNG") for seed in range(30)] + [resaved(photo(3), **changes)]
    images = listed(*((f"{i}.png", "a", "train") for i in range(31)))
    found = found_in(images, contents)
    assert [each.members for each in found.of("perceptual")] == [(3, 30)]
    assert found.of("exact") == []
    assert found.is_complete


def test_pictures_that_are_alike_by_nature_are_no_copies_but_a_resaved_one_is():
    """Solar cells: the same lines everywhere, faint differences in between."""
    rng = np.random.default_rng(0)
    lines = np.zeros((64, 64))
    lines[::8] = 90
    lines[:, ::16] += 60
    cells = [np.clip(lines + 60 + rng.normal(0, 8, lines.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    contents = [encode(cell, "PNG") for cell in cells] + [encode(cells[7], "JPEG", quality=95)]
    images = listed(*((f"{i}.png", "a", "train") for i in range(41)))
    found = found_in(images, contents)
    assert [each.members for each in found.of("perceptual")] == [(7, 40)]


def test_outlines_of_tiny_pictures_are_no_copies_but_a_resaved_one_is():
    """Trousers of 28 pixels: one outline, and cloth that differs a little."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(28), np.arange(28))
    pictures = []
    for _ in range(30):
        outline = (np.abs(x - 14) < rng.uniform(4, 9)) & (np.abs(y - 14) < rng.uniform(6, 13))
        cloth = rng.uniform(90, 220) + rng.normal(0, 30, (28, 28))
        pictures.append(np.where(outline, cloth, 0).clip(0, 255).astype(np.uint8))
    contents = [encode(picture, "PNG") for picture in pictures]
    contents.append(encode(pictures[5], "JPEG", quality=90))
    images = listed(*((f"{i}.png", "a", "train") for i in range(31)))
    found = found_in(images, contents)
    assert [each.members for each in found.of("perceptual")] == [(5, 30)]


def test_a_set_is_alike_where_its_detail_is():
    stripes = np.tile(np.where(np.arange(32) % 4 < 2, 50, 200).astype(np.uint8), (32, 1))
    assert are_alike(np.stack([stripes] * 5))
    assert not are_alike(np.stack([stripes] * 1))
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
    assert not are_alike(noise)


@pytest.mark.parametrize("kind", ["cropped", "rotated", "mirrored", "brighter", "dated"])
def test_copies_that_were_edited_a_little_are_found(kind):
    """Cropped by 4 %, rotated by a degree, mirrored, brighter, with a small text."""
    original = Image.fromarray(photo(3, 160))
    changed = {
        "cropped": lambda: original.crop((2, 4, 156, 158)),
        "rotated": lambda: original.rotate(1, Image.Resampling.BICUBIC),
        "mirrored": lambda: original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "brighter": lambda: original.point(lambda value: min(255, int(value * 1.1 + 6))),
        "dated": lambda: dated(original),
    }[kind]()
    contents = [encode(photo(seed, 160), "PNG") for seed in range(12)]
    contents.append(encode(np.asarray(changed), "JPEG", quality=85))
    images = listed(*((f"{i}.png", "a", "train") for i in range(13)))
    assert [each.members for each in found_in(images, contents).of("perceptual")] == [(3, 12)]


def test_exposures_of_one_aligned_part_are_no_copies():
    """Shape and light agree, structure and noise do not: 59 of 124 aligned screws were called copies once."""
    rng = np.random.default_rng(0)
    shots = frames(20, rng)
    contents = [encode(shot, "PNG") for shot in shots]
    contents.append(encode(shots[4], "JPEG", quality=75))
    smaller = Image.fromarray(shots[9]).resize((128, 128), Image.Resampling.LANCZOS)
    contents.append(encode(np.asarray(smaller), "PNG"))
    images = listed(*((f"{i}.png", "ab"[i % 2], "train") for i in range(22)))
    found = found_in(images, contents)
    assert [each.members for each in found.of("perceptual")] == [(4, 20), (9, 21)]
    assert found.compared >= 20


def test_flat_pictures_are_equal_only_by_their_bytes():
    contents = [encode(np.full((40, 40, 3), level, np.uint8), "PNG") for level in (10, 11, 12, 10)]
    images = listed(*((f"{i}.png", "a", "train") for i in range(4)))
    found = found_in(images, contents)
    assert [(each.kind, each.members) for each in found.sets] == [("exact", (0, 3))]


def test_relations_say_which_borders_are_crossed_and_counts_say_none():
    a, b, c = (encode(photo(seed), "PNG") for seed in (1, 2, 3))
    near_b = resaved(photo(2), quality=60)
    contents = [a, a, a, b, near_b, c, b"broken", b"broken"]
    images = listed(
        ("p1/a.png", "x", "train"), ("p1/b.png", "x", "train"), ("p2/c.png", "x", "test"),
        ("p1/d.png", "x", "train"), ("p1/e.png", "y", "train"), ("p1/f.png", "x", "train"),
        ("p1/g.png", "x", "train"), ("p1/h.png", "x", "train"),
    )  # fmt: skip
    found = found_in(images, contents, [image.path.split("/")[0] for image in images])
    exact, near = found.sets
    assert exact.members == (0, 1, 2)
    assert exact.relations == {"within a class", "across splits", "across groups"}
    assert near.members == (3, 4)
    assert near.relations == {"across labels"}
    counts = found.counts()
    assert counts["exact"]["across splits"] == {"sets": 1, "files": 3}
    assert counts["exact"]["across labels"] == {"sets": 0, "files": 0}
    assert counts["perceptual"]["across labels"] == {"sets": 1, "files": 2}
    assert found_in(images, contents).of("exact", "across groups") == []


def test_too_many_near_pairs_are_said_not_hidden(monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 2)
    contents = [resaved(photo(1), quality=q) for q in (60, 70, 80, 90)]
    contents += [encode(photo(seed), "PNG") for seed in range(10, 30)]
    images = listed(*((f"{i}.png", "a", "train") for i in range(24)))
    found = found_in(images, contents)
    assert not found.is_complete


def test_a_hash_keeps_its_bits_when_the_picture_is_saved_again():
    hashes = perceptual_hashes(
        np.stack([np.frombuffer(look_at_bytes(c).thumbnail, np.uint8).reshape(32, 32)
                  for c in (encode(photo(5), "PNG"), resaved(photo(5), quality=85), encode(photo(6), "PNG"))])
    )[0]  # fmt: skip
    bits = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert bits[0, 1] <= 6
    assert bits[0, 2] > 16


def test_a_mirrored_hash_is_that_of_the_mirror_image():
    thumbnails = np.stack([np.frombuffer(look_at_bytes(encode(photo(seed), "PNG")).thumbnail, np.uint8)
                           for seed in range(5)]).reshape(-1, 32, 32)  # fmt: skip
    hashes, mirrored = perceptual_hashes(thumbnails)
    again, back = perceptual_hashes(np.ascontiguousarray(thumbnails[:, :, ::-1]))
    assert np.bitwise_count(mirrored ^ again).max() <= 1
    assert np.bitwise_count(hashes ^ back).max() <= 1


def test_a_picture_that_is_gone_is_no_copy():
    contents = [encode(photo(1), "PNG"), resaved(photo(1))]

    def read(position: int) -> bytes:
        raise ImageError("cannot be read: gone.", rule="unreadable")

    images = listed(("a.png", "a", "train"), ("b.jpg", "a", "train"))
    facts = [look_at_bytes(content) for content in contents]
    assert find_duplicates(images, facts, Pictures(read)).of("perceptual") == []
    assert len(found_in(images, contents).of("perceptual")) == 1
