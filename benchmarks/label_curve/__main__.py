"""``python -m benchmarks.label_curve`` is ``python -m benchmarks label-curve``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["label-curve", *sys.argv[1:]]))
