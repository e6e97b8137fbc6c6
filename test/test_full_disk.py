"""A full disk ends a command with one line, which names the file; what was finished stays."""

import os
from pathlib import Path
import re
import resource
import signal

import numpy as np
from processes import start, wait_until
import pytest

from grasp_success_detector.datasets.dataset import MARKER, write_marker
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import (
    disk_faults,
    fault_text,
    new_folder,
    SAMPLE_BAG,
    share_path,
    write_whole,
)
from grasp_success_detector.images.encoding import encode_jpeg

BAG = share_path(SAMPLE_BAG)


@pytest.fixture
def small_files():
    """Limit the size of files in a block, as a disk with as little room would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)   # as Python does
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limited(size, command, *arguments):
    """Run a command that may write files of ``size`` bytes; return its exit code and errors."""
    process = start(command, *arguments, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (size, size)), env=os.environ | {
            'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONPATH': str(Path(__file__).parents[1])})
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_the_error_of_a_full_disk_names_the_file_and_what_is_free(tmp_path, small_files):
    small_files(10)
    with pytest.raises(OSError, match='File too large') as error:
        write_whole(tmp_path / 'text', b'x' * 11)
    assert re.fullmatch(rf'File too large: {tmp_path}/text, \d+\.\d MB free',
                        fault_text(error.value))
    with pytest.raises(ConfigError, match=(
            rf'^{tmp_path}/out: cannot be written \(File too large: .*/text, \d+\.\d MB free\)$')):
        with new_folder(tmp_path / 'out', ConfigError) as folder:
            write_whole(folder / 'text', b'x' * 11)
    assert not os.listdir(tmp_path)


def test_what_a_library_says_of_a_full_disk_is_that_error(tmp_path, small_files):
    small_files(10)
    with pytest.raises(OSError, match='File too large'), disk_faults(tmp_path / 'file'):
        raise RuntimeError('basic_ios::clear: iostream error')


def test_another_error_of_a_library_stays(tmp_path):
    with pytest.raises(RuntimeError, match='bad shape'), disk_faults(tmp_path / 'file'):
        raise RuntimeError('bad shape')


@pytest.mark.slow
@pytest.mark.parametrize('size, command, arguments', [
    (2000, 'extract_frames', [BAG, '--out', 'out', '--jobs', '1', '--every', '40']),
    (2000, 'extract_frames', [BAG, '--out', 'out', '--jobs', '2', '--every', '40']),
    (200_000, 'inspect_dataset', [BAG, '--out', 'out']),
    (2000, 'evaluate_classifier', ['cifar_cnn_rig', BAG, '--out', 'out', '--every', '40']),
    (2000, 'export_classifier', ['cifar_cnn_rig', '--openvino', 'out.xml'])])
def test_commands_end_with_one_line(tmp_path, monkeypatch, size, command, arguments):
    monkeypatch.chdir(tmp_path)
    code, errors = limited(size, command, *arguments)
    assert code == 1 and re.fullmatch(r'error: .*File too large: .*, \d+\.\d MB free.*\n', errors)
    if command != 'extract_frames':     # which goes on from what it has
        assert [path.name for path in tmp_path.rglob('*') if path.is_file()] == []


@pytest.mark.slow
def test_what_was_extracted_stays_and_the_same_command_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise, sizes = np.random.default_rng(0), []
    for i in range(8):      # each larger than the one before
        file = Path('lab', ('failure', 'success')[i % 2], f'{i}.jpg')
        file.parent.mkdir(parents=True, exist_ok=True)
        sizes.append(file.write_bytes(encode_jpeg(
            noise.integers(0, 256, (100 + 20 * i, 100, 3), np.uint8))))
    arguments = 'extract_frames', 'lab', '--out', 'out', '--jobs', '1'
    code, errors = limited(sizes[4], *arguments)
    assert code == 1 and 'the same command goes on' in errors

    def frames():
        return {path: path.read_bytes() for path in Path('out').rglob('*.jpg')}

    kept = frames()
    assert len(kept) == 5 and not Path('out', MARKER).exists()
    process = start(*arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and Path('out', MARKER).exists(), errors
    assert len(frames()) == 8 and kept.items() <= frames().items()


def test_the_marker_of_a_data_set_is_written_when_all_else_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    write, sync = os.fsync, os.sync

    def note(name, call, *given):
        order.append((name, (tmp_path / MARKER).exists()))
        call(*given)

    monkeypatch.setattr(os, 'sync', lambda: note('everything', sync))
    monkeypatch.setattr(os, 'fsync', lambda file: note('marker', write, file))
    write_marker(tmp_path, {'frames': 0})
    assert order == [('everything', False), ('marker', False)]
    assert (tmp_path / MARKER).exists()


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_to_the_next_one(tmp_path):
    pytest.importorskip('openvino')
    arguments = 'export_classifier', 'cifar_cnn_rig', '--openvino', tmp_path / 'out.xml'
    killed = start(*arguments)
    wait_until(lambda: list(tmp_path.glob('.out.xml.partial-*')), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(os.listdir(tmp_path)) == 1
    again = start(*arguments)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert sorted(os.listdir(tmp_path)) == ['out.bin', 'out.xml']
