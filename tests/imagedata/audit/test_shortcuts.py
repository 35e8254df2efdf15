"""Shortcuts: planted ones are found and named, honest sets have none, a group is never parted."""

import numpy as np
import pytest

from imagedata.audit.facts import look_at_bytes
from imagedata.audit.shortcuts import find_shortcuts, hanley_mcneil
from imagedata.layouts.listed_image import ListedImage
from tests.hostile import encode
from tests.hostile_corpus import photo


def collection(quality_of_odd: int = 75, n: int = 60, folder_of_odd: str = "odd", corner: int | None = None):
    images, facts = [], []
    for k in range(n):
        is_odd = k % 3 == 0
        pixels = photo(k, 32)
        if is_odd and corner is not None:
            pixels[:4, :4] = corner
        quality = quality_of_odd if is_odd else 75
        images.append(
            ListedImage(f"{'odd' if is_odd else 'fine'}/{k}.jpg", "odd" if is_odd else "fine", "train")
        )
        facts.append(look_at_bytes(encode(pixels, "JPEG", quality=quality)))
    return images, facts, [image.path for image in images]


def warned(images, facts, groups, minority="odd"):
    found, why = find_shortcuts(images, facts, groups, minority, seed=0)
    assert why == ""
    return {each.fact for each in found if each.is_warning}


def test_honest_pictures_have_no_shortcut():
    assert warned(*collection(n=150)) == set()


def test_another_jpeg_quality_is_named():
    assert {"compression"} == warned(*collection(quality_of_odd=40))


def test_a_mark_in_a_corner_is_named():
    assert {"corner pixels"} <= warned(*collection(corner=255))


def test_a_source_folder_is_named_and_class_folders_are_none():
    images, facts, groups = collection()
    rng = np.random.default_rng(0)
    moved = [
        ListedImage(
            f"{i.label}/{'clinic' if (i.label == 'odd') != (rng.random() < 0.1) else 'survey'}/{i.path[-6:]}",
            i.label,
            i.split,
        )
        for i in images
    ]
    assert "source folder" in warned(moved, facts, groups)
    found, _ = find_shortcuts(images, facts, groups, "odd", 0)
    assert "source folder" not in {each.fact for each in found}


def test_file_size_that_is_texture_is_no_shortcut():
    """Noise takes twice the bytes of a smooth surface, in PNG and in JPEG of one quality."""
    for name, settings in (("PNG", {}), ("JPEG", {"quality": 85})):
        images, facts, sizes = [], [], {True: [], False: []}
        rng = np.random.default_rng(0)
        for k in range(120):
            is_odd = k % 3 == 0
            pixels = np.clip(128 + rng.normal(0, 30 if is_odd else 4, (48, 48)), 0, 255).astype(np.uint8)
            content = encode(pixels, name, **settings)
            sizes[is_odd].append(len(content))
            label = "odd" if is_odd else "fine"
            images.append(ListedImage(f"{label}/{k}", label, "train"))
            facts.append(look_at_bytes(content))
        assert min(sizes[True]) > max(sizes[False])  # the old fact would be perfect
        found, _ = find_shortcuts(images, facts, [image.path for image in images], "odd", 0)
        assert [each.fact for each in found if each.severity == "invalid"] == []


def test_quality_of_a_format_without_tables_shows_in_its_size_beyond_content():
    images, facts = [], []
    for k in range(120):
        label = "odd" if k % 3 == 0 else "fine"
        quality = 30 if label == "odd" else 95
        images.append(ListedImage(f"{label}/{k}", label, "train"))
        facts.append(look_at_bytes(encode(photo(k, 64), "WEBP", quality=quality)))
    found, _ = find_shortcuts(images, facts, [image.path for image in images], "odd", 0)
    assert {each.fact: each.severity for each in found}["size beyond content"] == "invalid"


