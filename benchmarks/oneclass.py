"""``python -m benchmarks oneclass``: each class in turn is normal and the rest anomalous.

Our figures are shown beside published ones.

Every (member, class) is a cached result of its own, so that the same command goes on where it was
interrupted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from benchmarks.oneclass_sets import BenchPlan, BenchSet, load_set, plan_of
from contracts.errors import MemberCollapsedError, UsageError, nearest_match
from contracts.files import digest_of, read_json, write_json
from contracts.rows import IndexArray, LabelArray
from features.devices import pick_device
from features.settings import BackboneSettings
from imagedata.layouts.pack_formats import PixelArray
from reporting.terminal import console, note, progress_bar
from workflow.run.prepared import seed_of
from workflow.settings.documents import apply_override, parse_overrides, validated
from workflow.settings.registry import MEMBERS, build_member, entry_of, settings_class

if TYPE_CHECKING:
    from benchmarks.packed_rows import PackedRows

# Raised when code changes so that old cached results must not be reused.
_BENCH_VERSION = 1
# Small images need no large working size; 96 px leave the backbone's last layer 3 x 3 cells.
_BACKBONE_SIZE = 96


@dataclass(frozen=True)
class BenchOptions:
    """The command line, parsed.

    Attributes:
        dataset: key of :data:`benchmarks.oneclass_sets.SETS`.
        members: member types.
        classes: names or numbers of the classes that are normal in turn; all when empty.
        train: training images of the normal class, at most; None takes all of them.
        labelled: share of labelled minority rows among all training rows, for semi-supervised members.
        known_classes: how many of the other classes these come from, drawn by the seed for each normal class.
        overrides: ``MEMBER.key=value`` and ``backbone.key=value``.
        data: folder of the data sets.
        runs: folder of cached results and features.
        seed: of draws and fits.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    dataset: str
    members: tuple[str, ...]
    classes: tuple[str, ...] = ()
    train: int | None = None
    labelled: float = 0.0
    known_classes: int = 1
    overrides: tuple[str, ...] = ()
    data: Path | None = None
    runs: Path = Path("runs")
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class BenchMember:
    """A member with everything resolved.

    Attributes:
        type: key of the registry.
        settings: its settings.
        backbone: the backbone it reads, or starts from.
        folder: folder of its cached results, named after all they depend on besides the class.
        key: digest of the same.
    """

    type: str
    settings: Any
    backbone: BackboneSettings
    folder: Path
    key: str

    @property
    def sees_minority(self) -> bool:
        """Whether it is given labelled minority rows."""
        return entry_of(self.type).kind == "semisupervised"


def bench_oneclass(options: BenchOptions) -> dict[str, Any]:
    """Run the protocol and print its table.

    Returns:
        ``{set, source, protocol, members: [{member, mean, per_class, ...}], published}``; AUROC in 0…1,
        published figures in percent.

    Raises:
        UsageError: an unknown set, member, class or setting.
        DataError: the set is not on this machine.
    """
    plan = plan_of(options.dataset)
    resolved = _resolve(options, plan)
    data = load_set(options.dataset, options.data)
    chosen = _classes(options, data.class_names)
    note(f"{options.dataset}: {data.source}; {len(data.test_labels)} test images.")
    members = [_with_folder(options, data, *each) for each in resolved]
    pending = [(m, c) for m in members for c in chosen if _read(m, c) is None]
    if pending:
        _run_pending(options, data, pending)
    else:
        note("Nothing to do: all figures are in their results.")
    document = {
        "set": options.dataset,
        "source": data.source,
        "protocol": {
            "train_images_per_class": options.train,
            "test_images": len(data.test_labels),
            "labelled_share": options.labelled,
            "known_classes": options.known_classes if options.labelled else 0,
            "seed": options.seed,
        },
        "members": [_summary(member, chosen, data.class_names) for member in members],
        "published": [
            {"method": method, "mean_percent": mean, "source": source}
            for method, mean, source in plan.published
        ],
    }
    _print(document, [data.class_names[c] for c in chosen])
    return document


