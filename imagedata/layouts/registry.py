"""Every layout by its class: one line each, and nothing else names them all.

To add one, write a subclass of :class:`imagedata.layouts.layout.BaseLayout` in a file of its own, and give it
a line here. A spec's ``layout.kind`` then takes it, messages list it, and a folder or file without a spec is
offered to its ``recognise``.
"""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from imagedata.layouts.layout import BaseLayout

_NAMES = (
    "class_folders.ClassFolders",
    "anomaly_folders.AnomalyFolders",
    "label_table.LabelTable",
    "image_list.ImageList",
    "packed.Packed",
    "shards.Shards",
    "image_folder.ImageFolder",
)


def _layout(name: str) -> type[BaseLayout]:
    module, _, attribute = name.partition(".")
    found: type[BaseLayout] = getattr(import_module(f"imagedata.layouts.{module}"), attribute)
    return found


LAYOUTS: tuple[type[BaseLayout], ...] = tuple(map(_layout, _NAMES))
"""In the order in which a folder or file is offered to them."""

if TYPE_CHECKING:
    Layout = BaseLayout
else:  # pydantic picks the class by its kind; type checkers cannot follow a union that is made at run time
    Layout = Annotated[reduce(or_, LAYOUTS), Field(discriminator="kind")]


def layout_of_kind(kind: object) -> type[BaseLayout] | None:
    """The layout with a ``kind``, or None where no layout has it."""
    return next((layout for layout in LAYOUTS if layout.model_fields["kind"].default == kind), None)
