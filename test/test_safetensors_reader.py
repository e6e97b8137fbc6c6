"""Files that are no whole safetensors files are refused, and all others read as they are."""

import json
import struct

import numpy as np
import pytest

from grasp_success_detector.networks.safetensors_reader import read_safetensors


def write(path, header, content):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + content)
    return path


def entry(begin, end, dtype='F32', shape=(2,)):
    return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [begin, end]}


def test_reads_what_the_library_writes(tmp_path):
    library = pytest.importorskip('safetensors.numpy')
    arrays = {f'{kind}.x': np.arange(6).reshape(2, 3).astype(kind) for kind in (
        '?', 'u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8', 'f2', 'f4', 'f8')}
    arrays |= {'scalar': np.array(3, np.float32), 'empty': np.zeros((0, 4), np.float32)}
    path = tmp_path / 'all.safetensors'
    library.save_file(arrays, path, {'key': 'text'})
    texts, found = read_safetensors(path)
    assert texts == {'key': 'text'}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize('header, content, reason', [
    ({'a': entry(0, 8)}, b'1234567', 'it has 7 bytes of tensors|is cut off'),
    ({'a': entry(0, 8)}, b'123456789', 'it has 9 bytes of tensors, expected 8'),
    ({'a': entry(0, 8), 'b': entry(4, 12)}, b'123456789012', 'b begins at byte 4, expected 8'),
    ({'a': entry(0, 8), 'b': entry(9, 17)}, b'1' * 17, 'b begins at byte 9, expected 8'),
    ({'a': entry(0, 8, shape=(3,))}, b'12345678', 'a has 8 bytes, expected 12'),
    ({'a': entry(0, 8, shape=(-2,))}, b'12345678', r'a has the shape \[-2\]'),
    ({'a': entry(0, 8, shape=(2 ** 62, 4))}, b'12345678', 'a has 8 bytes, expected'),
    ({'a': entry(-8, 0)}, b'12345678', 'a begins at byte -8, expected 0'),
    ({'a': 3}, b'', 'its header cannot be read'),
    ({'a': {'dtype': 'F32'}}, b'', 'its header cannot be read'),
    ([1], b'', 'its header cannot be read'),
    ({'__metadata__': {'a': 1}}, b'', 'its header cannot be read'),
    (b'[' * 100_000, b'', 'its header cannot be read'),
    (b'{"a"', b'', 'its header cannot be read')])
def test_broken_files_are_refused(header, content, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        read_safetensors(write(tmp_path / 'a.safetensors', header, content))


@pytest.mark.parametrize('length', [2 ** 63, 100_000_001, 100])
def test_a_header_longer_than_the_file_is_refused_at_once(length, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(struct.pack('<Q', length) + b'{}')
    with pytest.raises(ValueError, match=f'its header would have {length} bytes'):
        read_safetensors(path)


def test_types_that_numpy_does_not_have_are_told(tmp_path):
    path = write(tmp_path / 'a.safetensors', {'a': entry(0, 4, 'BF16')}, b'1234')
    with pytest.raises(TypeError, match='a is BF16'):
        read_safetensors(path)
