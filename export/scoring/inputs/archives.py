"""Which images a tar or zip archive holds, and where: one pass over its members, nothing unpacked.

Junk, members that are no images, and archives within the archive are passed over; the last are counted, as
are images whose names do not end like images. Whatever should have been an image and cannot be one becomes a
row with its reason: a link, a name that leads out of the archive, and the archive itself where it is damaged
or cut off, since nobody knows what was behind that place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from imagedata.containers.archive import Member, is_archive_name, kind_of, members_of
from imagedata.containers.archive_stream import BrokenArchiveError
from imagedata.containers.reader import ContainedImage, Container
from imagedata.decoding.formats import FIRST_BYTES, looks_like_image
from imagedata.file_names import ending_of, is_image_name, is_junk_path


def index_archive(path: str, left_out: Counter[str] | None = None) -> Iterator[tuple[str, ContainedImage]]:
    """Yield name and place of each image of an archive, in the archive's order.

    A name that occurs twice stands for its last member, as it would after unpacking. The name is empty for
    the row of the archive itself, which comes last where there is one.

    Args:
        path: the archive; its ending says its kind.
        left_out: counts, by ending, members that hold images and are not yielded.
    """
    left_out = Counter() if left_out is None else left_out
    kind = kind_of(path)
    found: dict[str, ContainedImage] = {}
    container = Container(path, kind, 0, 0)
    problem = ""
    try:
        container = Container.at(path, kind)
        for member in members_of(container):
            if is_junk_path(member.name):
                continue
            if is_image_name(member.name):
                found.pop(member.name, None)  # so that the last one also stands at its own place
                found[member.name] = member.place
            elif _holds_images(member):
                left_out[ending_of(member.name)] += 1
    except OSError as error:
        problem = f"archive cannot be read: {error.strerror or error}."
    except BrokenArchiveError as error:
        problem = f"archive {error}; {len(found):,} images before that place are rows of their own."
    yield from found.items()
    if problem:
        yield "", ContainedImage(container, 0, 0, problem)


def _holds_images(member: Member) -> bool:
    """Whether a member that is not named like an image holds one, or is an archive of its own."""
    if member.place.problem:
        return False
    return is_archive_name(member.name) or looks_like_image(member.first_bytes(FIRST_BYTES))
