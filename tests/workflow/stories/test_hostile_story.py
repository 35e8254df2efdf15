"""The hostile corpus through check, train-all, ensemble and score, as users call them, under a watchdog."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from tests.export.scoring.containers import noise_files, tar_bytes
from tests.hostile import FORMATS, encode
from tests.hostile_corpus import Corpus, cut_jpeg, mutated, odd_files, photo, write_corpus
from tests.pages import Page

ROOT = Path(__file__).parents[3]
WATCHDOG_S = 300
"""A command that takes longer hangs; the slowest here takes seconds."""

REFUSED = {"unreadable", "empty", "not_an_image", "truncated", "broken", "bomb", "too_small"}

MEMORY_GROWTH_MB = 40
"""Most that 1,500 hostile files may add to what a few good ones take; they would fill ten times as much."""

RECIPE = """\
name: tiny
folds: 3
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  knn: {}
  cnn: {max_iterations: 20}
"""

# Kind of refusal → how its sentence begins, in the manifest and in the rows of a score.
SAID = {
    "unreadable": ("cannot be read: ", "not a regular file."),
    "empty": ("file is empty (0 bytes).",),
    "not_an_image": ("not an image that Pillow can identify.",),
    "truncated": ("broken image (", "truncated JPEG: "),
    "broken": ("broken image (",),
    "bomb": ("header claims ",),
    "too_small": ("image is ",),
}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str
    peak_mb: float

    @cached_property
    def json(self) -> Any:
        return json.loads(self.out)


def as_user(folder: Path, *arguments: object) -> Done:
    """Run a command as a process of its own; whatever hangs is killed and fails."""
    with (folder / "out").open("w+b") as out, (folder / "err").open("w+b") as err:
        process = subprocess.Popen(
            [sys.executable, ROOT / "cli.py", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        )  # fmt: skip
        watchdog = threading.Timer(WATCHDOG_S, lambda: os.killpg(process.pid, signal.SIGKILL))
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        watchdog.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for handle in (out, err):
            handle.seek(0)
            texts.append(handle.read().decode("utf-8", "surrogateescape"))
    assert process.returncode >= 0, f"{arguments[0]} was ended by signal {-process.returncode}"
    assert "Traceback" not in texts[1], texts[1]
    return Done(process.returncode, *texts, usage.ru_maxrss / 1024)


def add_fuzzed_and_cut(corpus: Corpus) -> dict[str, str]:
    """More hostile files; returns path → the rule that must refuse it, of those that are cut for certain."""
    sound = corpus.folder / "train" / "sound"
    for number in range(48):
        file_format = FORMATS[number % len(FORMATS)]
        content = mutated(encode(photo(number % 5, 24), file_format), number)
        place = sound if number % 3 else corpus.folder / "test" / "sound"
        (place / f"fuzzed_{number:02d}.{file_format.lower()}").write_bytes(content)
    cut = {}
    for place in ("train/sound", "train/cracked", "test/cracked"):
        for name, content in {
            "end_put_back.jpg": cut_jpeg(),
            "end_put_back_progressive.jpg": cut_jpeg(progressive=True),
            "half_again.png": encode(photo(77), "PNG")[:4000],
        }.items():
            (corpus.folder / place / name).write_bytes(content)
            cut[f"{place}/{name}"] = "truncated"
    return cut


@dataclass(frozen=True)
class Story:
    """Everything that was run, and where."""

    corpus: Corpus
    rule_of: dict[str, str]
    folder: Path
    check: Done
    train: Done
    ensemble: Done
    score: Done
    clean: Done

    @cached_property
    def run(self) -> Path:
        return Path(self.train.json["folder"])

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        return {row["path"]: row for row in pq.read_table(self.run / "manifest.parquet").to_pylist()}

    def rows(self, name: str, below: Path) -> dict[str, dict[str, Any]]:
        rows = pads.dataset(self.folder / name).to_table().to_pylist()
        return {row["path"].removeprefix(f"{below}/"): row for row in rows}

    @cached_property
    def scored(self) -> dict[str, dict[str, Any]]:
        return self.rows("scores", self.corpus.folder)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    corpus = write_corpus(folder / "castings", good=21)
    rule_of = corpus.rule_of | add_fuzzed_and_cut(corpus)
    clean = folder / "clean"
    for path in corpus.good:
        (clean / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus.folder / path, clean / path)
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    members = {"good.png": encode(photo(90), "PNG"), "../../up.png": encode(photo(91), "PNG"), "l": link}
    (folder / "shard.tar").write_bytes(tar_bytes(members))
    (folder / "cut.tar").write_bytes(tar_bytes(noise_files(3))[:2000])
    (folder / "tiny.yaml").write_text(RECIPE)
    options = ("--runs", folder / "runs", "--minority", "cracked", "--json")
    trained = (*options, "--recipe", folder / "tiny.yaml", "--no-tracking")
    check = as_user(folder, "check", corpus.folder, *options)
    train = as_user(folder, "train-all", corpus.folder, *trained)
    ensemble = as_user(folder, "ensemble", corpus.folder, *trained)
    model = ensemble.json["model"]
    more = ("--csv", folder / "scores.csv", "--review", 5, "--json")
    inputs = (corpus.folder, folder / "shard.tar", folder / "cut.tar")
    score = as_user(folder, "score", model, *inputs, "--output", folder / "scores", *more)
    clean_scores = as_user(folder, "score", model, clean, "--output", folder / "clean_scores", "--json")
    return Story(corpus, rule_of, folder, check, train, ensemble, score, clean_scores)


def test_no_command_crashes_or_hangs_and_each_ends_with_its_code(story: Story) -> None:
    codes = [each.code for each in (story.check, story.train, story.ensemble, story.score, story.clean)]
    assert codes == [3, 0, 0, 4, 0]


def test_check_train_all_and_score_refuse_the_same_files(story: Story) -> None:
    found = {each["path"]: each for each in story.check.json["findings"] if each["rule"] in REFUSED}
    broken = {path: row["reason"] for path, row in story.manifest.items() if row["status"] == "broken"}
    failed = {path: row["error"] for path, row in story.scored.items() if row["status"] == "failed"}
    failed = {path: reason for path, reason in failed.items() if ".tar" not in path}
    assert {path: each["sentence"] for path, each in found.items()} == broken
    assert broken == failed
    assert set(story.manifest) == {path for path in story.scored if ".tar" not in path}
    assert (
        story.check.json["refused_files"] == len(broken) == story.check.json["training"]["status"]["broken"]
    )


def test_nothing_truncated_or_broken_is_accepted_and_each_has_a_reason_of_its_kind(story: Story) -> None:
    refused = {path: rule for path, rule in story.rule_of.items() if rule in REFUSED}
    assert sum(rule == "truncated" for rule in refused.values()) >= 15
    kind_of = {each["path"]: each["rule"] for each in story.check.json["findings"]}
    oof = set(pq.read_table(story.run / "oof.parquet")["path"].to_pylist())
    test_table = set(pq.read_table(story.run / "test.parquet")["path"].to_pylist())
    for path, rule in refused.items():
        assert kind_of[path] == rule
        assert story.manifest[path]["status"] == "broken"
        assert story.manifest[path]["reason"].startswith(SAID[rule])
        assert path not in oof | test_table
        row = story.scored[path]
        assert (row["status"], row["probability"], row["decision"]) == ("failed", None, None)
        assert row["error"].startswith(SAID[rule])
    trained_on = {
        path for path, row in story.manifest.items() if (row["status"], row["split"]) == ("ok", "train")
    }
    assert trained_on == oof
    assert f"Broken images, left out: {len(refused) + n_fuzzed_refused(story)};" in story.train.err
    assert "manifest.parquet" in story.train.err


def n_fuzzed_refused(story: Story) -> int:
    return sum("fuzzed" in path and row["status"] == "broken" for path, row in story.manifest.items())


def test_members_of_hostile_archives_are_rows_with_reasons(story: Story) -> None:
    rows = {path.split("tar", 1)[1]: row for path, row in story.scored.items() if "shard.tar" in path}
    assert rows["::good.png"]["status"] == "ok"
    assert "leads out of its archive" in rows["::../../up.png"]["error"]
    assert "links within archives are not followed" in rows["::link.png"]["error"]
    cut = [row for path, row in story.scored.items() if path.endswith("cut.tar")]
    assert "no end mark" in cut[0]["error"] or "ends" in cut[0]["error"]


def test_good_neighbours_are_scored_as_among_themselves(story: Story) -> None:
    clean = story.rows("clean_scores", story.folder / "clean")
    assert set(clean) == story.corpus.good
    for path, row in clean.items():
        assert row["status"] == "ok"
        assert story.scored[path]["probability"] == pytest.approx(row["probability"], abs=1e-6)
        assert story.scored[path]["decision"] == row["decision"]
        assert story.manifest[path]["status"] in {"ok", "excluded"}


def test_hostile_names_reach_no_terminal_page_or_spreadsheet_as_they_are(story: Story) -> None:
    for done in (story.check, story.train, story.ensemble, story.score):
        for raw in ("\x1b", "\x07", "\u202e", "\u200b"):
            assert raw not in done.err
            assert raw not in done.out
    text = Path(story.check.json["page"]).read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert all(tag != "script" for tag, _ in Page(text).tags)
    for name in ("scores.csv", "scores/_review.csv"):
        with (story.folder / name).open(newline="", encoding="utf-8") as handle:
            lines = list(csv.DictReader(handle))
        assert lines
        assert not any(line["path"].startswith(("=", "+", "-", "@", "\t", "\r")) for line in lines)
    with (story.folder / "scores.csv").open(newline="", encoding="utf-8") as handle:
        assert {line["path"] for line in csv.DictReader(handle)} == {
            row["path"] for row in story.scored.values()
        }


def test_memory_of_score_does_not_grow_with_the_number_of_hostile_files(story: Story, tmp_path: Path) -> None:
    sources = [encode(photo(seed, 48), file_format) for seed in range(3) for file_format in FORMATS]
    sources += [content for content, rule in odd_files().values() if rule in REFUSED - {"empty"}]
    (tmp_path / "many").mkdir()
    for number in range(1500):
        content = mutated(sources[number % len(sources)], number)
        (tmp_path / "many" / f"{number:04d}.png").write_bytes(content)
    model = story.ensemble.json["model"]
    done = as_user(tmp_path, "score", model, tmp_path / "many", "--output", tmp_path / "scores", "--json")
    assert done.code == 4
    assert done.json["images"] == 1500
    assert done.json["failed"] > 500
    assert done.peak_mb - story.clean.peak_mb < MEMORY_GROWTH_MB
