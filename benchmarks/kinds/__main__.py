"""``python -m benchmarks.kinds`` is ``python -m benchmarks kinds``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["kinds", *sys.argv[1:]]))
