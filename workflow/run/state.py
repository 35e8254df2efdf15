"""One run: what it was asked for, what of it is trained, and what its ensemble is.

Whoever asks "is this run finished, and what does it hold?" opens a :class:`Run` and reads its attributes.
Nothing is read from disk before it is asked for, and nothing twice, so a command that needs only the key of
the ensemble pays for nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from contracts.errors import ModelError
from contracts.files import digest_of, read_json, sha256_of_file, write_json
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.stacking.training_scores import filled_scores
from ensemble.unseen import UnseenKinds
from workflow.run.feedback import FeedbackImages
from workflow.run.feedback_scores import with_feedback
from workflow.run.fits import Fit, FitResult, fits_of, read_result
from workflow.run.kinds import Kinds, kind_fits_of, kinds_of_run, unseen_kinds
from workflow.run.prepared import Measured, PreparedData, load_prepared
from workflow.run.score_tables import score_tables
from workflow.run.summary import deployment_prior
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.registry import BASELINE

# Raised when the fitting or the measuring changes, so that finished ensembles are fitted again.
_ENSEMBLE_VERSION = 7


class Run:
    """A run folder, seen through the settings that are asked for now.

    Three stages follow each other, and each raises what is missing with the command that makes it:
    :attr:`data` after training has begun, :attr:`trained` and :attr:`results` after it has ended, and
    :attr:`document` with all below it after ``ensemble``.

    Args:
        config: the settings; see :meth:`open` where only the options are at hand.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @classmethod
    def open(cls, options: RunOptions) -> Self:
        """The run that command-line options name.

        Raises:
            UsageError, DataError: as :func:`workflow.settings.config.resolve_config`.
        """
        return cls(resolve_config(options))

    def with_members(self, names: Collection[str]) -> Self:
        """The same run as if its recipe had only these members."""
        members = tuple(plan for plan in self.config.members if plan.name in names)
        return type(self)(replace(self.config, members=members))

    @property
    def folder(self) -> Path:
        """Where the run keeps its files."""
        return self.config.folder

    @property
    def model(self) -> Path:
        """Where the exported file of the ensemble lies, if there is one."""
        return self.folder / "model.onnx"

    @property
    def first_look(self) -> Path:
        """Where the images to look at first are listed, if there are any."""
        return self.folder / "first_look.parquet"

    # ---- what is trained

    @cached_property
    def data(self) -> PreparedData:
        """The rows.

        Raises:
            ModelError: nothing was trained here, or with other settings.
            DataError: the images are not where they are said to be.
        """
        return load_prepared(self.config)

    @cached_property
    def every_fit(self) -> list[Fit]:
        """The fits of all repeats."""
        return fits_of(self.config, self.data, self.config.members)

    @cached_property
    def ensemble_fits(self) -> list[Fit]:
        """The fits that the ensemble and its figures depend on.

        Those of repeat 0 where the recipe selects the first and a test set judges it. Without a test set all
        repeats take part in judging.
        """
        if self.config.recipe.select == "first" and self.measured == "test_set":
            return [fit for fit in self.every_fit if fit.repeat == 0]
        return self.every_fit

    @property
    def fits(self) -> list[Fit]:
        """The fits whose results :attr:`trained` reads."""
        return self.ensemble_fits

    @cached_property
    def trained(self) -> dict[Fit, FitResult]:
        """Each fit's cached result, as training left it.

        Raises:
            ModelError: some are missing; says which members and which command trains them.
        """
        results = {fit: read_result(fit) for fit in self.fits}
        missing = list(dict.fromkeys(fit.member.name for fit, result in results.items() if result is None))
        if missing:
            # One member of several is trained alone; a recipe of a single member, too, is "all".
            alone = len(missing) == 1 < len(self.config.members)
            options = self.config.options
            command = options.command("train", missing[0]) if alone else options.command("train-all")
            raise ModelError(
                f"{self.folder}: not trained yet, or with other settings: {', '.join(missing)}. "
                f"Run: {command}"
            )
        return {fit: result for fit, result in results.items() if result is not None}

    @cached_property
    def left_out(self) -> dict[str, str]:
        """Member → why it is left out, for members that collapsed on any fold.

        Raises:
            ModelError: the calibrated baseline is among them.
        """
        reasons: dict[str, str] = {}
        for fit, result in self.trained.items():
            if result.collapsed:
                reasons.setdefault(fit.member.name, f"{fit.label}: {result.collapsed}")
        if BASELINE in reasons:
            raise ModelError(f"the calibrated baseline cannot be left out: {reasons[BASELINE]}")
        return reasons

    @cached_property
    def results(self) -> dict[Fit, FitResult]:
        """The results as the last ``update`` leaves them: final fits also score the feedback images.

        Raises:
            DataError: the copy of a feedback image is gone, and so are its features.
        """
        return with_feedback(self.config, self.data, self.trained)

    @cached_property
    def kinds(self) -> Kinds:
        """Kinds of the minority, and which fold leaves out which."""
        return kinds_of_run(self.config, self.data)

    @cached_property
    def without_kinds(self) -> dict[Fit, FitResult] | None:
        """Each fit without a kind with its result; None where ``train-all`` has not made all of them."""
        fits = kind_fits_of(self.config, self.data, self.config.members)
        results = {fit: result for fit in fits if (result := read_result(fit)) is not None}
        return results if len(results) == len(fits) else None

    @cached_property
    def unseen(self) -> UnseenKinds | None:
        """Training rows judged without their kind, of the first repeat; None where there are no such fits.

        Raises:
            ModelError: members are missing.
        """
        folds = self.kinds.folds
        if folds is None or self.without_kinds is None:
            return None
        oof, _ = self.tables_of([0])
        kept = {f: r for f, r in self.without_kinds.items() if f.member.name not in self.left_out}
        if any(result.collapsed for result in kept.values()):
            return None
        return unseen_kinds(oof, folds, kept)

    @property
    def prior(self) -> float | tuple[float, ...]:
        """Class shares where the model will work; see :func:`workflow.run.summary.deployment_prior`."""
        return deployment_prior(self.config, self.data)

    @property
    def measured(self) -> Measured:
        """On which rows the figures of the run stand."""
        return self.data.measured

    def tables_of(self, repeats: Sequence[int]) -> tuple[ScoreTable, ScoreTable]:
        """Out-of-fold and test scores of some repeats; see :func:`workflow.run.score_tables.score_tables`."""
        return score_tables(self.data, self.results, self.left_out, repeats)

    # ---- what the ensemble is

    @cached_property
    def key(self) -> str:
        """Digest of everything that the ensemble depends on."""
        return self.key_of(self.ensemble_fits)

    def key_of(self, fits: list[Fit]) -> str:
        """Digest of everything that an ensemble of these fits depends on."""
        recipe = self.config.recipe
        # Repeat 0 makes the same ensemble whether or not there are more.
        selects = recipe.select != "first" and self.data.n_repeats > 1
        selected = [recipe.select, recipe.select_by] if selects else []
        added = FeedbackImages.read(self.folder).digest
        return digest_of(
            [
                _ENSEMBLE_VERSION,
                [fit.key for fit in fits],
                recipe.threshold,
                recipe.triage,
                recipe.bootstrap,
                self.prior,
                self.config.seed,
                *selected,
                # Nothing where no update was made, so that such a run keeps the key that it had.
                *([{"added": added}] if added else []),
                # Likewise where no kind is left out, or not yet.
                *([{"kinds": [fit.key for fit in self.without_kinds]}] if self.without_kinds else []),
            ]
        )

    @property
    def finished(self) -> dict[str, Any] | None:
        """The document of the ensemble if it is fitted, measured and, where possible, exported; else None."""
        if not self._has_ensemble:
            return None
        saved = read_json(self._metrics_file)
        document: dict[str, Any] = saved["document"]
        if saved["key"] != self.key:
            return None
        # Either file may have been deleted, or the model replaced by one of another ensemble.
        if "first_look" in document and not self.first_look.exists():
            return None
        if "not_exported" in document:
            return document
        if not self.model.exists() or saved["model_sha256"] != sha256_of_file(self.model):
            return None
        return document

    @property
    def exported(self) -> Path | None:
        """The exported file, if there is one and it is this ensemble's."""
        finished = self.finished
        return None if finished is None or "not_exported" in finished else self.model

    @cached_property
    def document(self) -> dict[str, Any]:
        """What ``ensemble --json`` printed; the exported file may be missing.

        Raises:
            ModelError: no ensemble yet, or one of other members or settings; says which command to run.
        """
        command = self.config.options.command("ensemble")
        if not self._has_ensemble:
            raise ModelError(f"{self.folder}: no ensemble fitted yet. First run: {command}")
        saved = read_json(self._metrics_file)
        if saved["key"] != self.key:
            raise ModelError(
                f"{self.folder}: its ensemble was fitted on other members or with other settings. "
                f"Run: {command}"
            )
        document: dict[str, Any] = saved["document"]
        return document

    @property
    def stability(self) -> dict[str, Any] | None:
        """How much the ensemble's answers change where images hardly do; None where it is not finished.

        See :func:`workflow.ensembling.stability.measure_stability`.
        """
        finished = self.finished
        return None if finished is None else finished["stability"]

    def require_ensemble(self) -> Self:
        """Return the run itself if its ensemble is fitted.

        Raises:
            ModelError, DataError: the first thing that is missing: training before the ensemble.
        """
        _ = self.trained, self.document
        return self

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The results table: one row per model, measured on the test set."""
        rows: list[dict[str, Any]] = self.document["rows"]
        return rows

    @cached_property
    def fitted(self) -> FittedEnsemble:
        """The ensemble: stacker, calibrator, prior and threshold."""
        self.require_ensemble()
        return FittedEnsemble.from_json(read_json(self._ensemble_file))

    @cached_property
    def repeats(self) -> tuple[int, ...]:
        """The repeats whose members the ensemble is made of, from 0; more than one where they vote."""
        return tuple(self.document.get("selection", {}).get("repeats", [0]))

    @cached_property
    def tables(self) -> tuple[ScoreTable, ScoreTable]:
        """:attr:`oof` and :attr:`test`."""
        return self.tables_of(self.repeats)

    @property
    def oof(self) -> ScoreTable:
        """Out-of-fold scores that the ensemble was fitted on, complete."""
        oof = self.tables[0]
        return replace(oof, scores=filled_scores(oof))

    @property
    def test(self) -> ScoreTable:
        """Scores of the test set."""
        return self.tables[1]

    @property
    def sentences(self) -> list[str]:
        """What the fitted ensemble says about itself, for people."""
        sentences: list[str] = read_json(self._ensemble_file)["sentences"]
        return sentences

    # ---- writing it

    def keep_ensemble(self, fitted: FittedEnsemble, document: dict[str, Any]) -> None:
        """Write a fitted and measured ensemble, which counts as finished after :meth:`keep_export`."""
        write_json(self._ensemble_file, fitted.to_json())
        self.fitted, self.document = fitted, document
        self.keep_export("")

    def keep_export(self, model_sha256: str) -> None:
        """Write the document with the digest of the exported file; empty where there is none.

        This is written last: from now on the run counts as finished.
        """
        saved = {"key": self.key, "model_sha256": model_sha256, "document": self.document}
        write_json(self._metrics_file, saved)

    @property
    def _has_ensemble(self) -> bool:
        """Whether an ensemble and its figures are there; without one of both, the other is of no use."""
        return self._metrics_file.exists() and self._ensemble_file.exists()

    @property
    def _metrics_file(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def _ensemble_file(self) -> Path:
        return self.folder / "ensemble.json"
