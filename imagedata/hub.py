"""Data sets by their name on Hugging Face's hub: fetched once into its cache, then read as local shards.

Nothing of our own speaks to the network: ``huggingface_hub`` does, so that its settings hold, such as
``HF_ENDPOINT`` (another hub), ``HF_HUB_OFFLINE`` (the cache only), ``HF_HOME`` (where the cache lies) and
``HF_TOKEN`` (private sets).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field

from contracts.errors import DataError
from imagedata.settings import Settings

_LONGEST_REASON = 200


class HubSource(Settings):
    """A data set on Hugging Face's hub, or on another one of its kind.

    Attributes:
        name: ``owner/name``.
        revision: branch, tag or commit. A branch moves; only a commit gives the same images again.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")


@lru_cache(maxsize=32)
def fetched(dataset: str, source: HubSource, patterns: tuple[str, ...], *, fetch: bool = True) -> Path:
    """Fetch files of a data set that the hub's cache lacks.

    A command asks once per set, so that a branch cannot move between two calls.

    Args:
        dataset: what to call the data set in messages.
        source: where it lies on the hub.
        patterns: file names, perhaps with ``*``.
        fetch: False looks into the cache only.

    Returns:
        A folder of the cache, named by the commit, with the files that fit the patterns below it.

    Raises:
        DataError: no hub can be reached, it has no such set, revision or files, or it refuses.
    """
    what = f"{dataset}: {source.name} at revision {source.revision}"
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError:
        raise DataError(
            f"{what} lies on Hugging Face's hub, and the package huggingface_hub is not installed. "
            "Get it with: pip install huggingface_hub"
        ) from None
    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    try:
        folder = Path(
            snapshot_download(
                source.name,
                repo_type="dataset",
                revision=source.revision,
                allow_patterns=list(patterns),
                local_files_only=not fetch,
            )
        )
    except errors.RevisionNotFoundError:
        raise DataError(f"{what}: {hub} has no such revision of it. Fix layout.hub.revision.") from None
    except errors.GatedRepoError:
        raise DataError(
            f"{what}: {hub} gives it only to users whom its owner admits. Ask there, and give your token "
            "with HF_TOKEN."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"{what}: {hub} has no such data set, or keeps it private. Fix layout.hub.name, or give a token "
            "with HF_TOKEN."
        ) from None
    except Exception as error:  # of its network library, of the file system, of whatever a server answers
        if not fetch or constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set, and " if constants.HF_HUB_OFFLINE else ""
            raise DataError(
                f"{what}: {why}the cache {cache} does not hold all of it. Fetch it with a network, or copy "
                "the cache here and name it with HF_HOME."
            ) from None
        raise DataError(
            f"{what}: could not be fetched from {hub} ({_reason(error)}). Make that reachable, name another "
            "hub with HF_ENDPOINT, or copy a cache that holds it here and name it with HF_HOME."
        ) from None
    return folder


def _reason(error: BaseException) -> str:
    """The first cause in one short line: what surrounds it is advice to programmers."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:_LONGEST_REASON]}".rstrip(".: ")
