"""Charts as inline SVG: no script, no font of its own, colours of the page in light and dark.

Each has a title and a sentence for whoever cannot see it; the page shows the same numbers in a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

_W, _H = 520, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 26
_MOST_TICKS = 6
_WIDEST_BAR = 34.0


def share_chart(
    days: Sequence[str], shares: Sequence[tuple[float, float, float] | None], label: str
) -> Markup:
    """Estimated shares with their intervals, day by day; gaps where there is no figure.

    Args:
        days: dates.
        shares: value, low and high of each day; None for none.
        label: what it shows, in a sentence.
    """
    top = _ceiling(max((each[2] for each in shares if each), default=0.01))
    parts = [_frame(days, top, percent=True)]
    for at, each in enumerate(shares):
        if each is not None:
            value, low, high = each
            x = _x(at, len(days))
            parts.append(
                Markup('<line class="range minority" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                    x, _y(low, top), _y(high, top)
                )
            )
            parts.append(
                Markup('<circle class="minority-fill" cx="{}" cy="{}" r="4"/>').format(x, _y(value, top))
            )
    return _svg(parts, label)


def bars(
    days: Sequence[str], stacks: Sequence[Sequence[float]], classes: Sequence[str], label: str
) -> Markup:
    """Stacked counts, day by day.

    Args:
        days: dates.
        stacks: the counts of each day, one per class, from below.
        classes: classes of the style sheet, one per part of a stack.
        label: what it shows, in a sentence.
    """
    top = _ceiling(max((sum(stack) for stack in stacks), default=1.0))
    width = min(_WIDEST_BAR, 0.7 * (_W - _LEFT - _RIGHT) / max(1, len(days)))
    parts = [_frame(days, top)]
    for at, stack in enumerate(stacks):
        below = 0.0
        for count, name in zip(stack, classes, strict=True):
            if count:
                y = _y(below + count, top)
                parts.append(
                    Markup('<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="{:.1f}"/>').format(
                        name, _x(at, len(days)) - width / 2, y, width, _y(below, top) - y
                    )
                )
                below += count
    return _svg(parts, label)


def evidence(more: Sequence[float], fewer: Sequence[float], limit: float, label: str) -> Markup:
    """The two sums of the CUSUM over answers, and their limit."""
    top = _ceiling(max(limit, *more, *fewer))
    count = len(more)
    names = [f"answer {at}" for at in range(1, count + 1)]
    parts = [_frame(names, top)]
    y = _y(limit, top)
    parts.append(
        Markup('<line class="limit" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _W - _RIGHT, y, y)
    )
    for values, name in ((more, "minority"), (fewer, "normal")):
        points = " ".join(f"{_x(at, count)},{_y(value, top)}" for at, value in enumerate(values))
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(name, points))
    return _svg(parts, label)


def _svg(parts: Sequence[Markup], label: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _W, _H, label, Markup("").join(parts)
    )


def _frame(names: Sequence[str], top: float, *, percent: bool = False) -> Markup:
    """Lines at round values, and the names of some places below."""
    parts = []
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        shown = f"{value:.1%}" if percent and top < 0.1 else f"{value:.0%}" if percent else f"{value:g}"
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(_LEFT, _W - _RIGHT, y, y, _LEFT - 6, y + 4, shown)
        )
    step = max(1, math.ceil(len(names) / _MOST_TICKS))
    for at in range(0, len(names), step):
        # Of a date the year is known.
        name = names[at][5:] if names[at][:2] == "20" else names[at]
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                min(max(_x(at, len(names)), _LEFT + 16), _W - _RIGHT - 26), _H - 8, escape(name)
            )
        )
    return Markup("").join(parts)


def _x(at: int, count: int) -> float:
    return round(_LEFT + (at + 0.5) * (_W - _LEFT - _RIGHT) / max(1, count), 1)


def _y(value: float, top: float) -> float:
    return round(_H - _BOTTOM - value / top * (_H - _TOP - _BOTTOM), 1)


def _ceiling(value: float) -> float:
    """A round number at or above a value."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1.0, 2.0, 4.0, 5.0, 10.0) if step * unit >= value * 0.999)
