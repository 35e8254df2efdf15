from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.files import write_json
from export.scoring.watch.reference import WatchReference
from tests.conftest import run_command
from tests.export.scoring.watch.made_up import batch_of, drawn, reference


def write_scores(
    folder: Path, kept: WatchReference, day: int, *, changed: bool = False, model: str = "a" * 64
) -> Path:
    """A folder as ``score`` leaves it, with 200 images of the made-up distributions."""
    random = np.random.default_rng(day)
    facts, score = drawn(random, 184, 16)
    facts[:, 1] -= 1.0 if changed else 0.0
    folder.mkdir(parents=True)
    p = 1.0 / (1.0 + np.exp(-np.linspace(-4, 2, 200)))
    paths = [f"day{day}/{number:03d}.png" for number in range(200)]
    table = pa.table({"path": paths, "probability": pa.array(p, pa.float32())})
    pq.write_table(table, folder / "part-0123456789abcdef.parquet")
    write_json(
        folder / "_watch.json",
        {
            "format": 1,
            "scored": f"2026-11-{day:02d}T08:00:00+00:00",
            "model": model,
            "reference": kept.to_json(),
            "counts": batch_of(kept, facts, score).to_json(),
            "known": 0,
            "prior": None,
            "watch": {},
        },
    )
    return folder


@pytest.fixture
def days(tmp_path: Path) -> Path:
    kept = reference()
    for day in (3, 1, 2):
        write_scores(tmp_path / "days" / f"d{day}", kept, day, changed=day == 3)
    return tmp_path / "days"


def test_days_in_the_order_of_time_with_the_one_that_changed(tmp_path: Path, days: Path) -> None:
    page = tmp_path / "page.html"
    ran = run_command("monitor", days, "--output", page, "--json")
    assert ran.code == 0
    document = json.loads(ran.out)
    assert [batch["scored"][8:10] for batch in document["batches"]] == ["01", "02", "03"]
    assert [batch["alarm"] for batch in document["batches"]] == [False, False, True]
    assert document["together"]["images"] == 600
    assert document["calibration"] is None
    assert "1 of 3 batches raise an alarm; without any change 0.03 or fewer are to be expected." in ran.said
    text = page.read_text()
    assert "1 of 3 batches raise an alarm" in text
    assert text.count("data:image/svg+xml") == 5  # the share, and four quantities
    assert "http://" not in text
    assert "https://" not in text


def test_the_same_page_twice(tmp_path: Path, days: Path) -> None:
    for name in ("a.html", "b.html"):
        run_command("monitor", days / "d1", days / "d2", "--output", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_answers_are_found_by_path_or_bring_their_probability(tmp_path: Path, days: Path) -> None:
    random = np.random.default_rng(0)
    p = 1.0 / (1.0 + np.exp(-np.linspace(-4, 2, 200)))
    labels = ["bad" if bad else "good" for bad in random.random(200) < p]
    by_path, direct = tmp_path / "paths.csv", tmp_path / "direct.csv"
    by_path.write_text(
        "path,label\n" + "".join(f"day1/{n:03d}.png,{label}\n" for n, label in enumerate(labels))
    )
    direct.write_text(
        "probability,label\n" + "".join(f"{x},{label}\n" for x, label in zip(p, labels, strict=True))
    )
    said = [
        run_command("monitor", days, "--answers", file, "--output", tmp_path / "p.html", "--json").json
        for file in (by_path, direct)
    ]
    first, second = (each["calibration"] for each in said)
    assert first["answers"] == 200
    assert first["alarm"] is False
    assert first["found"] == second["found"]
    np.testing.assert_allclose(first["more"], second["more"], atol=1e-4)
    all_bad = tmp_path / "bad.csv"
    all_bad.write_text("probability,label\n" + "0.2,bad\n" * 40)
    wrong = run_command("monitor", days, "--answers", all_bad, "--output", tmp_path / "p.html", "--json")
    assert wrong.json["calibration"]["alarm"] is True
    assert "Probabilities do not hold: 40 of 40 answered images" in wrong.said


@pytest.mark.parametrize(
    ("table", "code", "sentence"),
    [
        ("path,truth\na,bad\n", 2, "there is no column 'label'. It has path, truth."),
        (
            "path,label\nday1/000.png,odd\n",
            3,
            "label 'odd' is no class of the model. Its classes are good and",
        ),
        ("path,label\nnowhere.png,bad\n", 3, "1 of 1 paths are in no folder of scores, such as nowhere.png"),
        ("name,label\nnowhere.png,bad\n", 2, "there is neither a column 'probability' nor 'path'"),
        ("probability,label\n0.3,bad\n", 3, "1 answered images with a probability; 20 are needed."),
        ("probability,label\n" + "3,bad\n" * 20, 3, "a probability lies outside of 0 to 1."),
    ],
)
def test_answers_that_cannot_be_used(
    tmp_path: Path, days: Path, table: str, code: int, sentence: str
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text(table)
    ran = run_command("monitor", days, "--answers", file, "--output", tmp_path / "p.html")
    assert ran.code == code
    assert sentence in ran.said
    assert not (tmp_path / "p.html").exists()


def test_folders_that_cannot_be_compared(tmp_path: Path, days: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = run_command("monitor", empty, "--output", tmp_path / "p.html")
    assert ran.code == 2
    assert "is no folder of scores with a _watch.json, nor does it hold one" in ran.said
    other = write_scores(tmp_path / "other", reference(), 4, model="b" * 64)
    ran = run_command("monitor", days, other, "--output", tmp_path / "p.html")
    assert ran.code == 2
    assert "were scored by different model files" in ran.said
    (days / "d1" / "_watch.json").write_text("{")
    ran = run_command("monitor", days, "--output", tmp_path / "p.html")
    assert ran.code == 3
    assert "_watch.json is damaged" in ran.said
    ran = run_command("monitor", days / "d2", "--output", tmp_path)
    assert ran.code == 2
    assert "that is a folder. Name the file" in ran.said


def test_file_names_are_escaped(tmp_path: Path) -> None:
    folder = write_scores(tmp_path / "<b>day", reference(), 5)
    run_command("monitor", folder, "--output", tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert "<b>day" not in text
    assert "&lt;b&gt;day" in text
