"""``datasets add``: a name for a folder or list of one's own, checked before it is written down."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError, UsageError
from contracts.files import write_text
from contracts.text import printable
from imagedata.groups import group_of_path
from imagedata.hub import HubSource, fetched
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.recognise import document_of_recognised
from imagedata.layouts.said import Said
from imagedata.layouts.shards import SHARD_SUFFIXES, Shards
from imagedata.plain_yaml import dump_yaml, parse_yaml
from imagedata.resolve import ResolvedDataset, catalogue_names, own_specs_dir, resolve_dataset
from imagedata.sampling import INDEPENDENT_FOR_A_TEST
from imagedata.spec import DataSpec
from reporting.terminal import console, note
from workflow.settings.documents import validated

Ask = Callable[[str, str], str]


@dataclass(frozen=True)
class NewDataset:
    """What the user said of a new data set; None where nothing was said.

    Attributes:
        name: what it is to be called.
        folder: folder, or list of images.
        said: of the labels.
        group: group rule: a regular expression with one group, or the number of a folder.
        settings: further keys of the spec, such as ``title``, ``source``, ``licence``, ``imbalance``.
        output: file to write; the user's own folder of specs where it is None.
        overwrite: replace a spec of that name.
        hub: data set on Hugging Face's hub, in place of a folder.
        revision: of it.
    """

    name: str
    folder: Path | None
    said: Said
    group: str | None
    settings: dict[str, Any]
    output: Path | None
    overwrite: bool
    hub: str | None = None
    revision: str = "main"


def add_dataset(new: NewDataset, ask: Ask | None) -> dict[str, Any]:
    """Look at a folder or list, write its spec, and say what was found.

    Args:
        new: as given by flags.
        ask: shows a question with a default and returns the answer, for what flags left open; None where
            nobody is there to answer.

    Returns:
        ``{name, spec, root, classes, minority, images, per_minority, groups, document}``; ``images`` is split
        → class → files, ``groups`` the number of groups or None without a rule.

    Raises:
        UsageError: the name is taken or none, or something is missing and nobody can be asked.
        DataError: the folder holds no data set, or the group rule does not fit; nothing is written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", new.name):
        raise UsageError(f"datasets add '{new.name}': a name has letters, digits and . _ - only.")
    if new.name in catalogue_names():
        raise UsageError(f"datasets add {new.name}: the catalogue has a set of that name. Take another name.")
    target = new.output or own_specs_dir() / f"{new.name}.yaml"
    if target.exists() and not new.overwrite:
        raise UsageError(f"{target}: already exists. Give --overwrite, or another name.")
    if new.hub is not None:
        folder, found = _fetched(new, new.hub)
    else:
        folder = _folder_of(new, ask)
        found = _resolved(folder, new.said, ask).document
    document = {**found, "name": new.name, **new.settings}
    where = f"datasets add {new.name}"
    if not validated(DataSpec, document, where).layout.names_its_place:
        document["layout"] = {**document["layout"], "roots": [str(folder)]}
    listed, root = _looked_at(validated(DataSpec, document, where), folder)
    rule = new.group
    if rule is None and ask is not None and "group_column" not in document["layout"]:
        note("Images of one patient, lot or session must not part. Some paths:")
        for image in listed[:: max(1, len(listed) // 3)][:3]:
            note(f"  {image.path}")
        rule = ask("Group: a regular expression with one (group), or a folder's number; empty for none", "")
    if rule:
        document["group"] = int(rule) if re.fullmatch(r"[+-]?[0-9]+", rule) else rule
    spec = validated(DataSpec, document, where)
    groups = _groups(spec, listed)
    text = dump_yaml(document)
    # Read back before it is written: a spec that means something else than was shown would be found much
    # later.
    assert validated(DataSpec, parse_yaml(text), str(target)) == spec
    write_text(target, text)
    return _said(new, target, spec, root, listed, groups, document)


def _folder_of(new: NewDataset, ask: Ask | None) -> Path:
    folder = new.folder
    if folder is None:
        if ask is None:
            raise UsageError(
                f"datasets add {new.name}: say what it is with --folder DIR (or a list of images)."
            )
        folder = Path(ask("Folder, or list of images", "")).expanduser()
    if not folder.exists() or str(folder) == ".":
        raise UsageError(f"datasets add {new.name}: {folder}: no such folder or list. Name an existing one.")
    # Links stay as they are; the spec is to be found from any working directory.
    return folder.absolute()


def _fetched(new: NewDataset, name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a set of the hub, and what its shards say of themselves."""
    if new.folder is not None:
        raise UsageError(f"datasets add {new.name}: --folder and --hub both name the data set; give one.")
    source = validated(HubSource, {"name": name, "revision": new.revision}, "datasets add --hub")
    for below in ("data/", ""):  # the usual place first: a pattern for the root fits every folder
        folder = fetched(new.name, source, tuple(f"{below}*{ending}" for ending in SHARD_SUFFIXES))
        found = Shards.recognise(folder, {})
        if found is not None:
            document = document_of_recognised(found, str(folder), new.said)
            # The commit that the branch stands at now, so that the name means the same images for ever.
            pinned = {"name": name, "revision": folder.name}
            described = {"title": f"images of {name}", "source": f"the hub's data set {name}"}
            return folder, {**described, **document, "layout": {**document["layout"], "hub": pinned}}
    raise DataError(
        f"datasets add {new.name}: {name} has no shards ({', '.join(SHARD_SUFFIXES)}) at its root or in its "
        "folder data. Where they lie elsewhere, write a YAML spec with layout.hub."
    )


def _resolved(folder: Path, said: Said, ask: Ask | None) -> ResolvedDataset:
    try:
        return resolve_dataset(str(folder), said)
    except UsageError as error:
        if ask is None or said != Said():
            raise
        note(str(error))
        return resolve_dataset(str(folder), Said(ask("The minority class", "")))


def _looked_at(spec: DataSpec, folder: Path) -> tuple[list[ListedImage], Path]:
    root = spec.find(folder if folder.is_dir() else folder.parent)
    return spec.list_images(root), root


def _groups(spec: DataSpec, listed: list[ListedImage]) -> int | None:
    """Number of groups; None without a rule."""
    named = {image.group for image in listed if image.group is not None}
    if spec.group is None:
        return len(named) or None
    for image in listed:
        group = group_of_path(spec.group, image.path)
        if not group:
            raise DataError(
                f"{spec.name}: the group rule '{spec.group}' finds no group in '{image.path}'. Give a "
                "regular expression with one (group) that matches every path, or the number of a folder, "
                "with --group."
            )
        named.add(group)
    return len(named)


def _said(
    new: NewDataset,
    target: Path,
    spec: DataSpec,
    root: Path,
    listed: list[ListedImage],
    groups: int | None,
    document: dict[str, Any],
) -> dict[str, Any]:
    counted: Counter[tuple[str, str]] = Counter((image.split, image.label) for image in listed)
    splits = [split for split in ("train", "test") if any(image.split == split for image in listed)]
    images = {split: {name: counted[split, name] for name in spec.class_names} for split in splits}
    minority = sum(of_class[spec.minority] for of_class in images.values())
    table = Table(title=escape(printable(f"{spec.name}: {root}")))
    table.add_column("class")
    for split in splits:
        table.add_column("training images" if split == "train" else "test images", justify="right")
    for name in spec.class_names:
        role = " (minority)" if name == spec.minority else ""
        table.add_row(escape(printable(f"{name}{role}")), *(str(images[split][name]) for split in splits))
    console.print(table)
    per_minority = (len(listed) - minority) / minority if minority else None
    ratio = (
        f"no {spec.minority}" if per_minority is None else f"1 {spec.minority} to {per_minority:.3g} others"
    )
    note(f"{ratio[0].upper()}{ratio[1:]}" + (f", in {groups} groups." if groups else "."))
    if "test" not in splits:
        note(
            f"The set brings no test images: from {INDEPENDENT_FOR_A_TEST} independent images of "
            f"{spec.minority} on a seeded draw holds some out, and with fewer figures are cross-validated."
            if spec.test_per_class is None and spec.test_share is None
            else "The set brings no test images; a seeded draw sets some aside before training."
        )
    called = new.name if new.output is None else str(target)
    note(f"Written to {target}. Next: python cli.py train-all {shlex.quote(called)} --dry-run")
    return {
        "name": spec.name,
        "spec": str(target),
        "root": str(root),
        "classes": list(spec.class_names),
        "minority": spec.minority,
        "images": images,
        "per_minority": per_minority,
        "groups": groups,
        "document": document,
    }
