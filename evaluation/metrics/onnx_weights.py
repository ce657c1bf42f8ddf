"""Read the constants of an ONNX file, without the onnx package.

Source: onnx.proto of the ONNX project, for the few field numbers below, in protobuf's wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluation.errors import MetricError

Array = npt.NDArray[np.float32]

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA = 1, 2, 4, 8, 9
_FLOAT32 = 1


def read_constants(path: Path) -> dict[str, Array]:
    """Return the float32 constants of a network by name.

    Args:
        path: An ONNX file with its weights inside.

    Raises:
        MetricError: The file is not ONNX as we know it.
    """
    try:
        graphs = [value for field, value in _fields(path.read_bytes()) if field == _GRAPH]
        tensors = [value for field, value in _fields(_bytes(graphs[0])) if field == _INITIALIZER]
        return dict(found for found in map(_tensor, map(_bytes, tensors)) if found is not None)
    except (IndexError, ValueError) as error:
        raise MetricError(f"{path}: not an ONNX network that can be read ({error})") from error


def _tensor(message: bytes) -> tuple[str, Array] | None:
    """Return name and values of a TensorProto; None when it is not float32."""
    dims: list[int] = []
    data, name, kind = b"", "", 0
    for field, value in _fields(message):
        if field == _DIMS:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif field == _DATA_TYPE:
            kind = int(value)
        elif field in {_FLOAT_DATA, _RAW_DATA}:
            data += _bytes(value)
        elif field == _NAME:
            name = _bytes(value).decode()
    return (name, np.frombuffer(data, "<f4").reshape(dims)) if kind == _FLOAT32 else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if wire == 2:
            size, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(wire, -1)
        if size < 0 or at + size > len(message):
            raise ValueError(f"wire type {wire} at byte {at}")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _varints(message: bytes) -> Iterator[int]:
    at = 0
    while at < len(message):
        number, at = _varint(message, at)
        yield number


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value
