"""``outnumbered apply STATE RUN``: the answers of the service go through ``update``, each exactly once.

The steps come in this order, so that a kill at any moment loses no answer and uses none twice, and the same
command goes on:

1. read the answers that no job has taken, decide about each, and write ``plan.json``: from here on the job
   has taken these answers and no others, however many come in meanwhile;
2. put the answers that are held back aside, correct labels of training images, and give the others to
   ``update``, which knows images by their digest and so adds none twice;
3. write what became of each into ``ledger.json``;
4. keep the new file beside the old one, compare both on the answers held back, on the test set and on the
   golden set, and write ``result-N.json``;
5. delete ``plan.json``.

No file is put in use: that is a person's decision.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from contracts.errors import OutnumberedError, UsageError
from contracts.files import atomic_writer, read_json, write_json
from contracts.text import number_of
from imagedata.audit.corrections import Correction, Corrections, corrections_file
from reporting.terminal import note
from service.applying import ApplyFolder, Status
from service.records import now
from service.versions import only_one
from workflow.applying.after import compare_files
from workflow.applying.plan import Taken, take_answers
from workflow.ensembling.ensemble import ensemble
from workflow.run.feedback import FeedbackImages
from workflow.run.prepared import FeedbackChangedError
from workflow.run.put_aside import AsideImage, PutAside
from workflow.run.state import Run
from workflow.settings.config import Device, RunOptions
from workflow.settings.options_file import read_options
from workflow.training.train import train_all
from workflow.updating.update import NothingUsableError, update

HELD_BACK = 0.2
"""Share of the answers of each class that is held back where nobody states another."""

_STEPS = ("reading the answers", "teaching the run", "comparing the files")


def apply(
    state: Path,
    run_folder: Path,
    *,
    who: str = "",
    share: float = HELD_BACK,
    device: Device = "auto",
    tracking: bool = True,
) -> dict[str, Any]:
    """Teach a run with the answers that wait, and compare the new file with the one in use.

    Args:
        state: folder of the service, with ``answers.sqlite``.
        run_folder: ``RUNS/DATASET/RECIPE``, trained and finished.
        who: the person.
        share: of the answers of each class that is held back and never trained, 0…0.5.
        device: to train on.
        tracking: copy figures to MLflow, as ``update`` does.

    Returns:
        The result, as ``result-N.json`` holds it: ``{job, when, who, old, new, answers, update, sets,
        sentences}``.

    Raises:
        UsageError: no store, another job is running, or no answer waits.
        OutnumberedError: whatever training and ``update`` raise; the answers stay taken, and the same
            command goes on.
    """
    files = ApplyFolder(state)
    if not files.answers.is_file():
        raise UsageError(
            f"{state}: holds no answers.sqlite. Name the folder that 'serve' keeps its answers in."
        )
    if not 0.0 <= share <= 0.5:
        raise UsageError(f"--hold-back is {share:g}; it is a share of the answers, 0 to 0.5.")
    files.folder.mkdir(parents=True, exist_ok=True)
    with only_one(files.lock, wait=False):
        files.lock.write_text(str(os.getpid()))
        job = _Job(files, replace(read_options(run_folder), device=device, tracking=tracking), who)
        # The page ends a job by a plain signal, and a person by Ctrl-C: both stop it the same way.
        with suppress(ValueError):  # in a thread
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return job.work(share)
        except KeyboardInterrupt:
            job.end("interrupted", "It was stopped. Apply goes on where it stopped.")
            raise
        except OutnumberedError as error:
            job.end("failed", str(error))
            raise
        except OSError as error:
            job.end("failed", f"{error.filename or state}: {error.strerror or error}.")
            raise


class _Job:
    """One job from its plan to its result."""

    def __init__(self, files: ApplyFolder, options: RunOptions, who: str) -> None:
        self._files, self._options, self._who = files, options, who
        is_new = not files.plan.exists()
        self._number = len(files.results()) + 1 if is_new else int(read_json(files.plan)["job"])
        self._status = Status("running", self._number, _STEPS[0], 0, len(_STEPS), now())

    def work(self, share: float) -> dict[str, Any]:
        """See :func:`apply`."""
        self._say(0)
        plan = read_json(self._files.plan) if self._files.plan.exists() else self._planned(share)
        taken = [Taken(**each) for each in plan["answers"]]
        self._say(1)
        outcomes, updated = self._teach(taken)
        self._keep_outcomes(taken, outcomes)
        self._say(2)
        result = self._compared(plan, taken, outcomes, updated)
        write_json(self._files.result(self._number), result)
        # Last: without a plan the answers are done with.
        self._files.plan.unlink()
        self.end("finished", result["sentences"][0])
        return result

    def end(self, state: Any, sentence: str) -> None:
        """Say how the job ended."""
        self._files.write_status(replace(self._status, state=state, sentence=sentence))

    def _say(self, step: int) -> None:
        self._status = replace(self._status, step=_STEPS[step], done=step)
        self._files.write_status(self._status)

    # ---- 1: what is taken

    def _planned(self, share: float) -> dict[str, Any]:
        run = self._run()
        run.require_ensemble()
        taken = take_answers(self._files, run.config, run.data, share, run.config.seed)
        if not taken:
            raise UsageError(
                "apply: no answer waits. Answer some images with normal or minority first; those that were "
                "applied before are not applied again."
            )
        versions = self._files.versions
        in_use = versions.read().in_use
        if in_use is None:
            in_use = versions.add(run.model, "start")
            versions.use(in_use, who=self._who or "apply")
        plan = {
            "job": self._number,
            "when": now(),
            "who": self._who,
            "old": in_use,
            "answers": [asdict(each) for each in taken],
        }
        write_json(self._files.plan, plan)
        return plan

    def _run(self) -> Run:
        """The run with readable rows; an update that was interrupted is trained to its end first."""
        run = Run.open(self._options)
        try:
            _ = run.data
        except FeedbackChangedError:
            train_all(self._options)
            run = Run.open(self._options)
        return run

    # ---- 2: teaching

    def _teach(self, taken: Sequence[Taken]) -> tuple[dict[str, tuple[str, str]], dict[str, Any] | None]:
        """What becomes of each image, as outcome and reason; and the document of ``update``, if any."""
        run = self._run()
        corrected = self._correct(run, [each for each in taken if each.role == "correct"])
        held = self._put_aside(run, [each for each in taken if each.role == "hold_back"])
        outcomes: dict[str, tuple[str, str]] = dict.fromkeys(corrected, ("corrected", ""))
        outcomes |= {row.sha256: ("held_back", "") for row in held}
        teach = [each for each in taken if each.role == "teach"]
        if teach and len(run.config.spec.classes) > 2:
            # Of several classes "normal" is none.
            several = "the run has several classes, and which one is meant is not known"
            outcomes |= {each.image: ("refused", several) for each in teach if each.answer == "normal"}
            teach = [each for each in teach if each.answer != "normal"]
        if corrected:
            train_all(self._options)
            # update goes on from a finished ensemble only.
            ensemble(self._options)
        updated = None
        if teach:
            try:
                updated = update(self._options, *self._given(run, teach), held)
                refused = {Path(each["path"]).resolve(): each["reason"] for each in updated["skipped"]}
            except NothingUsableError as error:
                refused = {each.file.resolve(): each.reason for each in error.given}
            added = {row.sha256: row.label for row in FeedbackImages.read(run.folder).rows}
            for each in teach:
                reason = refused.get(self._place(run, each).resolve(), "")
                is_in = added.get(each.image) == each.label and not reason
                outcomes[each.image] = ("applied", "") if is_in else ("refused", reason or "it was not added")
        if updated is None:
            self._keep_aside(run, held)
            self._finish()
        return outcomes, updated

    def _finish(self) -> None:
        """Train and fit what corrected labels, or images that left training, have changed."""
        self._run()
        ensemble(self._options)

    def _correct(self, run: Run, taken: Sequence[Taken]) -> list[str]:
        """Keep answers about training images of a labelled set beside the others that people gave."""
        if not taken:
            return []
        config, rows = run.config, {row.sha256: row for row in run.data.manifest.usable("train")}
        place = corrections_file(config.options.runs, config.spec.name, config.spec.corrections)
        answers = [
            Correction(
                each.image,
                rows[each.image].path,
                each.label,
                rows[each.image].listed_label or rows[each.image].label,
            )
            for each in taken
        ]
        Corrections.read(place).with_answers(answers).write(place)
        return [each.image for each in taken]

    def _put_aside(self, run: Run, taken: Sequence[Taken]) -> list[AsideImage]:
        """Copy what is held back into the run folder; the list of it is written by ``update``."""
        aside = PutAside(run.folder, "held_back")
        rows = []
        for each in taken:
            name = f"{each.image}{Path(each.file).suffix}"
            if not (aside.copies / name).exists():
                with atomic_writer(aside.copies / name) as handle:
                    handle.write(Path(each.file).read_bytes())
            rows.append(AsideImage(each.image, each.label, each.kind, "", each.file, name))
        return rows

    def _keep_aside(self, run: Run, held: Sequence[AsideImage]) -> None:
        """Write the list where no ``update`` does."""
        aside = PutAside.read(run.folder, "held_back")
        there = {row.sha256 for row in aside.rows}
        more = [row for row in held if row.sha256 not in there]
        if more:
            PutAside(run.folder, "held_back", (*aside.rows, *more)).write()

    def _given(self, run: Run, teach: Sequence[Taken]) -> tuple[list[Path] | None, list[Path] | None]:
        """Files or folders for ``--normal`` and ``--missed``; None where there are none."""
        places: dict[str, list[Path]] = {"normal": [], "minority": []}
        for each in teach:
            places[each.answer].append(self._place(run, each))
        if run.config.spec.group is not None:
            staged = self._files.folder / "staged"
            shutil.rmtree(staged, ignore_errors=True)
            for each in teach:
                target = self._place(run, each)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(each.file, target)
            places = {answer: [staged / answer] if found else [] for answer, found in places.items()}
        return places["normal"] or None, places["minority"] or None

    def _place(self, run: Run, each: Taken) -> Path:
        """Where ``update`` reads an image: at a path like the data set's own where groups are read there."""
        if run.config.spec.group is None:
            return Path(each.file)
        path = Path(each.path.replace("\0", ""))
        # The digest keeps two images of one name apart, in the name alone, so that folders stay as they are.
        return (
            self._files.folder
            / "staged"
            / each.answer
            / path.parent
            / f"{path.stem[:200]}-{each.image[:8]}{path.suffix}"
        )

    # ---- 3 and 4: what became of it

    def _keep_outcomes(self, taken: Sequence[Taken], outcomes: dict[str, tuple[str, str]]) -> None:
        entries = self._files.entries()
        known = {(each["image"], each["answer"]) for each in entries}
        for each in taken:
            outcome, reason = outcomes[each.image]
            if (each.image, each.answer) not in known:
                entries.append(
                    {
                        "image": each.image,
                        "answer": each.answer,
                        "label": each.label,
                        "outcome": outcome,
                        "reason": reason,
                        "job": self._number,
                    }
                )
        write_json(self._files.ledger, {"format": 1, "entries": entries})
        shutil.rmtree(self._files.folder / "staged", ignore_errors=True)

    def _compared(
        self,
        plan: dict[str, Any],
        taken: Sequence[Taken],
        outcomes: dict[str, tuple[str, str]],
        updated: dict[str, Any] | None,
    ) -> dict[str, Any]:
        run = Run.open(self._options)
        versions = self._files.versions
        new = versions.add(run.model, f"apply {self._number}")
        old_file, new_file = versions.path_of(plan["old"]), versions.path_of(new)

        def tell(what: str) -> None:
            self._files.write_status(replace(self._status, step=f"comparing the files on {what}"))

        scores = self._files.folder / "scores"
        sets = compare_files(run, old_file, new_file, scores, tell)
        shutil.rmtree(scores, ignore_errors=True)
        counts = {
            what: sum(outcomes[each.image][0] == what for each in taken)
            for what in ("applied", "corrected", "held_back", "refused")
        }
        refused = [
            {"image": each.image, "path": each.path, "reason": outcomes[each.image][1]}
            for each in taken
            if outcomes[each.image][0] == "refused"
        ]
        taught = counts["applied"] + counts["corrected"]
        sentences = [
            f"Of {number_of(len(taken), 'answer')}, {taught} taught the run, {counts['held_back']} are held "
            f"back to judge files by, and {counts['refused']} could not be used."
        ]
        if plan["old"] == new:
            sentences.append("The new file is the one in use: nothing that decides scores has changed.")
        for sentence in sentences:
            note(sentence)
        return {
            "job": self._number,
            "when": now(),
            "who": plan["who"],
            "old": plan["old"],
            "new": new,
            "answers": counts,
            "refused": refused,
            "regime": run.data.regime,
            "measured": run.document["measured"],
            "figures": {} if updated is None else updated["figures"],
            "sets": sets,
            "sentences": sentences,
        }
