"""The metrics: one file each, found by being here.

Every module of this folder holds ``METRIC``, a :class:`evaluation.metric.Metric`. Adding a file adds a column
to every table; nothing else has to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from evaluation.metric import Metric


def _discover() -> dict[str, Metric]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Metric] = [importlib.import_module(f"{__name__}.{name}").METRIC for name in names]
    return {metric.name: metric for metric in sorted(found, key=lambda metric: metric.order)}


METRICS: Mapping[str, Metric] = _discover()
"""Every metric by name, in the order of the columns."""


def metrics_for(n_classes: int) -> dict[str, Metric]:
    """Metrics of a results table of ``n_classes`` classes, in the order of its columns."""
    return {name: metric for name, metric in METRICS.items() if metric.is_for(n_classes)}


def default_metric(n_classes: int) -> str:
    """What verdicts are about where the user names no metric.

    Average precision looks at the minority alone; of more than two classes every one counts alike.
    """
    return "average_precision" if n_classes == 2 else "balanced_accuracy"
