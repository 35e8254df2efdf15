"""Lists of the user's own, and label tables with ranges, groups and numbered images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from contracts.errors import DataError, UsageError
from imagedata.layouts.label_table import LabelTable
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.said import Said
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec
from tests.imagedata.trees import manifest_of, noise, spec_of
from tests.pictures import write_two_classes
from workflow.run.feedback import RowGuard
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config

ROWS = [(f"img {n}.png", "rare" if n % 4 == 0 else "common", f"p{n // 2}", "train") for n in range(16)]


def write_list(path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), path)
        return path
    separator = {".csv": ",", ".tsv": "\t", ".txt": "\t"}[path.suffix]
    lines = [] if path.suffix == ".txt" else [separator.join(columns)]
    path.write_text("\n".join([*lines, *(separator.join(row) for row in rows)]) + "\n")
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def listed_of(table: Path) -> list[ListedImage]:
    spec = DataSpec.model_validate(resolve_dataset(str(table), Said("y")).document)
    return spec.list_images(spec.find(table.parent))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".parquet"])
def test_a_list_is_a_data_set(tmp_path, suffix):
    touch(tmp_path, *(row[0] for row in ROWS))
    table = write_list(tmp_path / f"mine{suffix}", ROWS, ("path", "label", "group", "split"))
    resolved = resolve_dataset(str(table))
    spec = DataSpec.model_validate(resolved.document)
    listed = spec.list_images(spec.find(resolved.data_dir))
    assert {(i.path, i.label, i.group, i.split) for i in listed} == set(ROWS)
    assert (spec.name, spec.minority) == ("mine", "rare")


def test_txt_without_tabs_ends_in_the_label(tmp_path):
    touch(tmp_path, "my images/1.png", "my images/2.png", "other/3.png")
    table = tmp_path / "mine.txt"
    table.write_text("my images/1.png 0\n\nmy images/2.png   0\nother/3.png 1\n")
    listed = spec_of(table).list_images(spec_of(table).find(tmp_path))
    assert [(image.path, image.label) for image in listed] == [
        ("my images/1.png", "0"),
        ("my images/2.png", "0"),
        ("other/3.png", "1"),
    ]


def test_images_may_lie_anywhere(tmp_path):
    lists, images = tmp_path / "lists", tmp_path / "images"
    lists.mkdir()
    table = lists / "mine.csv"
    rows = [f"{noise(images / f'{n}.png', n)},{'b' if n > 4 else 'a'}" for n in range(6)]
    touch(images, "x.png")
    table.write_text("path,label\n" + "\n".join(rows) + "\n../images/x.png,a\n")
    spec = spec_of(table)
    root = spec.find(lists)
    assert root == tmp_path
    assert {image.path for image in spec.list_images(root)} == {
        "images/x.png",
        *(f"images/{n}.png" for n in range(6)),
    }


def test_groups_of_a_list_stay_whole(tmp_path):
    for index, (path, *_) in enumerate(ROWS):
        noise(tmp_path / path, index)
    table = write_list(tmp_path / "mine.csv", [row[:3] for row in ROWS], ("path", "label", "group"))
    manifest = manifest_of(spec_of(table, test_share=0.3), tmp_path)
    sides = [{row.group for row in manifest.usable(split)} for split in ("train", "test")]
    assert sides[0] | sides[1] == {f"p{n}" for n in range(8)}
    assert sides[1]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "path,label\na.png,x\na.png,y\nb.png,y\nb.png,y\n",
            r"3 of 4 rows cannot be used\. contradicts another row: 2 \(row 2: a\.png is x, but y in row 3, "
            r"row 3: a\.png is y, but x in row 2\); repeats another row: 1 \(row 5: b\.png as in row 4\)",
        ),
        ("path,lable\na.png,x\n", r"no column 'label', only path, lable\. Did you mean 'lable'"),
        ("path,label\na.png,\n", r"1 of 1 rows cannot be used\. empty cell: 1 \(row 2: column label\)"),
        (
            "path,label\na.png,x,9\nb.png,x\nc.png,y\n",
            r"other number of cells than columns: 1 \(row 2: 3 cells\)",
        ),
        (
            "path,label,split\na.png,x,later\nb.png,x,train\nc.png,y,train\n",
            r"split is neither train, val nor test: 1 \(row 2: 'later'\)",
        ),
        ("path,label\na\0.png,x\nb.png,y\n", r"zero byte in the path: 1 \(row 2: a\?\.png\)"),
        (
            "path,label\nd.png,x\ne.png,x\nf.png,x\ng.png,y\nc.png,y\n",
            r"4 of 5 rows .* no such file: 4 \(row 2: d\.png, row 3: e\.png, row 4: f\.png, …\).*--skip-bad",
        ),
        ("path,label\n", r"the list has no rows"),
        ("", r"no column 'path', only none"),
        ('path,label\n"a.png,x\n', r"mine\.csv"),
    ],
)
def test_list_with_a_fault(tmp_path, text, said):
    touch(tmp_path, "a.png", "b.png", "c.png")
    table = tmp_path / "mine.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=said):
        listed_of(table)


def test_broken_parquet_list(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(DataError, match="not readable as parquet"):
        resolve_dataset(str(tmp_path / "mine.parquet"))


def test_minority_of_a_list_must_be_obvious(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(UsageError, match=r"not obvious \(x 1, y 1\)"):
        resolve_dataset(str(table))


def test_training_takes_a_list(tmp_path):
    write_two_classes(tmp_path / "set", 30, 9)
    files = sorted((tmp_path / "set").rglob("*.png"))
    rows = [f"set/{path.parent.name}/{path.name},{path.parent.name}" for path in files]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label", *rows]))
    config = resolve_config(RunOptions(str(tmp_path / "mine.csv"), runs=tmp_path / "runs", data=Path("/")))
    data = prepare_data(config)
    assert data.manifest.class_names == ("fine", "odd")
    assert data.manifest.root == tmp_path
    assert len(data.train) + len(data.test) == 39
    assert all(data.file_of(row).is_file() for row in [*data.train, *data.test])


def test_an_update_cannot_know_the_group_of_a_list(tmp_path):
    table = write_list(tmp_path / "mine.csv", [row[:3] for row in ROWS], ("path", "label", "group"))
    guard = RowGuard(spec_of(table), [], [])
    assert "are in its column 'group'" in guard.objection("new.png", "0" * 64)


def test_ranges_of_numbers_are_label_values():
    layout = LabelTable(
        table="t",
        columns=["path", "p"],
        label_column="p",
        values_of_class={"low": ["0..0.25", "none"], "high": ["0.75..1"]},
    )
    for value, name in {
        "0": "low",
        "0.25": "low",
        "0.3": None,
        "1.0": "high",
        "none": "low",
        "nan": None,
    }.items():
        assert layout.class_of(value) == name
    with pytest.raises(ValidationError, match="overlap"):
        LabelTable(
            table="t",
            columns=["path", "p"],
            label_column="p",
            values_of_class={"a": ["0..0.5"], "b": ["0.5"]},
        )
