"""The table of facts: what is put in comes back, and equal bytes are found as dicts find them."""

import numpy as np
import pytest

from imagedata.audit.fact_table import FactTable, StoredThumbnails
from imagedata.audit.facts import FileFacts, look_at_bytes
from tests.hostile import broken_files, good_files
from tests.hostile_corpus import odd_files, oriented


def all_facts() -> list[FileFacts]:
    contents = [*good_files().values(), *broken_files().values(), oriented(42), oriented(6)]
    contents += [content for content, _ in odd_files().values()] * 2
    return [*(look_at_bytes(content) for content in contents), FileFacts("", 0, "unreadable", "is gone.")]


def test_facts_come_back_as_they_were_put_in(tmp_path):
    facts = all_facts()
    with FactTable(len(facts), tmp_path) as table:
        for position in np.random.default_rng(0).permutation(len(facts)):
            table.put(int(position), facts[position])
        assert list(table) == facts
        assert table[-1] == facts[-1]
        assert table[2:5] == facts[2:5]
        assert FactTable.of(table) is table
        assert [table.sha256(i) for i in range(len(facts))] == [each.sha256 for each in facts]
        assert [table.problem(i) for i in range(len(facts))] == [each.problem for each in facts]
        assert table.is_usable.tolist() == [each.is_usable for each in facts]
        assert table.names("mode", range(len(facts))) == [each.mode for each in facts]
        assert table.column("width").tolist() == [each.width for each in facts]
        with pytest.raises(IndexError):
            table[len(facts)]
        assert list(tmp_path.iterdir()) == []  # the file of thumbnails has no name


def test_equal_bytes_are_found_as_a_dict_finds_them():
    facts = all_facts()
    first: dict[str, int] = {}
    for position, each in enumerate(facts):
        if each.is_usable:
            first.setdefault(each.sha256, position)
    slow = [first[each.sha256] if each.is_usable else i for i, each in enumerate(facts)]
    assert FactTable.of(facts).first_of_content.tolist() == slow
    assert len(set(slow)) < len(slow)
    assert FactTable.of([]).first_of_content.tolist() == []


def test_thumbnails_are_read_at_any_places():
    facts = [each for each in all_facts() if each.is_usable]
    stored = StoredThumbnails(FactTable.of(facts), np.arange(1, len(facts)))
    array = np.stack([np.frombuffer(each.thumbnail, np.uint8).reshape(32, 32) for each in facts[1:]])
    places = np.random.default_rng(1).integers(0, len(array), 50)
    assert len(stored) == len(array)
    assert (stored[places] == array[places]).all()
    assert (stored[3:9] == array[3:9]).all()
    assert stored[places[:0]].shape == (0, 32, 32)
