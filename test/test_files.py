"""Files are written whole or not at all, in UTF-8, and nothing existing is overwritten."""

import errno
import os

import pytest

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import (
    checkpoint_path,
    csv_text,
    json_text,
    new_folder,
    read_json,
    share_path,
    SHIPPED_CHECKPOINTS,
    write_whole,
)


def test_a_file_is_replaced_whole_in_utf_8(tmp_path):
    path = tmp_path / 'text'
    write_whole(path, b'before')
    write_whole(path, 'Größe')
    assert path.read_bytes() == 'Größe'.encode()
    assert os.listdir(tmp_path) == ['text']


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / 'text'
    write_whole(path, b'before')

    def full(file, data):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(OSError, match='No space'):
        write_whole(path, b'after')
    monkeypatch.undo()
    assert path.read_bytes() == b'before'
    assert os.listdir(tmp_path) == ['text']


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / 'deep' / 'out'
    with new_folder(out, ConfigError) as folder:
        (folder / 'file').write_bytes(b'content')
        assert not out.exists()
    assert (out / 'file').read_bytes() == b'content'
    assert os.listdir(out.parent) == ['out']


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / 'out', ConfigError) as folder:
        (folder / 'file').write_bytes(b'content')
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_a_place_that_is_taken_or_impossible_is_one_line(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(ConfigError, match='exists already and is not overwritten'):
        with new_folder(tmp_path / 'file', ConfigError):
            pass
    with pytest.raises(ConfigError, match='cannot be written .Not a directory'):
        with new_folder(tmp_path / 'file' / 'out', ConfigError):
            pass


def test_json_and_csv_keep_what_they_are_given(tmp_path):
    path = tmp_path / 'document.json'
    write_whole(path, json_text({'name': 'Größe', 'values': [1, None]}))
    assert read_json(path) == {'name': 'Größe', 'values': [1, None]}
    assert csv_text(['a', 'b'], [[1, 'x,y'], ['', 'ü']]) == 'a,b\n1,"x,y"\n,ü\n'


def test_a_checkpoint_is_a_file_or_the_name_of_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in SHIPPED_CHECKPOINTS:
        assert checkpoint_path(name) == share_path(f'models/{name}.safetensors')
    assert checkpoint_path() == checkpoint_path('efficientnet_lite0_world')
    # A run folder may be called like a shipped checkpoint; a file comes first.
    (tmp_path / 'cifar_cnn_rig').mkdir()
    assert checkpoint_path('cifar_cnn_rig').is_absolute()
    (tmp_path / 'efficientnet_lite0_rig').touch()
    assert checkpoint_path('efficientnet_lite0_rig').resolve().parent == tmp_path
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'my.safetensors').touch()
    assert checkpoint_path('~/my.safetensors') == tmp_path / 'my.safetensors'


def test_a_checkpoint_that_is_neither_is_one_line_with_the_shipped_names():
    with pytest.raises(CheckpointError, match=(
            r'^cifar_cnn: no such file; expected a checkpoint of train_classifier \(.safetensors\)'
            r', or the name of a shipped checkpoint: efficientnet_lite0_world, '
            r'efficientnet_lite0_rig, cifar_cnn_world, cifar_cnn_rig; did you mean '
            r'cifar_cnn_rig\?$')):
        checkpoint_path('cifar_cnn')
