"""``apply``: answers teach once each, some never train, and the new file is compared with the old one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.files import read_json
from service.answers import Answers
from service.applying import ApplyFolder
from service.records import now
from tests.conftest import TINY_RECIPE, Outcome, Run, run_command
from tests.pictures import picture, write_pictures

ROOT = Path(__file__).parents[3]


def answered(state: Path, count: int, answer: str, seed: int) -> list[str]:
    """Drop ``count`` new images into the store and answer each; their digests."""
    store = Answers(state / "answers.sqlite")
    rng = np.random.default_rng([seed, answer == "minority"])
    digests = []
    for number in range(count):
        file = state / f"{answer}-{seed}-{number}.png"
        Image.fromarray(picture(rng, odd=answer == "minority")).save(file)
        digest = store.keep(file.read_bytes(), name=file.name, source="dropped", when=now())
        file.unlink()
        store.add(
            digest, answer, "blotch" if answer == "minority" else None, who="Ada", when=now(), token=file.name
        )
        digests.append(digest)
    store.close()
    return digests


def apply(state: Path, run: Run, *more: object) -> Outcome:
    return run_command("apply", state, run.folder, "--json", *more)


@pytest.fixture(scope="module")
def applied(
    fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path, Outcome, list[str]]:
    """A labelled run with a test set, taught by twenty answers of twenty-two."""
    folder = tmp_path_factory.mktemp("applied")
    run, state = fitted[0].copy(folder), folder / "state"
    state.mkdir()
    digests = answered(state, 10, "normal", 1) + answered(state, 10, "minority", 1)
    answered(state, 1, "unsure", 2)
    answered(state, 1, "skip", 3)
    return run, state, apply(state, run, "--who", "Ada"), digests


def test_a_fifth_of_each_class_is_held_back_and_the_rest_teaches(applied):
    run, _, outcome, digests = applied
    assert outcome.code == 0, outcome.err
    assert outcome.json["answers"] == {"applied": 16, "corrected": 0, "held_back": 4, "refused": 0}
    held = read_json(run.folder / "held_back.json")["rows"]
    assert sorted(row["label"] for row in held) == ["fine", "fine", "odd", "odd"]
    assert {row["kind"] for row in held if row["label"] == "odd"} == {"blotch"}
    added = read_json(run.folder / "added.json")["rows"]
    assert {row["sha256"] for row in added} | {row["sha256"] for row in held} == set(digests)
    assert not {row["sha256"] for row in added} & {row["sha256"] for row in held}


def test_files_are_compared_on_what_never_trained(applied):
    _, _, outcome, _ = applied
    sets = {each["name"]: each["comparison"] for each in outcome.json["sets"]}
    assert set(sets) == {"held_back", "test_set"}
    assert sets["held_back"]["images"] == 4
    assert sets["test_set"]["images"] == 20
    for each in sets.values():
        assert (each["old"]["known"], each["new"]["known"]) == (0, 0)
        assert each["figures"]["errors"][0]["what"] == "misses"
    assert outcome.json["old"] != outcome.json["new"]


def test_the_file_in_use_stays_until_a_person_decides(applied):
    _, state, outcome, _ = applied
    versions = ApplyFolder(state).versions
    assert versions.read().in_use == outcome.json["old"]
    assert versions.use(outcome.json["new"], who="Ada").before == outcome.json["old"]
    assert versions.back(who="Ada").in_use == outcome.json["old"]


def test_the_page_can_read_how_it_ended(applied):
    _, state, outcome, _ = applied
    files = ApplyFolder(state)
    status = files.status()
    assert (status.state, status.job) == ("finished", 1)
    assert (
        status.sentence
        == "Of 20 answers, 16 taught the run, 4 are held back to judge files by, and 0 could not be used."
    )
    assert files.results() == [outcome.json]
    assert not files.plan.exists()


def test_nothing_is_applied_twice(applied):
    run, state, _, _ = applied
    before = (run.folder / "added.json").read_bytes()
    again = apply(state, run)
    assert again.code == 2
    assert "no answer waits" in again.said
    assert (run.folder / "added.json").read_bytes() == before


def test_answers_held_back_and_their_near_copies_are_refused_by_update(applied, tmp_path):
    run, _, _, _ = applied
    row = next(each for each in read_json(run.folder / "held_back.json")["rows"] if each["label"] == "fine")
    copy = tmp_path / "again" / "copy.png"
    copy.parent.mkdir()
    pixels = np.asarray(Image.open(run.folder / "held_back" / row["name"])).astype(int) + 2
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(copy)
    refused = run.command("update", "--normal", copy.parent)
    assert refused.code == 3
    assert "among the answers that are held back, which never trains" in refused.said


def test_what_cannot_be_applied_is_refused(applied, tmp_path):
    run, state, _, _ = applied
    assert apply(tmp_path, run).code == 2
    assert apply(state, run, "--hold-back", "0.9").code == 2
    assert run_command("apply", state, tmp_path).code == 5


def test_answers_about_test_images_are_refused_and_those_about_training_images_correct_labels(
    fitted, tmp_path
):
    run, state = fitted[0].copy(tmp_path), tmp_path / "state"
    store = Answers(state / "answers.sqlite")
    train = sorted((run.dataset / "train" / "odd").iterdir())[0]
    test = sorted((run.dataset / "test" / "odd").iterdir())[0]
    for file in (train, test):
        digest = store.keep(
            file.read_bytes(), name=file.name, source="watched", when=now(), place=file, stored=False
        )
        store.add(digest, "normal", who="Ada", when=now(), token=str(file))
    store.close()
    outcome = apply(state, run)
    assert outcome.code == 0, outcome.err
    assert outcome.json["answers"] == {"applied": 0, "corrected": 1, "held_back": 0, "refused": 1}
    assert "the same file as the test image" in outcome.json["refused"][0]["reason"]
    corrections = (run.runs / "corrections" / f"{run.dataset.name}.csv").read_text()
    assert f"{train.name},fine,odd" in corrections
    assert not (run.folder / "added.json").exists()


@pytest.fixture(scope="module")
def flat(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A flat folder that nobody labelled, with four hidden images of the minority, and its first ranking."""
    folder = tmp_path_factory.mktemp("flat")
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    write_pictures(folder / "parts", 30, odd=False, seed=0)
    write_pictures(folder / "parts", 4, odd=True, seed=3, start=500)
    run = Run(folder / "parts", folder / "tiny.yaml", folder / "runs")
    trained.give_traced_backbones(run.runs)
    for name in ("train-all", "ensemble"):
        outcome = run.command(name)
        assert outcome.code == 0, outcome.err
    return run


