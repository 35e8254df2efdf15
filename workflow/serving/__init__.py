"""``serve``: the service around an exported file, with what only a run can do handed to it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from contracts.errors import UsageError, nearest_match
from contracts.machine import usable_cpus
from reporting.terminal import console
from workflow.serving.explanations import explain_by_run

_PACKAGES = ("fastapi", "uvicorn", "jinja2", "python_multipart")


@dataclass(frozen=True)
class ServeOptions:
    """What ``serve`` was asked for; see its command."""

    model: Path
    run: Path | None = None
    watch: tuple[Path, ...] = ()
    store: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    token_file: Path | None = None
    names: tuple[str, ...] = ()
    keep: str = "review"
    webhook: str | None = None
    processes: int | None = None


def serve(options: ServeOptions) -> dict[str, Any]:
    """Serve until the process is told to end.

    Args:
        options: what was asked for.

    Returns:
        ``{store, answers}``: where the answers lie, and how many images have one.

    Raises:
        UsageError: a package is missing, or an option that cannot be.
        OutnumberedError: the model or the store cannot be used.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"serve: {', '.join(missing)} not installed here. Give, in a checkout: pip install -e '.[serve]'"
        )
    from service.answers import Answers
    from service.intake import Keep
    from service.service import DATABASE, Settings
    from service.web.server import serve as run_server

    if options.keep not in get_args(Keep):
        raise UsageError(
            f"--keep {options.keep}: it is one of {', '.join(get_args(Keep))}."
            + nearest_match(options.keep, get_args(Keep))
        )
    if options.run is not None and not options.run.is_dir():
        raise UsageError(f"--run {options.run}: no such folder. Name the run's, such as runs/elpv/quick.")
    store = options.store or options.model.with_name(f"{options.model.stem}.service")
    settings = Settings(
        model=options.model,
        store=store,
        watch=options.watch,
        keep=options.keep,  # type: ignore[arg-type]  # checked above
        webhook=options.webhook,
        processes=options.processes or usable_cpus(),
        run=options.run,
        explain=partial(explain_by_run, options.run, store / "explanations") if options.run else None,
    )
    run_server(
        settings,
        host=options.host,
        port=options.port,
        token_file=options.token_file,
        names=options.names,
        announce=_announce,
    )
    answers = Answers(store / DATABASE)
    answered = len(answers.current())
    answers.close()
    return {"store": str(store), "answers": answered}


def _announce(url: str, is_open: bool) -> None:
    """Say where the page is; the address holds the token."""
    console.print(f"Open [bold]{url}[/]", soft_wrap=True, highlight=False)
    if is_open:
        console.print(
            "Other machines can reach this service, and HTTP is not encrypted: whoever listens on the "
            "network can read the token and the images. Put a proxy with TLS in front of it.",
            highlight=False,
        )
    console.print("Ctrl+C ends it; answers are on disk as soon as they are given.", highlight=False)
