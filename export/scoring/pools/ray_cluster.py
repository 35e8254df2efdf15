"""A Ray cluster to work on: this machine for the time of a command, or one that runs already.

Ray runs whatever it is sent, for anyone who reaches its ports. So a cluster elsewhere is joined only with
token authentication, and one of our own listens on this machine alone.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contracts.errors import ModelError, UsageError
from contracts.machine import usable_cpus

LOCAL = "local"
"""Address that stands for a cluster on this machine, started now and ended with the command."""

_TOKEN_MODE = "RAY_AUTH_MODE"


@contextmanager
def ray_cluster(address: str) -> Iterator[Any]:
    """Join a cluster until the block ends.

    Args:
        address: :data:`LOCAL`, ``auto`` for one that runs on this machine, or ``HOST:PORT`` of its head.

    Yields:
        The ``ray`` package, connected.

    Raises:
        UsageError: Ray is not installed, or a cluster elsewhere without token authentication.
        ModelError: there is no cluster at the address, or it cannot be joined.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--ray: Ray is not installed. Give: pip install 'outnumbered[cluster]'")
    if address != LOCAL and os.environ.get(_TOKEN_MODE, "").lower() != "token":
        raise UsageError(
            f"--ray {address}: a Ray cluster runs whatever anyone sends it, so it is joined only with token "
            f"authentication. Set {_TOKEN_MODE}=token and the cluster's token (RAY_AUTH_TOKEN_PATH) here "
            "and where it was started, or use --ray local."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for reports to its makers
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    already = ray.is_initialized()
    try:
        if already:
            pass
        elif address == LOCAL:
            os.environ.setdefault(_TOKEN_MODE, "disabled")  # it listens on this machine alone
            here: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
            ray.init(num_cpus=usable_cpus(), **here, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"--ray {address}: the cluster cannot be joined ({reason}). Start one with 'ray start --head', "
            "or use --ray local."
        ) from error
    try:
        yield ray
    finally:
        if not already:
            ray.shutdown()
