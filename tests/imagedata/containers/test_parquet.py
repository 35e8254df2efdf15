"""Rows and images of parquet files: what a column may hold, and what is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagedata.containers import archive_stream
from imagedata.containers.parquet import (
    BrokenTableError,
    ParquetImages,
    holds_images,
    image_of_cell,
    parquet_rows,
    require_plausible_size,
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.binary(), True),
        (pa.large_binary(), True),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), True),
        (pa.struct([("bytes", pa.string())]), False),
        (pa.struct([("path", pa.string())]), False),
        (pa.string(), False),
        (pa.int64(), False),
    ],
)
def test_types_of_columns_of_images(kind, expected):
    assert holds_images(kind) is expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [(b"x", b"x"), ({"bytes": b"x", "path": "a"}, b"x"), ({"bytes": None}, None), ("x", None)],
)
def test_image_of_a_cell(cell, expected):
    assert image_of_cell(cell) == expected


def test_rows_come_in_any_order_across_row_groups(tmp_path):
    images = [bytes([number]) * 9 for number in range(50)]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", row_group_size=20)
    reader = ParquetImages(str(tmp_path / "a.parquet"), "image")
    for row in (0, 49, 18, 19, 20, 3):
        assert reader.read(row) == images[row]
    reader.close()
    assert [row["image"] for row in parquet_rows(tmp_path / "a.parquet", ["image"], of_images=True)] == images


def test_claims_beyond_the_size_are_refused(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [bytes(9 << 20)]}), tmp_path / "a.parquet", compression="zstd")
    require_plausible_size(tmp_path / "a.parquet")  # the slack allows it
    monkeypatch.setattr(archive_stream, "RATIO_SLACK", 1 << 20)
    with pytest.raises(BrokenTableError, match="far more than its size allows"):
        require_plausible_size(tmp_path / "a.parquet")


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1xxxxPAR1")
    with pytest.raises(BrokenTableError):
        list(parquet_rows(tmp_path / "a.parquet", ["image"]))
