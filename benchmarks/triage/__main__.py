"""``python -m benchmarks.triage`` is ``python -m benchmarks triage``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["triage", *sys.argv[1:]]))
