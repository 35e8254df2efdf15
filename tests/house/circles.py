"""Import circles between files. As a script it prints them and fails: ``python tests/house/circles.py``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.house.source import imports_of, modules, place

Graph = Mapping[str, Mapping[str, int]]


def product_graph() -> dict[str, dict[str, int]]:
    """Module → modules that it imports → line of the first such import."""
    graph: dict[str, dict[str, int]] = {}
    for module in modules():
        edges = graph.setdefault(module, {})
        for found in imports_of(module):
            if found.module != module:
                edges.setdefault(found.module, found.line)
    return graph


def _way_back(graph: Graph, start: str) -> list[str] | None:
    """Shortest way from ``start`` to itself, without its end; ``None`` where there is no way."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for there in graph.get(here, {}):
            if there == start:
                way = [here]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if there not in came_from:
                came_from[there] = here
                queue.append(there)
    return None


def circles(graph: Graph) -> list[list[str]]:
    """One shortest circle through every module that lies on any; each circle once."""
    found: dict[frozenset[str], list[str]] = {}
    for module in graph:
        way = _way_back(graph, module)
        if way is not None:
            found.setdefault(frozenset(way), way)
    return list(found.values())


def described(graph: Graph, circle: list[str]) -> str:
    """The circle with the line of each import."""
    steps = zip(circle, [*circle[1:], circle[0]], strict=True)
    return "\n".join(f"{place(a, graph[a][b])}: {a} imports {b}" for a, b in steps)


def main() -> int:
    """Print all circles; 1 if there are any."""
    graph = product_graph()
    found = circles(graph)
    for circle in found:
        print(f"circle of {len(circle)} files:\n{described(graph, circle)}\n", file=sys.stderr)
    print(f"{len(graph)} files, {len(found)} import circles")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
