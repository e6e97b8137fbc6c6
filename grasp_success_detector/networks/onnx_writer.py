"""
Write small networks in the ONNX format, by NumPy alone.

Only what this package's own architectures need is covered: layers with one output, weights in
float32, shapes in int64. The format is a protocol buffer (onnx.proto of
https://github.com/onnx/onnx, version 4 of its intermediate representation); a number in a comment
is that of a field in this file. Operators are those of operator set 9, which OpenCV from 4.5 to 5
reads alike.
"""

from collections.abc import Iterable, Mapping, Sequence
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Value of an attribute of a layer.
Attribute = int | float | Sequence[int]

_IR_VERSION: Final = 4
_OPERATOR_SET: Final = 9
_FLOAT: Final = 1   # TensorProto.DataType
_INT64: Final = 7


class OnnxGraph:
    """Layers of a network, collected one after the other."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._weights: list[bytes | memoryview] = []     # views: weights are many bytes

    def add(self, operator: str, inputs: Sequence[str],
            weights: Sequence[NDArray[np.float32 | np.int64]] = (), output: str | None = None,
            **attributes: Attribute) -> str:
        """
        Add a layer, and return the name of its output.

        :param operator: name of an ONNX operator, such as ``'Conv'``.
        :param inputs: names of outputs of earlier layers, or of the graph's input.
        :param weights: the inputs that follow these, each in the operator's own shape.
        :param output: name of the output; None: a number.
        """
        name = output or str(len(self._nodes))
        named = [f'{name}.{i}' for i in range(len(weights))]
        self._nodes.append(
            _texts(1, [*inputs, *named]) + _texts(2, [name]) + _texts(3, [name])
            + _texts(4, [operator])
            + b''.join(_part(5, _attribute(*pair)) for pair in attributes.items()))
        for pair in zip(named, weights, strict=True):
            self._weights += _tensor(*pair)
        return name

    def model(self, inputs: Mapping[str, Sequence[int]],
              outputs: Mapping[str, Sequence[int]]) -> bytes:
        """
        Return the content of an ONNX file.

        :param inputs: shape of each float32 input by name.
        :param outputs: shape of each float32 output by name.
        """
        graph = [*(_part(1, node) for node in self._nodes), _texts(2, ['network']),
                 *self._weights,
                 *(_part(11, _value(*pair)) for pair in inputs.items()),
                 *(_part(12, _value(*pair)) for pair in outputs.items())]
        return b''.join([
            _number(1, _IR_VERSION), _texts(2, ['grasp_success_detector']),
            _head(7, sum(map(len, graph))), *graph, _part(8, _number(2, _OPERATOR_SET))])


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7f:
        encoded.append(value & 0x7f | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _head(field: int, length: int) -> bytes:
    return _varint(field << 3 | 2) + _varint(length)


def _part(field: int, content: bytes) -> bytes:
    return _head(field, len(content)) + content


def _texts(field: int, texts: Iterable[str]) -> bytes:
    return b''.join(_part(field, text.encode()) for text in texts)


def _attribute(name: str, value: Attribute) -> bytes:
    """Return an AttributeProto: 2 is a float, 3 an integer, 8 integers, 20 tells which it is."""
    if isinstance(value, float):
        encoded, kind = _varint(2 << 3 | 5) + struct.pack('<f', value), 1
    elif isinstance(value, int):
        encoded, kind = _number(3, value), 2
    else:
        encoded, kind = b''.join(_number(8, each) for each in value), 7
    return _texts(1, [name]) + encoded + _number(20, kind)


def _tensor(name: str, array: NDArray[np.float32 | np.int64]) -> tuple[bytes, memoryview]:
    """Return an initializer, a TensorProto: 1 is shape, 2 type, 8 name, 9 its bytes."""
    kind, stored = (_INT64, '<i8') if array.dtype == np.int64 else (_FLOAT, '<f4')
    content = np.ascontiguousarray(array, stored).reshape(-1).view(np.uint8).data
    about = (b''.join(_number(1, size) for size in array.shape) + _number(2, kind)
             + _texts(8, [name]) + _head(9, len(content)))
    return _head(5, len(about) + len(content)) + about, content


def _value(name: str, shape: Sequence[int]) -> bytes:
    """Return a ValueInfoProto: name, type and shape of an input or output."""
    dimensions = b''.join(_part(1, _number(1, size)) for size in shape)
    return _texts(1, [name]) + _part(2, _part(1, _number(1, _FLOAT) + _part(2, dimensions)))
