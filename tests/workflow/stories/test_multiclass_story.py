"""Three classes from a pack through all commands: train, fuse, export, score, compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import yaml

from contracts.errors import UsageError
from ensemble.fitted import FittedEnsemble
from evaluation.metrics import metrics_for
from export.scoring import load_model
from tests.conftest import Outcome, Run, run_command
from tests.imagedata.layouts.test_packed import DOCUMENT
from tests.packs import write_idx_pack
from workflow.run.prepared import load_prepared
from workflow.run.summary import deployment_prior, prior_sentence
from workflow.settings.config import RunOptions, resolve_config

RECIPE = """\
name: tiny3
folds: 2
bootstrap: 200
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 40, candidate_patches: 200, pca_dim: 8}
  cnn: {max_iterations: 20}
  cnn_logit_adjusted: {max_iterations: 20}
"""
METRICS = list(metrics_for(3))
CLASSES = ["nought", "one", "two"]
COLUMNS = ["patchcore", *(f"{m}:{c}" for m in ("cnn", "cnn_logit_adjusted") for c in CLASSES)]


class Story:
    """A pack, a spec, a recipe, and the commands on them."""

    def __init__(self, folder: Path) -> None:
        write_idx_pack(folder / "squares/raw", (60, 40, 30), (12, 12, 12))
        counts = {"nought": 40, "one": 24, "two": 10}
        (folder / "squares3.yaml").write_text(
            yaml.safe_dump({**DOCUMENT, "name": "squares3", "train_counts": counts})
        )
        (folder / "tiny3.yaml").write_text(RECIPE)
        self.data = folder
        self.spec, self.recipe, self.runs = folder / "squares3.yaml", folder / "tiny3.yaml", folder / "runs"
        self.folder = self.runs / "squares3" / "tiny3"

    def command(self, name: str, *arguments: object) -> Outcome:
        return run_command(name, self.spec, *arguments, "--recipe", self.recipe, "--runs", self.runs)

    def options(self, *overrides: str) -> RunOptions:
        return RunOptions(str(self.spec), recipe=str(self.recipe), runs=self.runs, overrides=overrides)


@pytest.fixture(scope="module")
def story(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, Outcome, Outcome]:
    story = Story(tmp_path_factory.mktemp("three"))
    trained.give_traced_backbones(story.runs)
    done = story.command("train-all", "--json")
    assert done.code == 0, done.err
    fitted = story.command("ensemble", "--json")
    assert fitted.code == 0, fitted.err
    return story, done, fitted


def test_members_are_trained_and_shown(story):
    _, trained, _ = story
    assert trained.json["fits_run"] == 9
    assert trained.json["left_out"] == {}
    assert "two (minority)" in trained.err
    assert "out-of-fold macro" in trained.err
    assert "(minority)" in trained.err  # PatchCore has one column, which ranks the minority alone


def test_the_table_has_its_documented_shape(story):
    there, _, fitted = story
    document = fitted.json
    keys = ["dataset", "recipe", "regime", "measured", "model", "threshold", "prior", "minority", "rows"]
    assert list(document) == [*keys, "triage", "in_use", "stability"]
    assert (document["regime"], document["measured"]) == ("labelled", "test_set")
    assert document["prior"] == pytest.approx([20 / 37, 12 / 37, 5 / 37])  # as in training
    assert document["threshold"] == document["prior"]  # min_hter: every class counts alike
    assert [row["name"] for row in document["rows"]] == [
        "calibrated_baseline",
        "patchcore",
        "cnn",
        "cnn_logit_adjusted",
        "best_single",
        "plain_mean",
        "greedy",
        "ensemble",
    ]
    for row in document["rows"]:
        tail = ["intervals", "minus_baseline", "per_class_recall", "per_class_recall_minus_baseline"]
        assert list(row) == ["name", "kind", *METRICS, *tail]
        assert list(row["intervals"]) == list(row["minus_baseline"]) == METRICS
        assert list(row["per_class_recall"]) == CLASSES
        assert row["balanced_accuracy"] == pytest.approx(
            np.mean([value[0] for value in row["per_class_recall"].values()])
        )
    assert document["rows"][-1]["balanced_accuracy"] > 0.6
    assert "Recall of each class" in fitted.err
    assert json.loads((there.folder / "metrics.json").read_text())["document"] == document
    metrics = pq.read_table(there.folder / "metrics.parquet").to_pylist()
    assert len(metrics) == 8 * len(METRICS)
    again = there.command("ensemble", "--json")
    assert "Nothing to do" in again.said
    assert again.json == document


def test_tables_of_the_run(story):
    there, _, _ = story
    oof, test_table = (
        pq.read_table(there.folder / name).to_pydict() for name in ("oof.parquet", "test.parquet")
    )
    assert (len(oof["path"]), len(test_table["path"])) == (74, 36)
    for table in (oof, test_table):
        assert [name for name in table if name.startswith("score_")] == [f"score_{c}" for c in COLUMNS]
    p = np.stack([test_table[f"probability_{name}"] for name in CLASSES], axis=1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert test_table["decision"] == np.array(CLASSES)[p.argmax(axis=1)].tolist()


def test_the_exported_file_repeats_the_run_with_its_own_and_with_other_shares(story, tmp_path):
    there, _, _ = story
    assert json.loads((there.folder / "export.json").read_text())["parity"]["images"] == 36
    (root,) = (there.runs / "unpacked").iterdir()
    model = there.folder / "model.onnx"
    rows = pq.read_table(there.folder / "test.parquet").to_pylist()
    fitted = FittedEnsemble.from_json(json.loads((there.folder / "ensemble.json").read_text()))
    scores = np.array([[row[f"score_{column}"] for column in COLUMNS] for row in rows])
    shares = (0.7, 0.2, 0.1)
    for arguments, prior in (((), None), (("--prior", "0.7,0.2,0.1", "--threshold", "0.2,0.3,0.5"), shares)):
        output = tmp_path / f"scores{len(arguments)}"
        outcome = run_command("score", model, root / "test", "--output", output, *arguments)
        assert outcome.code == 0, outcome.err
        scored = {row["path"]: row for row in pads.dataset(output).to_table().to_pylist()}
        expected = fitted.predict(scores, prior)
        decided = fitted.decide(scores, prior, None if prior is None else (0.2, 0.3, 0.5))
        for row, p, decision in zip(rows, expected, decided, strict=True):
            again = scored[str(root / row["path"])]
            assert [again[f"probability_{name}"] for name in CLASSES] == pytest.approx(p.tolist(), abs=1e-4)
            assert again["decision"] == CLASSES[decision]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prior", "0.1"), "prior: got 1 number(s)"),
        (("--prior", "0.1,0.2,0.3"), "the 3 shares sum to 0.6; they must sum to 1"),
        (("--prior", "0,0.5,0.5"), "prior is 0; it is a share of images"),
        (("--threshold", "0.5,0,0.5"), "none may be 0"),
        (("--threshold", "a,b"), "--threshold 'a,b': write a number"),
    ],
)
def test_shares_that_cannot_be(story, tmp_path, arguments, said):
    there, _, _ = story
    outcome = run_command(
        "score", there.folder / "model.onnx", there.data, "--output", tmp_path / "s", *arguments
    )
    assert outcome.code == 2
    assert said in outcome.said


def test_compare_judges_by_balanced_accuracy_and_knows_the_metrics_of_many_classes(story):
    there, _, _ = story
    outcome = there.command("compare", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["metric"] == "balanced_accuracy"
    rows = {row["name"]: row for row in document["rows"]}
    assert rows["calibrated_baseline"]["verdict"] is None
    assert rows["patchcore"]["verdict"] in {"better", "worse", "no difference shown"}
    assert rows["patchcore"]["p_values"]["balanced_accuracy"] <= rows["patchcore"]["adjusted_p"]
    assert there.command("compare", "--metric", "log_loss").code == 0
    outcome = there.command("compare", "--metric", "average_precision")
    assert outcome.code == 2
    assert "not known for 3 classes" in outcome.said
    assert "Did you mean 'macro_average_precision'?" in outcome.said


def test_shares_where_the_model_will_work(story):
    there, _, _ = story
    data = load_prepared(resolve_config(there.options()))
    shares = {"nought": 0.7, "one": 0.2, "two": 0.1}
    config = resolve_config(there.options(f"deployment_shares={json.dumps(shares)}"))
    assert deployment_prior(config, data) == (0.7, 0.2, 0.1)
    config = resolve_config(there.options("deployment_prior=0.1"))
    counts = data.manifest.counts("train")
    nought = 0.9 * counts["nought"] / (counts["nought"] + counts["one"])
    assert deployment_prior(config, data) == pytest.approx((nought, 0.9 - nought, 0.1))
    total = sum(counts.values())
    by_default = deployment_prior(resolve_config(there.options()), data)
    assert by_default == pytest.approx(tuple(counts[name] / total for name in shares))
    as_tested = resolve_config(there.options("deployment_prior=test"))
    assert deployment_prior(as_tested, data) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    # The word of a catalogue gives way to shares; a number would contradict them.
    both = resolve_config(there.options("deployment_prior=test", f"deployment_shares={json.dumps(shares)}"))
    assert deployment_prior(both, data) == (0.7, 0.2, 0.1)
    sentence = prior_sentence(resolve_config(there.options()), data)
    assert sentence.startswith("Probabilities and threshold are made for")
    assert "-o deployment_shares={CLASS: SHARE, …}" in sentence
    assert prior_sentence(as_tested, data) == ""
    # What is trained does not depend on it.
    assert load_prepared(config).train_digest == data.train_digest


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("threshold=max_f1", "'max_f1' is for two classes, and there are 3"),
        ("deployment_shares={nought: 0.5, one: 0.5}", "must give each of the classes"),
        ("deployment_shares={nought: 0.5, one: 0.4, two: 0.2}", "in sum 1"),
    ],
)
def test_what_cannot_be_for_three_classes_is_said_before_training(story, override, said):
    there, _, _ = story
    with pytest.raises(UsageError, match=said):
        resolve_config(there.options(override))


def test_shares_are_not_for_two_classes():
    options = replace(RunOptions("gender_B"), overrides=("deployment_shares={male: 0.5, female: 0.5}",))
    with pytest.raises(UsageError, match="is for more than two classes; give deployment_prior"):
        resolve_config(options)


def test_a_student_of_three_classes(story):
    there, _, fitted = story
    student = ("--distil", "--student", "small_cnn_16@16", "--epochs", "1", "--most-lost", "1")
    outcome = there.command("export", *student, "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json["figures"]
    assert next(iter(figures)) == outcome.json["gate"]["metric"] == "balanced_accuracy"
    assert figures["balanced_accuracy"]["ensemble"] == pytest.approx(
        fitted.json["rows"][-1]["balanced_accuracy"]
    )
    model = load_model(there.folder / "student.onnx")
    assert model.members == tuple(f"student:{name}" for name in CLASSES)
    assert model.run(np.zeros((2, 16, 16, 3), dtype=np.uint8)).probability.shape == (2, 3)
    held = {row["file"]: row for row in there.command("parity", "--json").json["rows"]}
    assert held["student.onnx"].get("max_probability_difference", 0.0) <= 1e-4
