"""The out-of-fold score table: what the ensemble may learn from, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.member import MemberKind, ScoreMeaning
from contracts.rows import FloatArray, LabelArray


@dataclass(frozen=True)
class ScoreColumn:
    """One column of a score table: which member it is from and what its numbers mean."""

    member: str
    kind: MemberKind
    meaning: ScoreMeaning
    class_name: str | None = None

    @property
    def name(self) -> str:
        """``member`` for two classes, ``member:class`` for more."""
        return self.member if self.class_name is None else f"{self.member}:{self.class_name}"


@dataclass(frozen=True)
class ScoreTable:
    """Scores of N rows by M columns, frozen.

    Attributes:
        row_ids: ``[N]`` manifest paths, the rows' identities.
        labels: ``[N]`` class index, minority last.
        fold_of_row: ``[N]`` fold that held the row out; -1 for test rows.
        groups: ``[N]`` group index (patient, lot, duplicate cluster); equal numbers belong together.
        columns: M columns in a fixed order.
        scores: ``[N, M]`` float32; NaN where no fold held the row out.
        class_names: K names, minority last.
        manifest_digest: digest of the manifest that the rows came from.
    """

    row_ids: npt.NDArray[np.str_]
    labels: LabelArray
    fold_of_row: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    columns: tuple[ScoreColumn, ...]
    scores: FloatArray
    class_names: tuple[str, ...]
    manifest_digest: str

    def __post_init__(self) -> None:
        """Hold the table to its shape and make its arrays read-only."""
        n_rows = len(self.row_ids)
        for name, length in (
            ("labels", len(self.labels)),
            ("fold_of_row", len(self.fold_of_row)),
            ("groups", len(self.groups)),
            ("scores", self.scores.shape[0]),
        ):
            if length != n_rows:
                raise ModelError(f"score table: {n_rows} row ids but {length} {name}.")
        if self.scores.shape[1] != len(self.columns):
            raise ModelError(
                f"score table: {self.scores.shape[1]} score columns but {len(self.columns)} names."
            )
        for array in (self.labels, self.fold_of_row, self.groups, self.scores):
            # Tables are shared between fits; a write into one would silently change another's rows.
            array.setflags(write=False)

    @property
    def member_names(self) -> tuple[str, ...]:
        """Distinct members in column order."""
        return tuple(dict.fromkeys(column.member for column in self.columns))

    def rows(self, mask: npt.NDArray[np.bool_]) -> ScoreTable:
        """The rows where ``mask`` ``[N]`` is true, in their order."""
        return replace(
            self,
            row_ids=self.row_ids[mask],
            labels=self.labels[mask],
            fold_of_row=self.fold_of_row[mask],
            groups=self.groups[mask],
            scores=self.scores[mask],
        )

    def require_complete(self) -> None:
        """Refuse NaN: a score is missing or a member gave none, and 0 would be a lie.

        Raises:
            ModelError: naming the first column and the number of rows affected.
        """
        missing = np.isnan(self.scores)
        if missing.any():
            column = int(np.flatnonzero(missing.any(axis=0))[0])
            count = int(missing[:, column].sum())
            raise ModelError(
                f"scores of '{self.columns[column].name}': {count} of {len(self.row_ids)} rows have none. "
                "Train the member on every fold first (train-all does)."
            )
