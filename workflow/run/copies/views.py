"""Which training images have a view to learn from, who learns from it, and what is scored beside images.

A view (:mod:`imagedata.views`) is a row to learn from beside its image, as an augmented copy is. It goes
where its image goes: a fit that does not learn from the image does not learn from its view. It is neither
scored nor counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contracts.rows import IndexArray
from imagedata.manifest_row import ManifestRow
from imagedata.views import MirrorImage, View
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import entry_of

if TYPE_CHECKING:
    from workflow.run.prepared import PreparedData

MOST_OF_A_CLASS = 300
"""Images of each class, at most, that have a view. A view costs a pass through the backbone and a row of each
fit, and what files go through on their way is learnt from a few hundred (``docs/results/views.md``)."""


class RowsWithViews(NamedTuple):
    """M views of training rows.

    Attributes:
        positions: ``[M]`` of their images among the training rows, ascending.
        pairs: each image's row with its view.
    """

    positions: IndexArray
    pairs: list[tuple[ManifestRow, View]]


def learns_from_views(plan: MemberPlan) -> bool:
    """Whether a member learns from views: its type does, in the form that reads cached features.

    The calibrated baseline does so too. Views leave its ranking as it is (``docs/results/views.md``), and
    without them it alone would make the ensemble move under changes that no eye sees.
    """
    return entry_of(plan.type).learns_from_views and plan.reads_cached_features


def views_of(config: RunConfig, train: Sequence[ManifestRow]) -> dict[str, View]:
    """Path → view of the training images that have one.

    Of a class with more images than :data:`MOST_OF_A_CLASS` a hash of their bytes decides which.
    """
    changes = config.recipe.view_changes
    if not changes or not any(map(learns_from_views, config.members)):
        return {}
    # By hash rather than by name, so that renaming files changes no view.
    in_order = sorted(train, key=lambda row: hashlib.sha256(f"viewed|{row.sha256}".encode()).hexdigest())
    viewed: dict[str, View] = {}
    count: dict[str, int] = {}
    for row in in_order:
        count[row.label] = count.get(row.label, 0) + 1
        if count[row.label] <= MOST_OF_A_CLASS:
            viewed[row.path] = View(row.sha256, changes)
    return viewed


def views_to_fit(data: PreparedData, plans: Iterable[MemberPlan]) -> RowsWithViews:
    """The views that some of the members learn from, none where none of them does."""
    if not any(map(learns_from_views, plans)):
        return RowsWithViews(np.empty(0, dtype=np.int64), [])
    positions = [i for i, row in enumerate(data.train) if row.path in data.views]
    pairs = [(data.train[i], data.views[data.train[i].path]) for i in positions]
    return RowsWithViews(np.array(positions, dtype=np.int64), pairs)


def key_of_views(data: PreparedData) -> list[Any]:
    """All that fits depend on of the views of training rows that are given; empty where there are none."""
    digests = sorted(data.views[row.path].digest for row in data.train if row.path in data.views)
    return [{"views": hashlib.sha256("|".join(digests).encode()).hexdigest()[:16]}] if digests else []


def views_to_score(config: RunConfig, rows: Iterable[ManifestRow]) -> list[tuple[ManifestRow, MirrorImage]]:
    """Each row with what is scored beside its image; none where images are seen as they are alone."""
    if config.recipe.views_at_scoring == "none":
        return []
    return [(row, MirrorImage(row.sha256)) for row in rows]


def views_of_run(
    config: RunConfig, data: PreparedData, plans: Iterable[MemberPlan]
) -> list[tuple[ManifestRow, View | MirrorImage]]:
    """All that the training of some members reads beside images and copies: to learn from, and to score."""
    return [*views_to_fit(data, plans).pairs, *views_to_score(config, [*data.train, *data.test])]
