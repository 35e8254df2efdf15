"""``python -m benchmarks.fusion`` is ``python -m benchmarks fusion``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["fusion", *sys.argv[1:]]))
