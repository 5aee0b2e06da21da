"""Read the little of an ONNX file that tells whether it is one, without a library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_IR_VERSION, _GRAPH, _OPSETS = 1, 7, 8  # fields of a ModelProto
_VERSION = 2  # field of an OperatorSetIdProto
_NEWEST = 1000  # version of an operator set; those of 2026 are below 30


def require_onnx(path: Path) -> None:
    """Refuse what is no ONNX file, or of operators of an impossible version.

    OpenVINO tries every version from that one down to find an operator, and so may never end. What
    is no ONNX it takes for a file of another library, which prints what is wrong with it.

    Raises:
        ValueError: the file is none that can be read.
        OSError: the file cannot be read.
    """
    data = memoryview(path.read_bytes())  # the weights are another file
    found = [
        (field, _versions(data[start:end]) if field == _OPSETS else [])
        for field, start, end in _fields(data)
    ]
    if not {_IR_VERSION, _GRAPH, _OPSETS} <= {field for field, _ in found}:
        raise ValueError("it is no ONNX graph")
    for _, versions in found:
        for version in versions:
            if not 1 <= version <= _NEWEST:
                raise ValueError(f"its operators are of version {version}")


def _versions(opset: memoryview) -> list[int]:
    return [start for field, start, end in _fields(opset) if field == _VERSION and end == -1]


def _fields(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """List the fields of a protobuf message: number, and start and end; of a number it and -1.

    Raises:
        ValueError: it is no such message.
    """
    place = 0
    while place < len(data):
        tag, place = _number(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = _number(data, place)
            yield tag >> 3, value, -1
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, place = _number(data, place)
        if size is None or place + size > len(data):
            raise ValueError("it is no ONNX graph, or damaged")
        yield tag >> 3, place, place + size
        place += size


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """Read a number of variable length: it, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("it is no ONNX graph, or damaged")
