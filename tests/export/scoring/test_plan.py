"""Which images are scored, in which order, in which shard; and how many processes do it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DataError, UsageError
from export.scoring.inputs.listing import find_images
from export.scoring.plan import ScoreSettings, make_shards, printable_path, shard_lengths

SETTINGS = ScoreSettings("0" * 64, {"size": 16, "window": None})


def expand_paths(paths: list[Path], list_file: Path | None = None) -> list[str]:
    return find_images(paths, list_file).paths


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(found: list[str], folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in found]


def test_folders_are_searched_by_ending_in_either_case(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/c.png", "a/d/e.TiFf", "notes.txt", "a/table.parquet", "jpg")
    assert names(expand_paths([tmp_path]), tmp_path) == ["a/c.png", "a/d/e.TiFf", "b.JPG"]


def test_a_named_file_counts_whatever_its_ending_and_only_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "scan.dat")
    given = [tmp_path / "scan.dat", tmp_path, tmp_path / "." / "a.png", tmp_path / "x" / ".." / "scan.dat"]
    (tmp_path / "x").mkdir()
    assert names(expand_paths(given), tmp_path) == ["a.png", "scan.dat"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.png", "b/y.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "aside").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "aside").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to("self")
    found = expand_paths([tmp_path])
    assert len(found) == 2
    assert expand_paths([tmp_path]) == found


def test_a_linked_folder_is_searched(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "x.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(expand_paths([tmp_path / "in"]), tmp_path) == ["in/link/x.png"]


def test_a_list_is_relative_to_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "lists/a.png", "b.png", "more/c.png")
    text = "\ufeffa.png\r\n\n../b.png\ngone.png\n../more\n"
    (tmp_path / "lists" / "list.txt").write_text(text, encoding="utf-8", newline="")
    found = expand_paths([], tmp_path / "lists" / "list.txt")
    assert sorted(names(found, tmp_path)) == ["b.png", "lists/a.png", "lists/gone.png", "more/c.png"]


def test_a_list_of_nothing_that_exists_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/a.png\nphotos/b.png\n")
    with pytest.raises(UsageError, match=r"none of 2 paths exists.*relative to the list's own folder"):
        expand_paths([], tmp_path / "list.txt")


def test_a_binary_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b\n")
    with pytest.raises(UsageError, match="holds zero bytes"):
        expand_paths([], tmp_path / "list.txt")


def test_names_of_odd_bytes(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9\xff.png"
    Path(os.fsdecode(odd)).touch()
    (tmp_path / "list.txt").write_bytes(b"caf\xe9\xff.png\n")
    found = expand_paths([tmp_path], tmp_path / "list.txt")
    assert [os.fsencode(path) for path in found] == [odd]
    assert len(make_shards(found, SETTINGS, 4)[0].id) == 16
    assert printable_path(found[0]).endswith(r"caf\udce9\udcff.png")


def test_missing_path_names_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png")
    with pytest.raises(UsageError, match=r"does not exist\. Did you mean 'photos'\?"):
        expand_paths([tmp_path / "potos"])


def test_nothing_named() -> None:
    with pytest.raises(UsageError, match="nothing to score was named"):
        expand_paths([])


def test_no_image_is_a_data_error(tmp_path: Path) -> None:
    touch(tmp_path, "slice.nii")
    with pytest.raises(DataError, match=r"no image found in .*\.jpeg .*one by one"):
        expand_paths([tmp_path])


def test_shards_depend_on_everything_that_decides_scores(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{index}.png") for index in range(10)]
    shards = make_shards(paths, SETTINGS, 4)
    assert [len(shard.paths) for shard in shards] == [4, 4, 2]
    assert [path for shard in shards for path in shard.paths] == paths
    assert make_shards(paths, SETTINGS, 4) == shards
    others = [
        make_shards(paths, ScoreSettings("1" * 64, SETTINGS.decode), 4),
        make_shards(paths, ScoreSettings("0" * 64, {"size": 17, "window": None}), 4),
        make_shards(paths, ScoreSettings("0" * 64, SETTINGS.decode, prior=0.1), 4),
        make_shards(paths, ScoreSettings("0" * 64, SETTINGS.decode, threshold=0.1), 4),
        make_shards(paths[1:], SETTINGS, 4),
    ]
    ids = {shard.id for plan in [shards, *others] for shard in plan}
    assert len(ids) == sum(len(plan) for plan in [shards, *others])


@given(n_images=st.integers(0, 5000), shard_size=st.integers(1, 700))
def test_every_image_is_in_a_shard_and_the_last_ones_are_small(n_images: int, shard_size: int) -> None:
    lengths = shard_lengths(n_images, shard_size)
    assert sum(lengths) == n_images
    assert all(0 < length <= shard_size for length in lengths)
    if shard_size >= 256 and n_images >= shard_size:
        # Whoever works on the last shard alone lets the others wait for an eighth of a shard at most.
        assert set(lengths[-8:]) == {shard_size // 8}
        assert len(lengths) >= 8
    if shard_size < 64:
        assert all(length == shard_size for length in lengths[:-1])


def test_a_relative_name_means_another_file_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "one/photos/a.png", "two/photos/a.png")
    monkeypatch.chdir(tmp_path / "one")
    found = expand_paths([Path("photos")])
    first = make_shards(found, SETTINGS, 4)
    assert found == ["photos/a.png"]
    monkeypatch.chdir(tmp_path / "two")
    assert make_shards(expand_paths([Path("photos")]), SETTINGS, 4)[0].id != first[0].id
