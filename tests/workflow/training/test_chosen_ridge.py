"""``l2: auto`` on the command line: the ridge that a fit chose is kept with it."""

from __future__ import annotations

from contracts.files import read_arrays
from supervised.ridge import GRID


def test_each_fit_keeps_the_ridge_that_it_chose(trained, tmp_path):
    run = trained.copy(tmp_path)
    outcome = run.command("train", "cnn_weighted", "-o", "members.cnn_weighted.l2=auto", "--json")
    assert outcome.code == 0, outcome.err
    # The other members' fits stay.
    assert outcome.json["fits_run"] == 4
    assert "l2=auto: " in outcome.said
    _, final = read_arrays(run.folder / "members" / "cnn_weighted" / "final.npz")
    chosen = final["state_meta"]["chosen"]
    assert chosen["l2"] in GRID
    assert len(chosen["log_loss"]) == len(GRID)
    assert f"l2=auto: {chosen['l2']:g}, " in final["sentences"][0]
    _, fold = read_arrays(run.folder / "members" / "cnn_weighted" / "fold-0.npz")
    assert fold["sentences"][0].startswith("l2=auto: ")


def test_a_loss_without_probabilities_is_refused_before_training(tiny):
    outcome = tiny.command("train-all", "-o", "members.cnn_focal={l2: auto}")
    assert outcome.code == 2
    assert "member cnn_focal: l2=auto is chosen by log loss" in outcome.said
