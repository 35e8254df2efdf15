"""How every page of ``docs/results`` that a benchmark writes begins."""

from __future__ import annotations


def opening(title: str, command: str) -> list[str]:
    """Lines of the title and of the command that makes the page again, with an empty one behind them."""
    return [f"# {title}", "", "Made by", "", "```sh", command, "```", ""]
