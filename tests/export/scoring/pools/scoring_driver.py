"""A run of the batch scorer as a process of its own, which tests kill, interrupt and sabotage.

Workers import this file again when they start, so the sabotage below reaches them too.

Usage: python scoring_driver.py MODEL IMAGES OUTPUT OPTIONS(JSON). Prints the summary as JSON.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from contracts.errors import OutnumberedError
from export.scoring import score_images, shard
from imagedata.decoding.decode import read_image_bytes
from tests.signals import listen_to_interrupts

MODEL, IMAGES, OUTPUT = (Path(argument) for argument in sys.argv[1:4])
OPTIONS = json.loads(sys.argv[4])


def deadly_read(path: Path) -> bytes:
    """Die of images whose name says so: "killer" always, "moody" only the first time; or take for ever."""
    if OPTIONS.get("slow") == path.name:
        time.sleep(60)
    if "killer" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "moody" in path.name and not (was_here := OUTPUT.parent / "moody-was-here").exists():
        was_here.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return read_image_bytes(path)


shard.read_image_bytes = deadly_read
if OPTIONS.get("die_at_start") and __name__ == "__mp_main__":
    os._exit(9)


def on_progress(done: int, failed: int, total: int) -> None:
    """Act once a given number of images is done."""
    workers = [child.pid for child in multiprocessing.active_children()]
    (OUTPUT.parent / "workers.json").write_text(json.dumps(workers))
    if done >= OPTIONS.get("kill_worker_after", total + 1) and not OPTIONS.get("killed"):
        OPTIONS["killed"] = True
        os.kill(workers[0], signal.SIGKILL)
    if done >= OPTIONS.get("vanish_after", total + 1):
        (IMAGES / OPTIONS["vanish"]).unlink(missing_ok=True)
    if done >= OPTIONS.get("cut_after", total + 1):
        os.truncate(IMAGES, OPTIONS["cut_to"])
    if done >= OPTIONS.get("kill_after", total + 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if done >= OPTIONS.get("interrupt_after", total + 1):
        os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Score as told."""
    if limit := OPTIONS.get("largest_file"):  # inherited by the workers; more is refused like a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        summary = score_images(
            MODEL,
            [IMAGES],
            OUTPUT,
            processes=OPTIONS.get("processes"),
            shard_size=OPTIONS.get("shard_size", 16),
            on_progress=on_progress,
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except OutnumberedError as error:
        print(error, file=sys.stderr)
        sys.exit(int(error.exit_code))
    heavy = [name for name in ("torch", "onnx", "pandas", "sklearn", "torchvision") if name in sys.modules]
    print(json.dumps(asdict(summary) | {"output": str(summary.output), "heavy": heavy}))


if __name__ == "__main__":
    listen_to_interrupts()
    main()
