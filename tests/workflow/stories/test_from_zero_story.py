"""From a folder of normal images to labels and back again, in one run folder and by the same words."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from contracts.files import read_json
from evaluation import agreement as agreement_module
from export.scoring import load_model
from imagedata.decoding.decode import decode_file
from tests.conftest import TINY_RECIPE, Outcome, Run, run_command
from tests.pictures import write_pictures
from workflow.ensembling.gate_images import gate_images
from workflow.ensembling.perturbations import PERTURBATIONS
from workflow.ensembling.stability import stability_of
from workflow.run.state import Run as OpenedRun
from workflow.settings.config import RunOptions

N_NORMAL = 30


def start(folder: Path, images: str, trained: Run, **pictures: tuple[int, bool]) -> Run:
    """A run on ``folder/parts``, of which nothing is trained yet; ``images`` is the folder of normal ones.

    Its backbone's graph is that of ``trained``, which is not what this is about.
    """
    (folder / "tiny.yaml").write_text(TINY_RECIPE)
    write_pictures(folder / "parts" / images, N_NORMAL, odd=False, seed=0)
    for name, (count, odd) in pictures.items():
        write_pictures(folder / "parts" / name, count, odd, seed=5)
    run = Run(folder / "parts", folder / "tiny.yaml", folder / "runs")
    trained.give_traced_backbones(run.runs)
    return run


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def outputs_of(run: Run) -> list[str]:
    return [output.name for output in onnx.load(str(run.folder / "model.onnx")).graph.output]


def scored(run: Run, images: Path) -> dict[str, list]:
    target = run.runs.parent / f"scores-{images.name}"
    shutil.rmtree(target, ignore_errors=True)
    done(run_command("score", run.folder / "model.onnx", images, "--output", target))
    return pads.dataset(target).to_table().to_pydict()


@pytest.fixture(scope="module")
def normal_only(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outcome, Outcome]:
    run = start(tmp_path_factory.mktemp("normal"), "good", trained)
    return run, done(run.command("train-all")), done(run.command("ensemble", "--json"))


def test_normal_images_alone_make_a_model(normal_only: tuple[Run, Outcome, Outcome]):
    run, trained, ensemble = normal_only
    assert sorted(path.name for path in (run.folder / "members").iterdir()) == ["deep_svdd", "patchcore"]
    assert "AUROC" not in trained.said
    document = ensemble.json
    assert (document["regime"], document["measured"], document["rows"]) == ("normal_only", None, [])
    assert document["threshold"] == pytest.approx(1 / (N_NORMAL + 1))
    assert "supervised members are trained as well" in ensemble.said
    assert not (run.folder / "test.parquet").exists()


def test_its_file_gives_p_normal_and_no_probability(
    normal_only: tuple[Run, Outcome, Outcome], tmp_path: Path
):
    run, _, _ = normal_only
    assert outputs_of(run)[:2] == ["p_normal", "decision"]
    write_pictures(tmp_path / "odd", 6, odd=True, seed=9)
    rows = scored(run, tmp_path / "odd")
    assert rows["probability"] == [None] * 6
    assert np.mean(rows["p_normal"]) < 0.2
    assert set(rows["decision"]) <= {"good", "anomalous"}


# ---- the file of normal images alone: gates without a test set


def test_the_file_is_held_to_mirrored_training_images(normal_only: tuple[Run, Outcome, Outcome]):
    run, _, fitted = normal_only
    assert f"Parity on {N_NORMAL} mirrored training images at batches 1, 2 and 7: p_normal is" in fitted.said
    opened = OpenedRun.open(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    shown = gate_images(opened, 5)
    first = decode_file(opened.data.file_of(opened.data.train[0]), opened.config.decode).pixels
    np.testing.assert_array_equal(shown.images[0], first[:, ::-1])
    assert shown.labels.tolist() == [0] * 5
    # By the members as they ship, and away from the images that they keep.
    of_file = load_model(run.folder / "model.onnx").run(shown.images).member_scores
    np.testing.assert_allclose(of_file, shown.member_scores, atol=0.05 * shown.spreads.max())
    of_known = load_model(run.folder / "model.onnx").run(shown.images[:, :, ::-1]).member_scores
    assert np.abs(of_known - of_file).max() > 0.05 * shown.spreads.max()


def test_its_stability_is_that_of_the_file(normal_only: tuple[Run, Outcome, Outcome]):
    """What the trained system says of perturbed images, the exported file says as well."""
    run, _, fitted = normal_only
    stability = fitted.json["stability"]
    assert (stability["images"], stability["of"]) == (N_NORMAL, "mirrored training images")
    assert stability["quantity"] == "p_normal"
    assert [each["name"] for each in stability["changes"]] == list(PERTURBATIONS)
    opened = OpenedRun.open(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    most = stability_of(opened, pictures=True).pictures[0]
    file = load_model(run.folder / "model.onnx")
    p_normal = file.run(np.stack([most.pixels, most.changed_pixels])).p_normal
    np.testing.assert_allclose(p_normal, [most.before, most.after], atol=1.5 / (N_NORMAL + 1))
    largest = max(each["largest"] for each in stability["changes"])
    assert abs(most.after - most.before) == pytest.approx(largest)
    assert "Changes that no eye sees" in fitted.err
    card = (run.folder / "deploy" / "README.md").read_text()
    assert f"| stability | On {N_NORMAL} mirrored training images: saved again as JPEG 95: " in card


def test_variants_are_judged_by_decisions_and_ranks(
    normal_only: tuple[Run, Outcome, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agreement_module, "MOST_DECISIONS_CHANGED", 1.0)
    run = normal_only[0].copy(tmp_path)
    outcome = done(run.command("export", "--precision", "int8", "--json"))
    figures = outcome.json["gate"]["onnxruntime"]
    assert (figures["auroc"], figures["auroc_change"], figures["max_probability_difference"]) == (None,) * 3
    assert figures["images"] == N_NORMAL
    assert set(figures["rank_correlation"]) == {"patchcore", "deep_svdd"}
    assert "30 mirrored training images" in outcome.said

    shown = done(run.command("parity", "--json")).json
    rows = {(row["file"], row["runtime"]): row for row in shown["rows"]}
    exact = rows["model.onnx", "onnxruntime"]
    assert (exact["images"], exact["decisions_changed"], exact["accepted"]) == (N_NORMAL, 0, True)
    assert min(exact["rank_correlation"].values()) > 0.99


def test_inspect_says_what_there_is_instead_of_a_probability(
    normal_only: tuple[Run, Outcome, Outcome], command
):
    outcome = done(command("inspect", normal_only[0].folder / "model.onnx", "--json"))
    assert "Probability needs labelled minority images; none was known when it was made." in outcome.said
    assert "p_normal places an image among 30 normal images" in outcome.said
    assert outcome.json["metadata"]["regime"] == "normal_only"
    assert outcome.json["metadata"]["conformal"]["n"] == N_NORMAL


def test_a_student_needs_a_probability_to_learn(normal_only: tuple[Run, Outcome, Outcome]):
    outcome = normal_only[0].command("export", "--distil")
    assert outcome.code == 2
    assert "a student learns probabilities, and this run has none. Probability needs" in outcome.said


def test_false_alarms_is_short_for_the_rule(normal_only: tuple[Run, Outcome, Outcome], tmp_path: Path):
    run = normal_only[0].copy(tmp_path)
    document = done(run.command("ensemble", "--false-alarms", "0.2", "--json")).json
    assert document["threshold"] == 0.2
    threshold = load_model(run.folder / "model.onnx").document["threshold"]
    assert threshold == {"rule": "false_alarms<=0.2", "value": 0.2}
    # Whoever follows a message gives the same rule.
    assert done(run.command("ensemble", "-o", "threshold=false_alarms<=0.2")).said.startswith("Nothing to do")
    refused = run.command("ensemble", "-o", "threshold=recall>=0.9")
    assert refused.code == 3
    assert "it weighs misses, and no image of 'anomalous' is labelled yet" in refused.said


# ---- the first defects


@pytest.fixture(scope="module")
def taught(
    normal_only: tuple[Run, Outcome, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Outcome]:
    """The same run after three defects were found and given to ``update``."""
    folder = tmp_path_factory.mktemp("taught")
    run = normal_only[0].copy(folder)
    write_pictures(folder / "found", 3, odd=True, seed=7)
    return run, done(run.command("update", "--missed", folder / "found", "--json"))


def test_the_first_defects_bring_supervised_members(taught: tuple[Run, Outcome]):
    run, updated = taught
    document = updated.json
    assert document["regime"] == ["normal_only", "labelled"]
    assert document["measured"] == "cross_validation"
    assert "supervised members are trained as well" in updated.said
    assert (run.folder / "members" / "cnn" / "final.npz").exists()
    assert outputs_of(run)[:5] == ["probability", "p_normal", "p_minority", "decision", "triage"]
    for image in document["images"]:
        assert image["probability_before"] is None
        assert image["p_normal_before"] is not None
        assert image["decision_after"] == "anomalous"


def test_every_label_trains_and_every_figure_is_cross_validated(taught: tuple[Run, Outcome]):
    run, _ = taught
    document = read_json(run.folder / "metrics.json")["document"]
    row = next(row for row in document["rows"] if row["name"] == "ensemble")
    assert len(row["repeats"]["auroc"]) == 3
    low, high = row["intervals"]["auroc"]
    assert high - low > 0.15  # three defects cannot say more
    table = pq.read_table(run.folder / "cross_validated.parquet").to_pydict()
    assert sum(label == "anomalous" for label in table["label"]) == 3
    assert len(table["label"]) == N_NORMAL + 3


def test_scores_of_the_judged_images_are_by_fits_without_them(taught: tuple[Run, Outcome]):
    run, _ = taught
    judged = pq.read_table(run.folder / "cross_validated.parquet").to_pydict()
    folds = {judged["fold"][i] for i, label in enumerate(judged["label"]) if label == "anomalous"}
    assert len(folds) == 3  # each defect in a fold of its own


def test_going_back_by_deleting_what_was_added(taught: tuple[Run, Outcome], tmp_path: Path):
    run = taught[0].copy(tmp_path)
    (run.folder / "added.json").unlink()
    stale = run.command("ensemble")
    assert stale.code == 5
    assert "feedback images were added or taken away" in stale.said
    done(run.command("train-all"))
    assert done(run.command("ensemble", "--json")).json["regime"] == "normal_only"
    assert outputs_of(run)[:2] == ["p_normal", "decision"]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_defects_are_enough_to_begin(count: int, trained: Run, tmp_path: Path):
    run = start(tmp_path, "good", trained, scratched=(count, True))
    done(run.command("train-all", "-o", "repeats=1"))
    outcome = done(run.command("ensemble", "--json", "-o", "repeats=1"))
    assert outcome.json["measured"] == "cross_validation"
    assert np.isfinite(outcome.json["rows"][-1]["auroc"])
    assert outputs_of(run)[:2] == ["probability", "p_normal"]


def test_a_flat_folder_that_nobody_labelled_becomes_a_ranking(trained: Run, tmp_path: Path):
    run = start(tmp_path, "", trained)
    hidden = write_pictures(tmp_path / "parts", 3, odd=True, seed=3, start=500)
    done(run.command("train-all", "-o", "contamination=0.1"))
    outcome = done(run.command("ensemble", "--json", "-o", "contamination=0.1"))
    assert outcome.json["regime"] == "unlabelled"
    ranking = pq.read_table(run.folder / "first_look.parquet").to_pydict()
    assert len(set(ranking["path"])) == len(ranking["path"])
    assert {path.name for path in hidden} & set(ranking["path"][:6])


def test_a_recipe_without_one_class_members_is_refused_without_labels(trained: Run, tmp_path: Path):
    run = start(tmp_path, "good", trained)
    without = ("-o", "members.patchcore=false", "-o", "members.deep_svdd=false")
    outcome = run.command("train-all", *without)
    assert outcome.code == 2
    assert "only one-class members can be trained" in outcome.said
    assert "-o members.patchcore={}" in outcome.said


def test_a_test_set_is_held_out_where_it_is_asked_for(trained: Run, tmp_path: Path):
    run = start(tmp_path, "good", trained, scratched=(9, True))
    outcome = done(run.command("train-all", "--dry-run", "--json", "-o", "test_share=0.3"))
    assert outcome.json["test"] == {"good": 9, "scratched": 3}
    outcome = done(run.command("train-all", "--dry-run", "--json"))
    assert outcome.json["test"] == {"good": 0, "scratched": 0}