def test_a_flat_folder_without_labels_gets_its_first_model_with_labels(flat, tmp_path):
    state = tmp_path / "state"
    store = Answers(state / "answers.sqlite")
    files = sorted(flat.dataset.iterdir())
    chosen = [*files[:6], *files[-4:]]
    for file in chosen:
        digest = store.keep(
            file.read_bytes(), name=file.name, source="watched", when=now(), place=file, stored=False
        )
        store.add(
            digest, "minority" if file in files[-4:] else "normal", who="Ada", when=now(), token=file.name
        )
    store.close()
    outcome = apply(state, flat)
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["regime"] == "labelled"
    # Of six normal answers one is held back; of four minority ones none.
    assert document["answers"] == {"applied": 9, "corrected": 0, "held_back": 1, "refused": 0}
    folds = read_json(flat.folder / "folds.json")
    assert len(folds) == 33  # each image once, and the one that is held back not at all
    assert sum(path.startswith("added/") for path in folds) == 9
    versions = ApplyFolder(state).versions
    old, new = (versions.path_of(document[which]) for which in ("old", "new"))
    from export.scoring.model import load_model

    assert not load_model(old, at_first_run=True).has_probability
    assert load_model(new, at_first_run=True).has_probability
    versions.use(document["new"], who="Ada")

    # The next answers go on from there.
    answered(state, 2, "minority", 5)
    again = apply(state, flat)
    assert again.code == 0, again.err
    assert again.json["answers"]["applied"] + again.json["answers"]["held_back"] == 2
    assert again.json["old"] == document["new"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_hundred_answers_with_kills_between_are_each_used_once(fitted, tmp_path):
    run, state = fitted[0].copy(tmp_path), tmp_path / "state"
    state.mkdir()
    digests: list[str] = []
    chance = random.Random(7)

    def answer_on() -> None:
        for batch in range(20):
            digests.extend(
                answered(state, 3, "normal", 100 + batch) + answered(state, 2, "minority", 100 + batch)
            )
            time.sleep(chance.uniform(0.0, 2.0))

    people = threading.Thread(target=answer_on)
    people.start()
    command = [sys.executable, "cli.py", "apply", str(state), str(run.folder)]
    files = ApplyFolder(state)
    killed = finished = 0
    while people.is_alive() or files.plan.exists() or files.waiting(Answers(files.answers)):
        job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            # Some are killed before anything is taken, some within training, some within the comparison.
            job.communicate(timeout=chance.uniform(5.0, 60.0) if killed < 5 else 500.0)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.communicate()
            killed += 1
            assert files.status().state != "running"
            continue
        finished += job.returncode == 0
        assert job.returncode in {0, 2}, job.returncode  # 2: nothing waits at this moment
    people.join()
    assert killed >= 3
    assert finished >= 1
    entries = files.entries()
    assert sorted(each["image"] for each in entries) == sorted(digests)
    assert len({each["image"] for each in entries}) == 100
    outcome = {each["image"]: each["outcome"] for each in entries}
    added = [row["sha256"] for row in read_json(run.folder / "added.json")["rows"]]
    held = [row["sha256"] for row in read_json(run.folder / "held_back.json")["rows"]]
    assert sorted(added) == sorted(image for image in outcome if outcome[image] == "applied")
    assert sorted(held) == sorted(image for image in outcome if outcome[image] == "held_back")
    assert len(added) + len(held) == 100
    assert len(held) == 20
