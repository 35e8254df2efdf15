"""``python -m benchmarks.watch`` is ``python -m benchmarks watch``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["watch", *sys.argv[1:]]))
