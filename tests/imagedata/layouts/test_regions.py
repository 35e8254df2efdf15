"""Images by their masks: what is shown, what is refused, and that rows are those of the unmasked set."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError
from imagedata.layouts.regions import show_regions
from tests.conftest import run_command
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunOptions, resolve_config

SET = "covid/COVID-19_Radiography_Dataset"
SMALL = ("test_per_class=4", "imbalance=null")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_set(folder: Path, count: int = 12) -> Path:
    """X-rays of 20x20 whose masks are 10x10 and show the left half."""
    mask = np.zeros((10, 10))
    mask[:, :5] = 255
    for name in ("Normal", "COVID"):
        for place in ("images", "masks"):
            (folder / SET / name / place).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            rng = np.random.default_rng([n, len(name)])
            file = f"{name}-{n}.png"
            (folder / SET / name / "images" / file).write_bytes(png(rng.integers(1, 255, (20, 20))))
            (folder / SET / name / "masks" / file).write_bytes(png(mask))
    return folder


def manifest(name: str, folder: Path):
    options = RunOptions(name, data=folder, runs=folder / "runs", overrides=SMALL)
    return manifest_of(resolve_config(options))


def test_dark_parts_of_the_mask_are_black_and_the_rest_is_untouched():
    rng = np.random.default_rng(0)
    pixels, mask = rng.integers(1, 255, (20, 30)), np.zeros((10, 15))
    mask[2:7, 3:9] = 200
    shown = np.asarray(Image.open(io.BytesIO(show_regions(png(pixels), png(mask), None))))
    for y in range(20):
        for x in range(30):
            assert shown[y, x] == (pixels[y, x] if mask[y // 2, x // 2] >= 128 else 0)


def test_colours_stay():
    pixels = np.random.default_rng(0).integers(1, 255, (12, 12, 3))
    data = show_regions(png(pixels), png(np.full((12, 12), 255)), None)
    assert (np.asarray(Image.open(io.BytesIO(data))) == pixels).all()


def test_a_mask_that_shows_nothing():
    with pytest.raises(ImageError, match="its mask shows nothing of it"):
        show_regions(png(np.full((9, 9), 9)), png(np.zeros((9, 9))), None)


def test_rows_are_those_of_the_unmasked_set(tmp_path):
    write_set(tmp_path)
    plain, masked = manifest("covid", tmp_path), manifest("covid_masked", tmp_path)
    facts = [[(r.path, r.label, r.split, r.group, r.status) for r in m.rows] for m in (plain, masked)]
    assert facts[0] == facts[1]
    assert not {row.sha256 for row in plain.rows} & {row.sha256 for row in masked.rows}
    for row in masked.usable("train"):
        assert not np.asarray(Image.open(masked.root / row.path))[:, 10:].any()
    assert masked.root.is_relative_to(tmp_path / "runs" / "masked")


def test_masked_files_are_made_once_and_mended(tmp_path):
    write_set(tmp_path)
    first = manifest("covid_masked", tmp_path)
    paths = [first.root / row.path for row in first.usable("train")]
    paths[0].write_bytes(b"torn")
    times = [path.stat().st_mtime_ns for path in paths]
    assert manifest("covid_masked", tmp_path) == first
    again = [path.stat().st_mtime_ns for path in paths]
    assert again[1:] == times[1:]
    assert paths[0].read_bytes() != b"torn"


def test_image_with_a_broken_or_missing_mask_stays_out(tmp_path):
    write_set(tmp_path)
    (tmp_path / SET / "Normal/masks/Normal-0.png").unlink()
    (tmp_path / SET / "Normal/masks/Normal-1.png").write_bytes(b"no image")
    broken = {r.path: r.reason for r in manifest("covid_masked", tmp_path).rows if r.status == "broken"}
    assert broken == {
        f"COVID-19_Radiography_Dataset/Normal/images/Normal-{n}.png": broken.get(
            f"COVID-19_Radiography_Dataset/Normal/images/Normal-{n}.png"
        )
        for n in (0, 1)
    }
    assert "it has no mask" in " ".join(broken.values())
    assert "not an image" in " ".join(broken.values())


def test_without_masks_the_tree_is_said(tmp_path):
    (write_set(tmp_path) / SET / "Normal" / "masks").rename(tmp_path / "elsewhere")
    outcome = run_command("train-all", "covid_masked", "--data", tmp_path, "--runs", tmp_path / "runs")
    assert outcome.code == 3
    assert "lacks COVID-19_Radiography_Dataset/Normal/masks" in outcome.said
