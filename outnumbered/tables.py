"""Tables as callers get them. pandas comes with the extra ``train``; nothing else here needs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from contracts.packages import missing_training_as_error
from export.scoring.shard import columns_of

if TYPE_CHECKING:
    import pandas as pd

    from export.scorer import ImageScore
    from export.scoring.model import ScoringModel

METRIC_COLUMNS = (
    "value",
    "low",
    "high",
    "minus_baseline",
    "minus_baseline_low",
    "minus_baseline_high",
)


@missing_training_as_error()
def pandas() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    import pandas

    return pandas


def metrics_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row per model and metric, which are its index.

    Args:
        rows: as :func:`workflow.ensembling.ensemble.flat_metrics` gives them.
    """
    table = pandas().DataFrame(rows, columns=["name", "metric", *METRIC_COLUMNS])
    found: pd.DataFrame = table.rename(columns={"name": "model"}).set_index(["model", "metric"])
    return found


def scores_table(scores: Iterable[ImageScore], model: ScoringModel) -> pd.DataFrame:
    """The columns that ``score`` writes, without ``path``, of images that have none.

    Args:
        scores: one per image.
        model: what gave them.
    """
    schema = columns_of(model)
    probabilities = [name for name in schema.names if name.startswith("probability")]
    rows = []
    for score in scores:
        # Whatever else a file gives of an image is called the same in both places.
        row: dict[str, Any] = {name: getattr(score, name, None) for name in schema.names}
        row["status"] = "ok" if score.error is None else "failed"
        if score.probabilities is not None:
            row.update(zip(probabilities, score.probabilities[-len(probabilities) :].tolist(), strict=True))
        if score.member_scores is not None:
            names = [f"score_{member}" for member in model.members]
            row.update(zip(names, score.member_scores.tolist(), strict=True))
        rows.append(row)
    pandas()
    # By way of Arrow, so that the types are those of the rows that files get.
    table = pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("path")))
    found: pd.DataFrame = table.to_pandas()
    return found


def in_order(table: pd.DataFrame, paths: Sequence[str]) -> pd.DataFrame:
    """Rows in the order in which images were named, where every row is one of them; else as they are.

    Args:
        table: with a column ``path``.
        paths: absolute; one named twice gets two rows.
    """
    if set(paths) != set(table["path"]):
        return table  # folders, patterns or archives among them
    found: pd.DataFrame = table.set_index("path").loc[list(paths)].reset_index()
    return found