def _resolve(options: BenchOptions, plan: BenchPlan) -> list[tuple[str, Any, BackboneSettings]]:
    """Type, settings and backbone of every member.

    Raises:
        UsageError: an unknown member or setting, or labels that nobody gave or nobody reads.
    """
    if not options.members:
        raise UsageError("--members: names no member. Use --members knn,mahalanobis.")
    known = [name for name, entry in MEMBERS.items() if entry.kind != "supervised"]
    for name in options.members:
        if name not in known:
            raise UsageError(
                f"--members {name}: not a one-class member. Known are {', '.join(known)}."
                f"{nearest_match(name, known)}"
            )
    see_minority = [name for name in options.members if entry_of(name).kind == "semisupervised"]
    if see_minority and not options.labelled:
        raise UsageError(
            f"--members {see_minority[0]}: it learns from labelled minority rows, and there are none. "
            "Say how many with --labelled 0.05."
        )
    if options.labelled and not see_minority:
        raise UsageError(
            "--labelled: no member named learns from labelled rows. Add deep_sad or deep_sad_pixels."
        )
    backbone_document: dict[str, Any] = {"image_size": _BACKBONE_SIZE}
    documents: dict[str, dict[str, Any]] = {
        name: {**entry_of(name).defaults, **plan.presets(set(settings_class(name).model_fields))}
        for name in options.members
    }
    for path, value in parse_overrides(options.overrides):
        if len(path) < 2 or path[0] not in {"backbone", *documents}:
            raise UsageError(
                f"-o {'.'.join(path)}: write MEMBER.key=value with one of --members, or backbone.key=value."
            )
        if path[0] == "backbone":
            backbone_document = apply_override(backbone_document, path[1:], value)
        else:
            documents[path[0]] = apply_override(documents[path[0]], path[1:], value)
    backbone = validated(BackboneSettings, backbone_document, "backbone")
    return [
        (name, validated(settings_class(name), document, f"member {name}"), backbone)
        for name, document in documents.items()
    ]


def _with_folder(
    options: BenchOptions, data: BenchSet, name: str, settings: Any, backbone: BackboneSettings
) -> BenchMember:
    labels = [options.labelled, options.known_classes] if entry_of(name).kind == "semisupervised" else []
    key = digest_of(
        [
            _BENCH_VERSION,
            name,
            settings.model_dump(mode="json"),
            backbone.identity(),
            data.digest,
            options.train,
            labels,
            options.seed,
        ]
    )
    folder = options.runs / "bench" / "oneclass" / options.dataset / f"{name}-{key}"
    return BenchMember(name, settings, backbone, folder, key)


def _classes(options: BenchOptions, names: tuple[str, ...]) -> list[int]:
    """Numbers of the classes named.

    Raises:
        UsageError: no such class.
    """
    chosen = []
    for text in options.classes or names:
        if text in names:
            chosen.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            chosen.append(int(text))
        else:
            raise UsageError(
                f"--classes {text}: {options.dataset} has {', '.join(names)}, or 0 to {len(names) - 1}."
                f"{nearest_match(text, names)}"
            )
    return list(dict.fromkeys(chosen))


def _cached_result(member: BenchMember, normal: int) -> Path:
    return member.folder / f"class-{normal}.json"


def _read(member: BenchMember, normal: int) -> dict[str, Any] | None:
    """A finished figure, or None."""
    path = _cached_result(member, normal)
    if not path.exists():
        return None
    result: dict[str, Any] = read_json(path)
    return result


def _run_pending(options: BenchOptions, data: BenchSet, pending: list[tuple[BenchMember, int]]) -> None:
    device = pick_device(options.device)
    with progress_bar("one-vs-rest", len(pending)) as bar:
        for member, normal in pending:
            bar.describe(f"{member.type}, {data.class_names[normal]}")
            result = _measure(options, data, member, normal, device)
            write_json(_cached_result(member, normal), result)
            figure = result["collapsed"] or f"AUROC {result['auroc']:.4f}"
            note(
                f"{member.type}, {data.class_names[normal]}: {figure} "
                f"({result['train_rows']} rows, {result['fit_seconds']:.0f} s to fit, "
                f"{result['score_seconds']:.0f} s to score)"
            )
            bar.advance()


def rows_to_train(
    labels: LabelArray, normal: int, most: int | None, labelled: float, known_classes: int, seed: int
) -> tuple[IndexArray, LabelArray]:
    """Positions and labels (1 for the minority) of the training rows of one normal class.

    Labelled minority rows are as many as make up the share ``labelled`` of all training rows, drawn from
    ``known_classes`` of the other classes, as in Ruff et al. 2020, section 4.2 (there one class).

    Args:
        labels: ``[N]`` of the training images.
        normal: the normal class.
        most: of its images, at most.
        labelled: share, 0…1.
        known_classes: how many of the other classes are known.
        seed: of the draws, which are other ones for every class.
    """
    choice = np.random.default_rng([seed, normal])
    kept = choice.permutation(np.flatnonzero(labels == normal))[:most]
    n_minority = round(labelled / (1.0 - labelled) * len(kept))
    others = choice.permutation(np.setdiff1d(np.unique(labels), [normal]))[:known_classes]
    minority = choice.permutation(np.flatnonzero(np.isin(labels, others)))[:n_minority]
    positions = np.concatenate([np.sort(kept), np.sort(minority)]).astype(np.int64)
    return positions, (np.arange(len(positions)) >= len(kept)).astype(np.int64)