def test_metadata_of_few_files_is_proof_where_the_other_class_has_none():
    """As in a collection of X-rays: a seventh of one class went through a program that adds a profile."""
    images, facts = [], []
    for k in range(300):
        label = "odd" if k % 3 == 0 else "fine"
        settings = {"icc_profile": b"\0" * 128} if label == "odd" and k % 15 == 0 else {}
        images.append(ListedImage(f"{label}/{k}", label, "train"))
        facts.append(look_at_bytes(encode(photo(k, 32), "PNG", **settings)))
    found, _ = find_shortcuts(images, facts, [image.path for image in images], "odd", 0)
    metadata = next(each for each in found if each.fact == "metadata")
    assert metadata.auroc < 0.7
    assert metadata.severity == "invalid"
    assert metadata.shown == "a colour profile in 20 of 100 against 0 of 200"
    # The same profiles in one group are one event, and prove nothing.
    groups = ["shared" if facts[k].metadata[0] else image.path for k, image in enumerate(images)]
    found, _ = find_shortcuts(images, facts, groups, "odd", 0)
    assert next(each for each in found if each.fact == "metadata").severity == "fine"


def test_names_of_many_schemes_are_a_question_and_one_scheme_per_class_is_order():
    images, facts, groups = collection()
    found, _ = find_shortcuts(images, facts, groups, "odd", 0)
    assert "file names" not in {each.fact for each in found}
    shapes = ("scan {}", "img_{}-b", "{}.fig{}", "x{}y{}")
    renamed = [
        ListedImage(f"odd/{shapes[k // 3 % 4].format(k, k)}.jpg", "odd", "train") if i.label == "odd" else i
        for k, i in enumerate(images)
    ]
    found, _ = find_shortcuts(renamed, facts, groups, "odd", 0)
    assert {each.fact: each.severity for each in found}["file names"] == "warning"


def test_folders_of_kinds_of_defects_are_no_source():
    images, facts, groups = collection()
    kinds = ("bent", "scratched", "dented")
    below = [
        ListedImage(f"test/{kinds[k % 9 // 3] if i.label == 'odd' else 'good'}/{k}.jpg", i.label, "test")
        for k, i in enumerate(images)
    ]
    found, _ = find_shortcuts(below, facts, groups, "odd", 0)
    assert "source folder" not in {each.fact for each in found}


def test_groups_are_not_parted():
    """Ten patients, each of one label and of one file size: told within patients, not beyond them."""
    rng = np.random.default_rng(1)
    images, facts, groups = [], [], []
    for patient in range(24):
        width = int(rng.integers(20, 200))
        for k in range(4):
            label = "odd" if patient % 2 else "fine"
            images.append(ListedImage(f"{label}/{patient}_{k}.png", label, "train"))
            facts.append(look_at_bytes(encode(photo(patient * 10 + k, width), "PNG")))
            groups.append(str(patient))
    parted, _ = find_shortcuts(images, facts, [image.path for image in images], "odd", 0)
    whole, _ = find_shortcuts(images, facts, groups, "odd", 0)
    by_fact = [{each.fact: each.auroc for each in found} for found in (parted, whole)]
    assert by_fact[0]["dimensions"] > 0.8
    assert by_fact[1]["dimensions"] < 0.75


def test_too_few_to_tell_is_said():
    images, facts, groups = collection(n=15)
    found, why = find_shortcuts(images, facts, groups, "odd", 0)
    assert found == []
    assert why == "5 independent images of one side; below 10 no figure would mean anything."
    assert find_shortcuts([], [], [], "odd", 0)[0] == []


def test_same_seed_same_figures_and_large_sets_are_drawn_from(monkeypatch):
    from imagedata.audit import shortcuts

    images, facts, groups = collection(quality_of_odd=60)
    assert find_shortcuts(images, facts, groups, "odd", 3) == find_shortcuts(images, facts, groups, "odd", 3)
    monkeypatch.setattr(shortcuts, "_MOST_ROWS", 50)
    rows = shortcuts._drawn(images, facts, "odd", 0)
    assert len(rows) == 50
    assert sum(images[i].label == "odd" for i in rows) == 20


def test_standard_error_is_that_of_the_paper():
    # Hanley & McNeil's own figures: 0.893 with 51 abnormal and 58 normal images has 0.032.
    assert hanley_mcneil(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)
    assert hanley_mcneil(1.0, 10, 10) == 0.0
