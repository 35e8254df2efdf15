"""``serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import answers


@answers()
def serve(
    model: Annotated[Path, typer.Argument(help="An exported ONNX file.", show_default=False)],
    run: Annotated[
        Path | None, typer.Option("--run", help="The file's run folder, for explanations of single images.")
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option("--watch", help="Folder whose new images are scored, may be repeated."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Folder of answers and images (default: MODEL.service)."),
    ] = None,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on. Other machines need --token-file."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token (default: the store's own)."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Further host name of the service, may be repeated.")
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="Images over HTTP that are kept: review (FAIL, too), all or none.")
    ] = "review",
    webhook: Annotated[
        str | None, typer.Option("--webhook", help="Address that is told of each FAIL and NOVEL.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Scoring processes (default: one per core).")
    ] = None,
) -> Any:
    """Serve a file as a page for reviewing and over HTTP, on this machine alone unless told otherwise."""
    from workflow.serving import ServeOptions, serve

    return serve(
        ServeOptions(
            model=model,
            run=run,
            watch=tuple(watch or ()),
            store=store,
            host=host,
            port=port,
            token_file=token_file,
            names=tuple(name or ()),
            keep=keep,
            webhook=webhook,
            processes=processes,
        )
    )
