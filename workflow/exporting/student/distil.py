"""``export --distil``: one small network that learns what the ensemble says, as a file of its own.

1. what the ensemble says of every training row, out of fold (:mod:`workflow.exporting.student.plan`);
2. a network that keeps to the budget, unless one is named (:mod:`workflow.exporting.student.candidates`);
3. its training on the run's own folds, interruptible as any training;
4. its calibrator and threshold, on its own out-of-fold scores, by the code that every member gets them by;
5. ensemble against student on the test rows; refused where too much is lost;
6. the file, through the parity gate; its milliseconds beside the ensemble's.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contracts.errors import ModelError, UsageError
from contracts.files import sha256_of_file, write_json
from contracts.scores import ScoreTable
from ensemble.fitted import NO_PROBABILITY, FittedEnsemble
from ensemble.pipeline import fit_single
from reporting.terminal import console, note
from workflow.ensembling.model_file import check_output, parity_sentence, write_gated
from workflow.exporting.student.gate import (
    STUDENT,
    TEACHER,
    compare_with_teacher,
    gate,
    print_costs,
    print_figures,
)
from workflow.exporting.student.plan import (
    DEFAULT_EPOCHS,
    LABEL_WEIGHT,
    MEMBER,
    StudentPlan,
    student_config,
    student_data,
)
from workflow.run.fits import Fit, FitResult, fits_of, read_result
from workflow.run.prepared import PreparedData
from workflow.run.score_tables import score_tables
from workflow.run.state import Run
from workflow.run.student_file import DEPLOY_FOLDER, DOCUMENT, FILE
from workflow.run.summary import deployment_prior
from workflow.settings.config import RunConfig, RunOptions

DEFAULT_MOST_LOST = 0.02


@dataclass(frozen=True)
class StudentRequest:
    """What the user asked of the student; None takes the default.

    Attributes:
        budget: most milliseconds per image (default: a quarter of the ensemble's).
        student: ``NAME@SIZE``, in place of a budget.
        most_lost: most test AUROC (balanced accuracy for K > 2 classes) to lose (default: 0.02).
        epochs: of the training (default: 12).
    """

    budget: float | None = None
    student: str | None = None
    most_lost: float | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class TrainedStudent:
    """A student whose fits are all trained; a :class:`workflow.ensembling.trained_system.TrainedSystem`.

    Attributes:
        config: of the run that trained it.
        data: the teacher's rows, with soft targets.
        results: cached results of its fits.
        fitted: its calibrator, prior shift and threshold.
        test: its scores of the test set.
        rows: its row of the results table, once it is measured.
        repeats: a student is trained on one.
    """

    config: RunConfig
    data: PreparedData
    results: dict[Fit, FitResult]
    fitted: FittedEnsemble
    test: ScoreTable
    rows: list[dict[str, Any]] = field(default_factory=list)
    repeats: tuple[int, ...] = (0,)


def export_student(
    options: RunOptions, request: StudentRequest, output: Path | None = None
) -> dict[str, Any]:
    """Distil the ensemble of a finished run into one network and export it.

    Args:
        options: which run.
        request: which student, and what it may lose.
        output: target; ``student.onnx`` in the run folder when not given.

    Returns:
        The document that ``export.student.json`` keeps: ``{dataset, recipe, model, bytes, sha256, parity,
        student, student_of, chosen, gate, figures, costs}``.

    Raises:
        UsageError: a student that cannot be, or none that keeps to the budget.
        ModelError: no ensemble yet, a student that collapsed or lost too much, or a file that fails its gate.
    """
    check_output(output, FILE)
    if request.student is not None and request.budget is not None:
        raise UsageError("--student and --budget: a budget chooses the student. Give only one of them.")
    if request.budget is not None and not request.budget > 0.0:
        raise UsageError(f"--budget {request.budget:g}: it must be above 0, in milliseconds per image.")
    run = Run.open(options).require_ensemble()
    _check_teacher(run)
    ensemble_file = _ensemble_file(run)
    plan, chosen = _plan(run, request, ensemble_file)
    _train(run, plan)
    student = read_student(run, plan)
    assert student is not None  # trained just now
    row, figures = compare_with_teacher(run, student.fitted, student.test)
    print_figures(len(student.test.labels), figures)
    for sentence in student.fitted.sentences:
        note(sentence)
    limit = DEFAULT_MOST_LOST if request.most_lost is None else request.most_lost
    verdict = gate(run.config, plan.name, figures, limit)
    facts = {
        "student": {"name": plan.name, **plan.to_json(), "label_weight": LABEL_WEIGHT},
        "student_of": run.key,
        "chosen": chosen,
        "gate": verdict,
        "figures": figures,
    }
    target = output or run.config.folder / FILE
    written = _write(replace(student, rows=[row]), facts, ensemble_file, target)
    document = {"dataset": run.config.spec.name, "recipe": run.config.recipe.name, **facts, **written}
    write_json(run.config.folder / DOCUMENT, document)
    return document


def read_student(run: Run, plan: StudentPlan) -> TrainedStudent | None:
    """Read a student's cached results and fit what follows from its scores; None where some are missing.

    Raises:
        ModelError: it collapsed.
        DataError: rows do not suffice for calibration or threshold.
    """
    config, data = student_config(run.config, plan), student_data(run)
    results: dict[Fit, FitResult] = {}
    for fit in fits_of(config, data, config.members):
        result = read_result(fit)
        if result is None:
            return None
        if result.collapsed:
            raise ModelError(
                f"{config.folder}: the student collapsed, {fit.label}: {result.collapsed} "
                "Name another with --student, or other --epochs."
            )
        results[fit] = result
    oof, test = score_tables(data, results, {})
    fitted = fit_single(
        oof,
        MEMBER,
        deployment_prior=deployment_prior(config, data),
        threshold_rule=config.recipe.threshold,
        triage_rule=config.recipe.triage,
        seed=config.seed,
    )
    return TrainedStudent(config, data, results, fitted, test)


def _check_teacher(run: Run) -> None:
    """Refuse a teacher that has nothing to teach, or nothing to judge the student by.

    Raises:
        UsageError: it gives no probability, or holds no test images.
    """
    if not run.fitted.has_probability:
        raise UsageError(
            f"--distil: a student learns probabilities, and this run has none. {NO_PROBABILITY} Add some "
            "with 'update --missed', then distil."
        )
    if not len(run.test.labels):
        raise UsageError(
            "--distil: a student is judged on test images, and this run holds none out. Train with "
            "-o test_share=.2, then distil."
        )


def _ensemble_file(run: Run) -> Path | None:
    """The ensemble's own file; None where it has a member that no file can hold."""
    if "not_exported" in run.document:
        note(f"{run.document['not_exported']} Its student can be exported all the same.")
        return None
    from workflow.exporting.export import float32_file

    return float32_file(run)


def _plan(
    run: Run, request: StudentRequest, ensemble_file: Path | None
) -> tuple[StudentPlan, dict[str, Any] | None]:
    """The student that is named, or the one that the budget chooses, with the figures of that choice."""
    from workflow.exporting.student.candidates import check_student, choose_student

    epochs = DEFAULT_EPOCHS if request.epochs is None else request.epochs
    n_classes = run.fitted.n_classes
    if request.student is None:
        return choose_student(n_classes, epochs, request.budget, ensemble_file)
    plan = StudentPlan.parse(request.student, epochs)
    check_student(plan, n_classes)
    return plan, None


def _train(run: Run, plan: StudentPlan) -> None:
    """Train what is not trained yet."""
    from workflow.training.train import print_members, run_fits

    config, data = student_config(run.config, plan), student_data(run)
    fits = fits_of(config, data, config.members)
    pending = [fit for fit in fits if read_result(fit) is None]
    if pending:
        note(
            f"{plan.name} learns from {len(data.train):,} training images: {LABEL_WEIGHT:.0%} the label, "
            "the rest what the ensemble says of each out of fold."
        )
        run_fits(config, data, pending)
    else:
        note(f"Nothing to train: all {len(fits)} fits of {config.folder} are there.")
    print_members(data, fits)


def _write(
    student: TrainedStudent,
    facts: dict[str, Any],
    ensemble_file: Path | None,
    target: Path,
) -> dict[str, Any]:
    """Write the file under a provisional name, time it, note the facts in it, then give it its name."""
    from export.deploy import write_deploy_folder
    from export.onnx_file import add_metadata
    from export.scoring import load_model
    from export.timing import as_timed, milliseconds_an_image

    provisional = target.with_name(f".{target.name}.untimed")
    try:
        parity, what = write_gated(student, provisional)
        files = {} if ensemble_file is None else {TEACHER: ensemble_file}
        files[STUDENT] = provisional
        with console.status("timing both files", spinner="dots"):
            taken = milliseconds_an_image({name: as_timed(load_model(path)) for name, path in files.items()})
        costs = {name: {"ms": taken[name], "bytes": path.stat().st_size} for name, path in files.items()}
        # No backbone is shared in a file of one whole network.
        add_metadata(provisional, {**facts, "costs": costs, "backbones": []})
        provisional.replace(target)
    finally:
        provisional.unlink(missing_ok=True)
    print_costs(costs)
    deployed = write_deploy_folder(load_model(target), target.parent / DEPLOY_FOLDER)
    size = target.stat().st_size
    note(f"Exported {target} ({size / 1e6:.1f} MB). {parity_sentence(parity, what)}")
    note(f"Model card, configurations and examples: {deployed[0].parent}")
    return {
        "model": str(target),
        "bytes": size,
        "sha256": sha256_of_file(target),
        "parity": {**dataclasses.asdict(parity), "compared_on": what},
        "costs": costs,
    }
