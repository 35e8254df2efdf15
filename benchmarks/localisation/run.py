"""``python -m benchmarks localisation``: which map finds the damage, alone and together.

Each problem is a whole run of the product on a made tree: ``train-all``, ``ensemble``, ``localise`` on the
file that it exports. What is compared are the file's own maps, on test images that no member saw; supervised
members learned from image labels alone, never from a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.few_labels.intervals import interval_of
from benchmarks.localisation.page import FIGURES, TOGETHER, as_markdown, shown_interval, write_page
from benchmarks.localisation.pictures import KINDS, SETS, write_tree
from contracts.files import read_json, write_json
from reporting.terminal import console, note
from workflow.settings.config import RunOptions

MEMBERS = ("patchcore", "subspace", "patch_head")

# Of 100 screws there are too few for what the other sets have.
_COUNTS = {"normal": 80, "held_out": 30, "defects": 10}
_FEW = {"normal": 36, "held_out": 24, "defects": 8}
_CATEGORY = "tile"  # any of MVTec AD's names: the catalogue knows its layout by it


@dataclass(frozen=True)
class LocalisationBench:
    """What is measured.

    Attributes:
        data: the directory that ``--data`` names, or None.
        cache: for trees, runs and figures; what is there is not made again.
        sets: of :data:`benchmarks.localisation.pictures.SETS`; none for all.
        draws: of each set, by seeds 0, 1 and so on.
        members: of the recipe; those that have maps are compared.
        markdown: file for the page, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = ()
    draws: int = 3
    members: Sequence[str] = MEMBERS
    markdown: Path | None = None


def bench_localisation(bench: LocalisationBench) -> dict[str, Any]:
    """Measure all problems and compare the maps over them.

    Returns:
        ``{problems, maps, means, differences}``. A problem: set, seed, and for each map its pixel AUROC and
        PRO. ``differences``: of all maps together less each map, mean over problems with a 95 % interval.
    """
    problems = [_problem(bench, name, seed) for seed in range(bench.draws) for name in (bench.sets or SETS)]
    maps = [each for each in (*bench.members, TOGETHER) if each in problems[0]["maps"]]
    values = {
        figure: {each: np.array([p["maps"][each][figure] for p in problems]) for each in maps}
        for figure in FIGURES
    }
    document = {
        "problems": problems,
        "maps": maps,
        "means": {f: {each: float(v.mean()) for each, v in of.items()} for f, of in values.items()},
        "differences": {
            figure: {
                each: vars(interval_of(of[TOGETHER] - of[each], [p["set"] for p in problems]))
                for each in maps
                if each != TOGETHER
            }
            for figure, of in values.items()
        },
    }
    _print(document, maps)
    if bench.markdown is not None:
        write_page(bench.markdown, as_markdown(document, _command(bench)))
        note(f"Page: {bench.markdown}")
    return document


def _command(bench: LocalisationBench) -> str:
    sets = f" --sets {','.join(bench.sets)}" if bench.sets else ""
    data = "" if bench.data is None else " --data DATA"
    return f"python -m benchmarks localisation{data}{sets} --draws {bench.draws}"


def _print(document: dict[str, Any], maps: Sequence[str]) -> None:
    table = Table(title=f"Means over {len(document['problems'])} problems")
    table.add_column("map")
    for shown in FIGURES.values():
        table.add_column(shown, justify="right")
        table.add_column("together less it", justify="right")
    for each in maps:
        cells = []
        for figure in FIGURES:
            of = document["differences"][figure].get(each)
            cells += [f"{document['means'][figure][each]:.3f}", "" if of is None else shown_interval(of)]
        table.add_row(each, *cells)
    console.print(table)


def _problem(bench: LocalisationBench, name: str, seed: int) -> dict[str, Any]:
    from workflow.ensembling.ensemble import ensemble
    from workflow.explaining.localise import localise
    from workflow.training.train import train_all

    folder = bench.cache / "localisation" / f"{name}-{seed}"
    kept = folder / f"figures-{'-'.join(bench.members)}.json"
    if kept.exists():
        found: dict[str, Any] = read_json(kept)
        return found
    counts = _FEW if name == "screws" else _COUNTS
    tree = folder / "data" / "mvtec" / _CATEGORY
    if not (tree / "made").exists():
        note(f"Making {tree}")
        write_tree(bench.data, tree, name, seed, **counts)
        (tree / "made").touch()
    recipe = folder / "maps.yaml"
    members = "".join(f"  {member}: {{}}\n" for member in ("cnn", *bench.members))
    recipe.write_text(f"name: maps\nfolds: 5\nviews: none\nmembers:\n{members}", encoding="utf-8")
    options = RunOptions(
        f"mvtec_{_CATEGORY}",
        data=folder / "data",
        recipe=str(recipe),
        runs=folder / "runs",
        seed=seed,
    )
    train_all(options)
    ensemble(options)
    document = localise(options)
    figures = {
        each["map"]: {
            "kinds": {
                kind["kind"]: {figure: kind[figure]["value"] for figure in FIGURES} for kind in each["kinds"]
            },
            **{figure: each["kinds"][0][figure]["value"] for figure in FIGURES},
        }
        for each in document["maps"]
    }
    found = {"set": name, "seed": seed, "damage": list(KINDS), "maps": figures}
    write_json(kept, found)
    return found
