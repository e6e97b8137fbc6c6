"""
Read a safetensors file by NumPy alone, as a robot's computer has no safetensors package.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header,
little-endian; the header, a JSON object with type, shape and place of each tensor; the tensors.
"""

from collections.abc import Mapping
import json
import math
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_MOST_HEADER_BYTES: Final = 100_000_000     # the limit of the safetensors package

#: NumPy's types by the format's names; NumPy has no bfloat16 and none of the 8-bit floats.
_TYPES: Final = {
    'BOOL': '?', 'U8': 'u1', 'I8': 'i1', 'U16': '<u2', 'I16': '<i2', 'U32': '<u4', 'I32': '<i4',
    'U64': '<u8', 'I64': '<i8', 'F16': '<f2', 'F32': '<f4', 'F64': '<f8'}


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """
    Read a file.

    :returns: the texts in the header, and the arrays by name.
    :raises OSError: the file cannot be read.
    :raises ValueError: the file does not follow the format, or is not whole.
    :raises TypeError: a tensor is of a type that NumPy does not have.
    """
    with path.open('rb') as file:
        length = int.from_bytes(file.read(8), 'little')
        size = path.stat().st_size - 8 - length     # of the tensors
        if length > _MOST_HEADER_BYTES or size < 0:
            raise ValueError(f'its header would have {length} bytes')
        try:
            header = json.loads(file.read(length))
            texts = header.pop('__metadata__', {})
            if not all(isinstance(text, str) for text in texts.values()):
                raise ValueError('its header holds something other than text')
            places = sorted((entry['data_offsets'], name) for name, entry in header.items())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f'its header cannot be read: {error}') from error
        arrays, at = {}, 0
        for (begin, end), name in places:
            if begin != at:
                raise ValueError(f'{name} begins at byte {begin}, expected {at}')
            arrays[name] = _read_array(file, name, header[name], begin, end)
            at = end
        if at != size:
            raise ValueError(f'it has {size} bytes of tensors, expected {at}')
    return texts, arrays


def _read_array(file: BinaryIO, name: str, entry: Mapping[str, Any], begin: int,
                end: int) -> NDArray[Any]:
    """Read the tensor at the file's position: writable, aligned, in row-major order."""
    kind, shape = entry.get('dtype'), entry.get('shape')
    if kind not in _TYPES:
        raise TypeError(f'{name} is {kind}')
    dtype = np.dtype(_TYPES[kind])
    if not (isinstance(shape, list) and all(
            type(number) is int and number >= 0 for number in shape)):
        raise ValueError(f'{name} has the shape {shape}')
    count = math.prod(shape)
    if count * dtype.itemsize != end - begin:
        raise ValueError(f'{name} has {end - begin} bytes, expected {count * dtype.itemsize}')
    array = np.fromfile(file, dtype, count)
    if len(array) != count:
        raise ValueError(f'{name} is cut off')
    return array.reshape(shape)
