"""Forms of PatchCore on normal images alone: what is fitted, kept and put on the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.few_labels import patchcore_forms
from benchmarks.few_labels.patchcore_forms import FORMS, FormsBench, bench_forms
from benchmarks.few_labels.sets import PLANS, SetPlan
from contracts.errors import UsageError
from oneclass.patchcore.settings import PatchCoreSettings
from tests.conftest import run_benchmark
from tests.pictures import write_pictures

OURS = ("default", "nearby 1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    write_pictures(data / "parts" / "good", 40, odd=False, seed=1)
    write_pictures(data / "parts" / "spot", 16, odd=True, seed=2)
    return data


@pytest.fixture(autouse=True)
def plan(monkeypatch):
    made = SetPlan(
        "parts:spot",
        "parts",
        "spot",
        ("backbone={name: test_efficientnet, weights: random, image_size: 64}",),
        folder=True,
    )
    monkeypatch.setitem(PLANS, made.name, made)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_one_of_patchcore(name):
    PatchCoreSettings(**FORMS[name])


def test_figures_page_and_what_is_kept(data, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    learnt_from = []
    made = patchcore_forms.build_member

    def watched(*arguments):
        member = made(*arguments)
        fit = member.fit

        def watching(rows, context):
            learnt_from.append(set(rows.labels.tolist()))
            return fit(rows, context)

        member.fit = watching
        return member

    monkeypatch.setattr(patchcore_forms, "build_member", watched)
    bench = FormsBench(data, tmp_path / "cache", ("parts",), 2, OURS, page)
    document = bench_forms(bench)
    # Two forms and two other members on each draw, and no image of the minority.
    assert learnt_from == [{0}] * 8
    assert [problem["data_set"] for problem in document["problems"]] == ["parts:spot"] * 2
    for problem in document["problems"]:
        assert set(problem["alone"]) == {*OURS, "deep_svdd", "subspace"}
        assert set(problem["fused"]) == set(OURS)
        assert all(0.0 <= auroc <= 1.0 for kind in ("alone", "fused") for auroc in problem[kind].values())
    text = page.read_text()
    assert text.startswith("Mean AUROC of 2 draws of 1 sets.")
    for name in OURS:
        mean = np.mean([problem["alone"][name] for problem in document["problems"]])
        [row] = [line for line in text.splitlines() if line.startswith(f"| {name} | ")]
        assert row.startswith(f"| {name} | {mean:.3f} |")
    # All differences are from the first form.
    assert "| default | " in text
    assert text.count("+0.00 (+0.00 … +0.00)") >= 2
    [row] = [line for line in text.splitlines() if line.startswith("| parts:spot |")]
    assert row.count("|") == 6
    # A second call fits nothing and says the same; another form is fitted alone.
    again = bench_forms(FormsBench(data, tmp_path / "cache", ("parts",), 2, OURS))
    assert again == document
    assert len(learnt_from) == 8
    bench_forms(FormsBench(data, tmp_path / "cache", ("parts",), 1, (*OURS, "whitened")))
    assert len(learnt_from) == 9


def test_by_command_line(data, tmp_path):
    outcome = run_benchmark(
        "patchcore-forms", "--data", data, "--cache", tmp_path, "--sets", "parts", "--forms", "nearby 3"
    )
    assert outcome.code == 2
    assert "--forms nearby 3: not known." in outcome.said
    assert "Did you mean" in outcome.said
    with pytest.raises(UsageError, match="--sets part: not known"):
        bench_forms(FormsBench(data, tmp_path, ("part",), 1, ("default",)))
