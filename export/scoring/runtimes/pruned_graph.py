"""A file's graph less what only some of its outputs need.

ONNX Runtime computes every node of a graph that it was given, also those that lead to outputs which nobody
asks for: leaving a name out of ``run`` saves the copy and nothing else. The maps would so cost their time in
every batch that is scored without them. So what leads to them alone is taken out before the graph is loaded.

The onnx package would do it, but scoring does without: a message of Protocol Buffers is a row of fields, each
with a number, a type and a length, and those that stay are copied as they are. Numbers of fields are those of
``onnx.proto``. Sources: https://protobuf.dev/programming-guides/encoding/,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

_GRAPH_OF_MODEL = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13  # of a graph
_READS, _MAKES, _ATTRIBUTE = 1, 2, 5  # of a node
_GRAPH_OF_ATTRIBUTE, _GRAPHS_OF_ATTRIBUTE = 6, 11
_NAME_OF_VALUE, _NAME_OF_TENSOR = 1, 8
_VARINT, _EIGHT_BYTES, _WITH_LENGTH, _FOUR_BYTES = 0, 1, 2, 5


class _Field(NamedTuple):
    """A field of a message: its number, all its bytes, and those of its content (empty for plain numbers)."""

    number: int
    whole: memoryview
    content: memoryview


def without_outputs(model: bytes, unwanted: Collection[str]) -> bytes:
    """A serialised model without some outputs of its graph, and without what led to them alone.

    Args:
        model: a serialised ONNX model.
        unwanted: names of outputs; at least one other is left.

    Raises:
        ValueError: these are no fields of Protocol Buffers.
    """
    parts: list[memoryview | bytes] = []
    for field in _fields(memoryview(model)):
        if field.number == _GRAPH_OF_MODEL:
            graph = _pruned(field.content, unwanted)
            parts += [_varint(_GRAPH_OF_MODEL << 3 | _WITH_LENGTH), _varint(sum(map(len, graph))), *graph]
        else:
            parts.append(field.whole)
    return b"".join(parts)


def _pruned(graph: memoryview, unwanted: Collection[str]) -> list[memoryview]:
    """The fields of a graph that stay, in their order."""
    fields = list(_fields(graph))
    reads = {place: _names_read(f.content) for place, f in enumerate(fields) if f.number == _NODE}
    makes = {place: _texts(fields[place].content, _MAKES) for place in reads}
    maker_of = {name: place for place, names in makes.items() for name in names}
    outputs = {_name(f.content, _NAME_OF_VALUE) for f in fields if f.number == _OUTPUT} - set(unwanted)
    waiting, needed = [maker_of[name] for name in outputs if name in maker_of], set[int]()
    while waiting:
        place = waiting.pop()
        if place not in needed:
            needed.add(place)
            waiting += [maker_of[name] for name in reads[place] if name in maker_of]
    read = outputs.union(*(reads[place] for place in needed))
    made = {name for place in needed for name in makes[place]}

    def stays(place: int, field: _Field) -> bool:
        if field.number == _NODE:
            return place in needed
        if field.number == _OUTPUT:
            return _name(field.content, _NAME_OF_VALUE) in outputs
        if field.number == _VALUE_INFO:
            return _name(field.content, _NAME_OF_VALUE) in made
        return field.number != _INITIALIZER or _name(field.content, _NAME_OF_TENSOR) in read

    return [field.whole for place, field in enumerate(fields) if stays(place, field)]


def _names_read(node: memoryview) -> set[str]:
    """Values that a node reads, also those that graphs inside of it read from around it."""
    names = set(_texts(node, _READS))
    for attribute in (field.content for field in _fields(node) if field.number == _ATTRIBUTE):
        for inner in _fields(attribute):
            if inner.number in (_GRAPH_OF_ATTRIBUTE, _GRAPHS_OF_ATTRIBUTE):
                for field in _fields(inner.content):
                    if field.number == _NODE:
                        names |= _names_read(field.content)
                    elif field.number == _OUTPUT:
                        names.add(_name(field.content, _NAME_OF_VALUE))
    return names


def _texts(message: memoryview, number: int) -> list[str]:
    return [str(field.content, "utf-8") for field in _fields(message) if field.number == number]


def _name(message: memoryview, number: int) -> str:
    return next(iter(_texts(message, number)), "")


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message, one after another; contents are views, so weights are not copied."""
    at = 0
    while at < len(message):
        start = at
        key, at = _read_varint(message, at)
        kind, begin = key & 7, at
        if kind == _WITH_LENGTH:
            length, begin = _read_varint(message, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
            begin = at
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
            begin = at
        else:
            raise ValueError(f"no field of Protocol Buffers at byte {start}")
        if at > len(message):
            raise ValueError(f"the field at byte {start} ends behind its message")
        yield _Field(key >> 3, message[start:at], message[begin:at])


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("a number ends behind its message")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