def _measure(
    options: BenchOptions, data: BenchSet, member: BenchMember, normal: int, device: str
) -> dict[str, Any]:
    """Fit on one class, score all test images."""
    from sklearn.metrics import roc_auc_score

    from contracts.member import FitContext

    share = options.labelled if member.sees_minority else 0.0
    positions, minority = rows_to_train(
        data.train_labels, normal, options.train, share, options.known_classes, options.seed
    )
    fitted = build_member(member.type, member.settings, member.backbone)
    everything = np.arange(len(data.test_labels))
    train = _rows(options, member, fitted.needs, data.train_images, positions, minority, device)
    is_other = (data.test_labels != normal).astype(np.int64)
    test = _rows(options, member, fitted.needs, data.test_images, everything, is_other, device)
    sentences: list[str] = []
    auroc, collapsed, started = None, "", time.monotonic()
    between = started
    try:
        fitted.fit(train, FitContext(seed_of(options.seed, member.type, normal), device, sentences.append))
        between = time.monotonic()
        auroc = float(roc_auc_score(is_other, fitted.score(test)[:, 0]))
    except MemberCollapsedError as collapse:
        collapsed, between = str(collapse), time.monotonic()
    return {
        "member": member.type,
        "class": data.class_names[normal],
        "auroc": auroc,
        "collapsed": collapsed,
        "train_rows": len(positions),
        "labelled_rows": int(minority.sum()),
        "known_classes": sorted(
            {data.class_names[label] for label in data.train_labels[positions[minority == 1]]}
        ),
        "test_rows": len(everything),
        "fit_seconds": round(between - started, 2),
        "score_seconds": round(time.monotonic() - between, 2),
        "settings": member.settings.model_dump(mode="json"),
        "backbone": member.backbone.model_dump(mode="json"),
        "sentences": sentences,
    }


def _rows(
    options: BenchOptions,
    member: BenchMember,
    needs: frozenset[str],
    images: PixelArray,
    positions: IndexArray,
    labels: LabelArray,
    device: str,
) -> PackedRows:
    """Rows with the inputs that a member needs, at the size it works at."""
    from benchmarks.packed_rows import PackedRows, digests_of, fill_store, store_of

    if needs == {"images"}:
        size = getattr(member.settings, "image_size", member.backbone.image_size)
        return PackedRows(images, positions, labels, size)
    backbone, store = store_of(member.backbone, options.runs)
    mine = images[positions]
    digests = digests_of(mine)
    fill_store(backbone, store, mine, digests, device)
    return PackedRows(mine, np.arange(len(mine)), labels, member.backbone.image_size, store, digests)


def _summary(member: BenchMember, chosen: list[int], names: tuple[str, ...]) -> dict[str, Any]:
    results = {names[c]: result for c in chosen if (result := _read(member, c)) is not None}
    figures = [r["auroc"] for r in results.values()]
    collapsed = {name: r["collapsed"] for name, r in results.items() if r["collapsed"]}
    return {
        "member": member.type,
        "settings": member.settings.model_dump(mode="json"),
        "backbone": member.backbone.model_dump(mode="json"),
        "cached_results": str(member.folder),
        "per_class": {name: r["auroc"] for name, r in results.items()},
        # A mean over the classes that went well would flatter.
        "mean": None if collapsed else float(np.mean(figures)),
        "collapsed": collapsed,
        "train_rows": sum(r["train_rows"] for r in results.values()),
        "labelled_rows": sum(r["labelled_rows"] for r in results.values()),
        "known_classes": {name: r["known_classes"] for name, r in results.items() if r["known_classes"]},
        "fit_seconds": round(sum(r["fit_seconds"] for r in results.values()), 1),
        "score_seconds": round(sum(r["score_seconds"] for r in results.values()), 1),
    }


def _print(document: dict[str, Any], classes: list[str]) -> None:
    members = document["members"]
    protocol = document["protocol"]
    table = Table(title=f"{document['set']}, one class against the rest: AUROC in percent")
    table.add_column("normal class")
    for member in members:
        table.add_column(member["member"], justify="right")
    for name in classes:
        figures = (member["per_class"][name] for member in members)
        table.add_row(name, *("collapsed" if f is None else f"{100 * f:.1f}" for f in figures))
    table.add_section()
    means = ("–" if m["mean"] is None else f"{100 * m['mean']:.2f}" for m in members)
    table.add_row(f"mean of {len(classes)}", *means)
    rows = (f"{m['train_rows'] // len(classes)}" for m in members)
    table.add_row("training rows per class", *rows)
    table.add_row("seconds to fit", *(f"{m['fit_seconds']:.0f}" for m in members))
    console.print(table)
    if protocol["labelled_share"]:
        note(
            f"Labelled minority rows: {100 * protocol['labelled_share']:g} % of the training rows, from "
            f"{protocol['known_classes']} of the other classes."
        )
    published = Table(title="Published means of the ten classes, on the full sets")
    for heading in ("method", "AUROC", "source"):
        published.add_column(heading, justify="right" if heading == "AUROC" else "left")
    for row in document["published"]:
        published.add_row(row["method"], f"{row['mean_percent']:.1f}", row["source"])
    console.print(published)
