"""What training will take: seconds per fit on two cores, and how many processes are worth starting."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.machine import usable_cpus
from workflow.run.copies.views import views_to_fit
from workflow.run.fits import Fit, learns_from_copies
from workflow.run.prepared import PreparedData
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import entry_of

# Pixels that a whole CNN learns from in a second on two cores: 52 images of 128 x 128.
_TUNED_PIXELS_PER_SECOND = 52 * 128 * 128
# A process imports torch for four or five seconds before it works.
_SECONDS_WORTH_SHARING = 30.0
# Each process holds its own copy of torch and a batch's activations: one to two GB.
_MOST_PROCESSES = 4


def rows_to_fit(plan: MemberPlan, data: PreparedData) -> int:
    """Number of rows that a member learns from, with copies and views, before a fold is held out."""
    copies = len(data.augmented) if learns_from_copies(plan) else 0
    return len(data.train) + copies + len(views_to_fit(data, [plan]).pairs)


def fit_seconds(plan: MemberPlan, rows: int) -> float:
    """Estimated seconds to fit a member once on ``rows`` images, by rates of a 2-core machine."""
    if trains_whole_network(plan):
        pixels = float(rows * plan.settings.epochs * plan.settings.image_size**2)
        return pixels / _TUNED_PIXELS_PER_SECOND
    return rows * entry_of(plan.type).seconds_per_row


def trains_whole_network(plan: MemberPlan) -> bool:
    """Whether the member is a whole CNN, not a head or a bank on the backbone's cached features."""
    return getattr(plan.settings, "tune", "head") == "full"


def processes_for(pending: Sequence[Fit], data: PreparedData, device: str) -> int:
    """Processes to train with when the user names no number.

    On a CPU, fits are faster side by side with one core each than one after another with all cores: small
    steps, of whole CNNs and of networks on cached features alike, keep little more than one core busy. A GPU
    serves one process at a time.

    Args:
        pending: what is to be trained.
        data: the run's rows.
        device: ``cpu`` or ``cuda``.

    Returns:
        1, or up to one process per core.
    """
    seconds = sum(fit_seconds(fit.member, rows_to_fit(fit.member, data)) for fit in pending)
    if device != "cpu" or seconds < _SECONDS_WORTH_SHARING:
        return 1
    return min(usable_cpus(), len(pending), _MOST_PROCESSES)
