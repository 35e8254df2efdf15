"""What a student loses against its teacher and what it saves, on the test rows; and the gate on the loss."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from contracts.errors import ModelError
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from evaluation.metrics import METRICS
from reporting.terminal import console, note
from workflow.ensembling.measuring import measure_predictions, prediction_of
from workflow.run.state import Run
from workflow.settings.config import RunConfig

TEACHER, STUDENT = "ensemble", "student"

# The gate looks at the first one.
_OF_TWO_CLASSES = ("auroc", "average_precision", "balanced_accuracy", "brier", "ece")
_OF_MORE = ("balanced_accuracy", "macro_auroc", "macro_average_precision", "brier", "ece")


def compare_with_teacher(
    run: Run, fitted: FittedEnsemble, test: ScoreTable
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Measure teacher and student on the same test rows, under the same bootstrap replicates.

    Args:
        run: the teacher's.
        fitted: the student's calibrator and threshold.
        test: the student's scores of the test rows.

    Returns:
        The student's row of a results table, and metric → ``{ensemble, student, difference}`` with
        ``difference`` [student's minus ensemble's, low, high], the 95 % interval of the paired difference.
    """
    predictions = {
        TEACHER: prediction_of("ensemble", run.fitted, run.test),
        STUDENT: prediction_of("student", fitted, test),
    }
    of_teacher, of_student = measure_predictions(run, [predictions], run.test, TEACHER)
    figures = {
        metric: {
            TEACHER: of_teacher[metric],
            STUDENT: of_student[metric],
            "difference": of_student["minus_baseline"][metric],
        }
        for metric in shown_metrics(len(test.class_names))
    }
    row = {key: value for key, value in of_student.items() if key not in {"minus_baseline", "p_values"}}
    row.pop("per_class_recall_minus_baseline", None)
    return row, figures


def shown_metrics(n_classes: int) -> tuple[str, ...]:
    """Metrics that teacher and student are compared in; the gate's first."""
    return _OF_TWO_CLASSES if n_classes == 2 else _OF_MORE


def gate(
    config: RunConfig, student: str, figures: dict[str, dict[str, Any]], most_lost: float
) -> dict[str, Any]:
    """Refuse a student that loses too much.

    Args:
        config: of the teacher's run.
        student: ``NAME@SIZE``.
        figures: as of :func:`compare_with_teacher`.
        most_lost: largest loss of the first metric that is accepted, 0…1.

    Returns:
        ``{metric, lost, most_lost}``.

    Raises:
        ModelError: more is lost; the message has the figures.
    """
    metric, of_metric = next(iter(figures.items()))
    difference, low, high = of_metric["difference"]
    # Written so that NaN is refused.
    if not -difference <= most_lost:
        title = METRICS[metric].title
        raise ModelError(
            f"{config.folder}: the student {student} is not kept: its {title} on test images is "
            f"{of_metric[STUDENT]:.4f} where the ensemble's is {of_metric[TEACHER]:.4f}, {-difference:.4f} "
            f"less (95 % interval {-high:.4f} to {-low:.4f}); --most-lost is {most_lost:g}. Its training is "
            "kept: allow more with --most-lost, train longer with --epochs, or name a larger --student."
        )
    return {"metric": metric, "lost": -difference, "most_lost": most_lost}


def print_figures(n_images: int, figures: dict[str, dict[str, Any]]) -> None:
    """Print both sides' figures and the paired difference."""
    table = Table(title=f"Student against ensemble on {n_images:,} test images")
    table.add_column("")
    for heading in ("ensemble", "student", "difference", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, of_metric in figures.items():
        difference, low, high = of_metric["difference"]
        table.add_row(
            METRICS[name].title_with_direction,
            f"{of_metric[TEACHER]:.4f}",
            f"{of_metric[STUDENT]:.4f}",
            f"{difference:+.4f}",
            f"{low:+.4f} to {high:+.4f}",
        )
    console.print(table)


def print_costs(costs: dict[str, dict[str, float]]) -> None:
    """Print the time per image and the file size of both.

    Args:
        costs: ``student`` and, where it has a file, ``ensemble`` → ``{ms, bytes}``.
    """
    table = Table(title="Cost")
    table.add_column("")
    for name in costs:
        table.add_column(name, justify="right", no_wrap=True)
    both = len(costs) == 2
    if both:
        table.add_column("", justify="right", no_wrap=True)
    for heading, key, unit, form in (("ms / image", "ms", 1.0, ".2f"), ("MB", "bytes", 1e6, ".1f")):
        cells = [f"{cost[key] / unit:{form}}" for cost in costs.values()]
        gained = [f"{costs[TEACHER][key] / costs[STUDENT][key]:.1f} times less"] if both else []
        table.add_row(heading, *cells, *gained)
    console.print(table)
    note("Milliseconds on one thread of this machine just now, the files in turn, at a batch size of 16.")
