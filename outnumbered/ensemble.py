"""One run seen from Python: what the commands do, on the same run folder and with the same functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from contracts.errors import ModelError, UsageError
from contracts.packages import missing_training_as_error
from contracts.rows import ImageArray
from outnumbered.sources import dataset_of, overrides_of
from outnumbered.tables import in_order, metrics_table, pandas, scores_table
from workflow.settings.config import RunOptions
from workflow.settings.options_file import read_options

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from export.scoring.plan import Override
    from outnumbered.sources import Place, Source
    from workflow.run.state import Run


class Ensemble:
    """A trained and fused run. Made by :meth:`fit`, or opened again by :meth:`load`.

    It holds nothing but the options that name its run folder, so that the command line and several programs
    may work on the same run one after another. What the commands print is printed here, too: at a terminal on
    stderr, in a notebook below the cell.

    The examples run in a folder that holds ``parts/train`` and ``parts/test``, each with the folders ``fine``
    and ``scratched``, and a recipe ``tiny.yaml``; without ``recipe=`` it is ``quick``.

    >>> from outnumbered import Ensemble, Scorer
    >>> ensemble = Ensemble.fit("parts", minority="scratched", recipe="tiny.yaml")
    >>> ensemble
    Ensemble('runs/parts/tiny')

    How good it is, with 95 % intervals, and against the calibrated baseline:

    >>> auroc = ensemble.metrics.loc[("ensemble", "auroc")]
    >>> bool(auroc["low"] <= auroc["value"] <= auroc["high"])
    True

    What it says of images, one row each:

    >>> table = ensemble.score("parts/test/scratched")
    >>> len(table), list(table.columns[:5])
    (10, ['path', 'probability', 'p_normal', 'p_minority', 'decision'])

    One file, which needs none of this to be scored with:

    >>> file = ensemble.export("parts.onnx")
    >>> [result] = Scorer(file).score_files(["parts/test/scratched/000.png"])
    >>> abs(result.probability - float(table["probability"][0])) < 1e-6
    True
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    @classmethod
    @missing_training_as_error()
    def fit(
        cls,
        source: Source,
        *,
        minority: str | None = None,
        recipe: Place = "quick",
        labels: Sequence[Any] | None = None,
        normal: str | None = None,
        unlabelled: bool = False,
        name: str | None = None,
        data: Place | None = None,
        runs: Place = "runs",
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        jobs: int = 1,
        tracking: bool = False,
        **overrides: Any,
    ) -> Self:
        """Train every member, fuse them, measure and export: ``train-all`` and ``ensemble`` in one call.

        The run folder is the command line's, and so is resuming: a call that was interrupted goes on where it
        stopped, and one that was not trains nothing.

        >>> again = Ensemble.fit("parts", minority="scratched", recipe="tiny.yaml", folds=3)
        >>> again.metrics.equals(ensemble.metrics)  # the recipe has three folds: nothing was trained
        True

        Args:
            source: a folder with one folder per class; a list file, a YAML spec or a name of the catalogue; a
                sequence of image files; or a DataFrame with a column ``path`` and, as far as they are known,
                ``label``, ``group`` (patient, lot) and ``split`` (train, val, test).
            minority: name of the minority class, where it is not obvious.
            recipe: name of a recipe, or a YAML file.
            labels: class of each file, where ``source`` is a sequence of files; None where nobody knows them.
            normal: name of the class whose images are normal, all others being the minority.
            unlabelled: take all images, and use no label.
            name: of the data set, where ``source`` is a sequence or a table, which is written to
                ``RUNS/lists/NAME.csv``; None for one that follows from the content.
            data: directory that holds the data sets of the catalogue.
            runs: directory for runs and cached features.
            seed: of everything random.
            device: where to train.
            jobs: training processes. More than one import the calling program again, so it must then begin
                its work below ``if __name__ == "__main__":``.
            tracking: copy the figures to MLflow, as the command line does by default.
            **overrides: any key of the data set's spec or of the recipe, as ``-o KEY=VALUE`` takes it; a
                mapping for keys within keys: ``backbone={"image_size": 320}``. Unknown keys are refused.

        Raises:
            UsageError: anything named does not exist or cannot be.
            DataError: the images do not allow it.
            ModelError: a member or the export fails.
        """
        from workflow.ensembling.ensemble import ensemble
        from workflow.training.train import train_all

        options = RunOptions(
            dataset=dataset_of(source, labels, name, Path(runs)),
            data=None if data is None else Path(data),
            recipe=os.fspath(recipe),
            overrides=overrides_of(overrides),
            runs=Path(runs),
            seed=seed,
            device=device,
            minority=minority,
            normal=normal,
            unlabelled=unlabelled,
            tracking=tracking,
            jobs=jobs,
        )
        train_all(options)
        ensemble(options)
        return cls(options)

    @classmethod
    def load(
        cls, run: Place, *, source: Place | None = None, data: Place | None = None, tracking: bool = False
    ) -> Self:
        """Open a run folder again, whoever made it: this class or the command line.

        >>> Ensemble.load("runs/parts/tiny").metrics.equals(ensemble.metrics)
        True

        Args:
            run: ``RUNS/DATASET/RECIPE``.
            source: where the data set lies now, if it was moved; its folder or list must keep its name.
            data: directory that holds the data sets of the catalogue, if that was moved.
            tracking: as in :meth:`fit`.

        Raises:
            ModelError: no run folder, or one of a version that kept no options.
        """
        options = replace(read_options(Path(run)), tracking=tracking, jobs=1)
        if source is not None:
            options = replace(options, dataset=os.fspath(source))
        if data is not None:
            options = replace(options, data=Path(data))
        return cls(options)

    def __repr__(self) -> str:
        return f"Ensemble({str(self.folder)!r})"

    @property
    @missing_training_as_error()
    def folder(self) -> Path:
        """The run folder; ``docs/run-folder.md`` says what lies there."""
        return self._run.folder

    @property
    @missing_training_as_error()
    def model(self) -> Path:
        """The exported file of the run, which :class:`outnumbered.Scorer` takes.

        >>> ensemble.model.name
        'model.onnx'

        Raises:
            ModelError: a member of the ensemble has no form that a file can hold, or the file is gone.
        """
        document = self._run.document
        if "not_exported" in document:
            raise ModelError(document["not_exported"])
        path = self._run.model
        if not path.is_file():
            raise ModelError(f"{path}: the file is gone. Call export() to write it again.")
        return path

    @property
    @missing_training_as_error()
    def sentences(self) -> list[str]:
        """What the ensemble says about itself: gate, calibrator, prior, threshold.

        >>> any("threshold" in sentence for sentence in ensemble.sentences)
        True
        """
        return self._run.require_ensemble().sentences

    @property
    @missing_training_as_error()
    def metrics(self) -> pd.DataFrame:
        """Every figure of every model, on test rows, or cross-validated where there is no test set.

        One row per model and metric, which are the index; ``value`` with its 95 % interval ``low`` to
        ``high``, and ``minus_baseline``, the paired difference from the calibrated baseline, with its own.
        Empty where no minority image is labelled, because nothing can be measured then.

        >>> wide = ensemble.metrics["value"].unstack()
        >>> {"ensemble", "calibrated_baseline"} <= set(wide.index)
        True
        """
        from workflow.ensembling.ensemble import flat_metrics

        return metrics_table(flat_metrics(self._run.rows))

    def score(
        self,
        images: Place | Sequence[Place] | ImageArray | Sequence[ImageArray],
        *,
        output: Place | None = None,
        prior: Override = None,
        threshold: Override = None,
        processes: int = 1,
    ) -> pd.DataFrame:
        """Score images with the run's exported file.

        >>> import numpy as np
        >>> ensemble.score(np.zeros((2, 64, 64, 3), dtype=np.uint8)).shape[0]
        2

        Args:
            images: a folder, file, pattern, archive or parquet file, or several of them; or pictures that are
                decoded already, uint8 RGB ``[N, H, W, 3]`` or any number of ``[H, W, 3]``.
            output: folder for parquet files, in which an interrupted call is continued; None keeps the table
                alone. Of files only.
            prior: share of the minority where the images come from; None for the file's own.
            threshold: where to decide; None for the file's own.
            processes: scoring processes; see ``jobs`` of :meth:`fit`. Of files only.

        Returns:
            One row per image: ``path`` (of files), ``probability`` (``probability_<class>`` for more than
            two classes), ``p_normal``, ``p_minority``, ``decision``, ``triage`` (``PASS``, ``FAIL``,
            ``REVIEW`` or ``NOVEL``), ``score_<member>``, ``status`` and ``error``. A broken image is a row
            with the reason. Files that are named one by one keep their order.

        Raises:
            UsageError: no such file, or arrays that are no pictures.
        """
        pandas()  # before minutes of scoring
        if isinstance(images, str | os.PathLike):
            return self._score_files([images], output, prior, threshold, processes)
        if not isinstance(images, np.ndarray) and all(isinstance(each, str | os.PathLike) for each in images):
            return self._score_files(images, output, prior, threshold, processes)  # type: ignore[arg-type]
        if output is not None or processes != 1:
            raise UsageError("score: output and processes are for files. Leave them out, or name files.")
        return self._score_pictures(images, prior, threshold)  # type: ignore[arg-type]

    def _score_files(
        self,
        places: Iterable[Place],
        output: Place | None,
        prior: Override,
        threshold: Override,
        processes: int,
    ) -> pd.DataFrame:
        from export.scoring.output import read_rows
        from workflow.score import score

        model, paths = self.model, [Path(each) for each in places]
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "scores" if output is None else Path(output)
            score(
                model,
                paths,
                output=folder,
                processes=processes,
                prior=prior,
                threshold=threshold,
                keeps=output is not None,
            )
            table: pd.DataFrame = read_rows(folder).to_pandas()
        return in_order(table, [os.path.abspath(path) for path in paths])  # noqa: PTH100  # as score names them

    def _score_pictures(
        self, pictures: ImageArray | Sequence[ImageArray], prior: Override, threshold: Override
    ) -> pd.DataFrame:
        from export.scorer import Scorer
        from export.scoring.model import load_model

        scorer = Scorer(self.model, prior=prior, threshold=threshold, maps=False)
        return scores_table(scorer.score(pictures), load_model(self.model, at_first_run=True))

    @missing_training_as_error()
    def explain(self, image: Place, *, output: Place | None = None) -> Figure:
        """Show why an image got its probability: the maps, the members' shares, the nearest normal patches.

        >>> figure = ensemble.explain("parts/test/scratched/001.png")
        >>> figure.savefig("why.png")

        Args:
            image: a file.
            output: folder for the picture, which is written as well (default: ``explanations`` in the run
                folder).

        Returns:
            The picture; notebooks show it.

        Raises:
            UsageError: no such file.
            DataError: it is not an image.
        """
        from workflow.explaining.explain import explain

        self._say_what_changed()
        figures: list[Figure] = []
        explain(self._options, [Path(image)], None if output is None else Path(output), figures.append)
        return figures[0]

    @missing_training_as_error()
    def update(
        self, *, normal: Place | Sequence[Place] | None = None, missed: Place | Sequence[Place] | None = None
    ) -> pd.DataFrame:
        """Add corrected images to the run and fit again what depends on them; the file is replaced.

        Args:
            normal: folder or files that were flagged though they are normal.
            missed: folder or files of the minority that were not flagged.

        Returns:
            One row per image: ``path``, ``label``, ``probability_before`` and ``_after``, and the same of
            ``p_normal`` and ``decision``.

        Raises:
            UsageError: nothing named, or something that does not exist.
            DataError: not one image can be used.
        """
        from workflow.updating.update import update

        self._say_what_changed()
        document = update(self._options, _places(normal), _places(missed))
        table: pd.DataFrame = pandas().DataFrame(document["images"])
        return table

    @missing_training_as_error()
    def export(
        self, path: Place | None = None, *, precision: Literal["fp32", "bf16", "int8"] = "fp32"
    ) -> Path:
        """Write the ensemble as one ONNX file, which is kept only if it repeats the run's numbers.

        A folder ``deploy`` beside it holds the model card, configurations and examples.

        Args:
            path: file to write; None for ``model.onnx`` (``model.int8.onnx``) in the run folder.
            precision: ``fp32``, or a faster one that has to pass an accuracy gate.

        Returns:
            The file.

        Raises:
            ModelError: it fails its gate.
        """
        from workflow.exporting.precision import export_in

        self._say_what_changed()
        document = export_in(self._options, precision, None if path is None else Path(path))
        return Path(document["model"])

    @property
    def _run(self) -> Run:
        """The run as it is on disk now."""
        from workflow.run.state import Run

        return Run.open(self._options)

    def _say_what_changed(self) -> None:
        """One sentence where images were added or replaced since training, as the commands say it."""
        from workflow.run.changes import data_changes

        data_changes(self._options, trains=False)


def _places(given: Place | Sequence[Place] | None) -> list[Path] | None:
    if given is None:
        return None
    return [Path(given)] if isinstance(given, str | os.PathLike) else [Path(each) for each in given]
