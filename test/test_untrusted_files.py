"""Files that would fill the memory or the disk, or block or compute for ever, are refused."""

import os
import resource
import socket
import sqlite3
import subprocess
import sys
import time

from frames import colour_frames, split_frames, write_dataset
import pytest
from recordings import jpeg_messages, raw_messages, ROS1, write_folder, write_mcap, write_ros1

from grasp_success_detector.cli.extract_frames import main as extract_frames
from grasp_success_detector.cli.inspect_dataset import main as inspect_dataset
from grasp_success_detector.datasets.dataset import read_extracted
from grasp_success_detector.errors import (
    BagError,
    CheckpointError,
    ConfigError,
    DatasetError,
    ImageDecodeError,
)
from grasp_success_detector.files import new_folder, read_yaml
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings import storage
from grasp_success_detector.recordings.bags import open_bag
from grasp_success_detector.recordings.ground_truth import read_intervals
from grasp_success_detector.recordings.picture_labels import read_picture_rows
from grasp_success_detector.recordings.selection import FrameSelection, plan_source
from grasp_success_detector.recordings.sources import find_sources
from grasp_success_detector.training.recipe import load_config


def plan(path, unpack_into):
    source, = find_sources([path])
    return plan_source(source, FrameSelection(label='success'), [], unpack_into)


def zeros(size):
    packer = storage.zstd.ZstdCompressor()
    block = bytes(1 << 20)
    return b''.join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def test_a_compressed_file_is_unpacked_to_at_most_1000_times_its_size(tmp_path):
    """132 kB that unpacked to 8.4 GB in memory."""
    path = tmp_path / 'bomb.mcap.zstd'
    path.write_bytes(write_mcap(tmp_path / 'a.mcap', jpeg_messages(3)).read_bytes())
    good = path.read_bytes()
    path.write_bytes(storage.zstd.compress(good) + b'')
    whole = plan(path, tmp_path / 'good')
    assert len(whole.frames) == 3 and not whole.damage
    path.write_bytes(zeros(1 << 30))
    assert path.stat().st_size < 150_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = plan(path, tmp_path / 'unpacked')
    assert 'no mcap file' in found.unreadable
    size = sum(file.stat().st_size for file in (tmp_path / 'unpacked').rglob('*.mcap'))
    assert size <= max(1000 * path.stat().st_size, 16 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000   # kB


def test_a_compressed_chunk_or_message_is_unpacked_to_a_limit():
    packed = zeros(256 << 20)
    limit = storage.unpacked_limit(len(packed))
    assert len(storage.decompress_chunk(packed, 'zstd')) == limit < 256 << 20


def test_unpacking_does_not_fill_the_disk(tmp_path, monkeypatch):
    packed = tmp_path / 'a.mcap.zstd'
    packed.write_bytes(zeros(8 << 20))
    monkeypatch.setattr(storage.shutil, 'disk_usage', lambda path: type('', (), {'free': 4 << 20}))
    with pytest.raises(OSError, match='would fill the disk'):
        storage.decompress_file(packed, tmp_path / 'a.mcap')


@pytest.mark.parametrize('size', [64 << 20])
def test_zeros_behind_a_ros1_bag_take_no_time(tmp_path, size):
    path = write_ros1(tmp_path / 'a.bag', raw_messages(4, ROS1))
    again = write_ros1(tmp_path / 'b.bag', raw_messages(4, ROS1)).read_bytes()
    with path.open('ab') as file:
        file.write(bytes(size))
    started = time.process_time()
    assert len(plan(path, tmp_path).frames) == 4
    assert time.process_time() - started < 2
    with path.open('ab') as file:
        file.write(again[again.index(b'op=\x05') - 64:])
    assert len(plan(path, tmp_path).frames) in (7, 8)   # what lies behind is found again


def test_a_view_in_place_of_a_table_of_a_bag_is_not_computed(tmp_path):
    path = tmp_path / 'a.db3'
    with sqlite3.connect(path) as db:
        db.execute('CREATE TABLE topics (id INTEGER, name TEXT, type TEXT)')
        db.execute('CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT '
                   'id + 1 FROM n) SELECT id, 1 AS topic_id, 1 AS timestamp, NULL AS data FROM n')
    assert plan(path, tmp_path).unreadable


BOMB = 'a: &a [x, x]\n' + ''.join(
    f'{name}: &{name} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n'
    for old, name in zip('abcdefghij', 'bcdefghijk', strict=True))


def test_yaml_with_aliases_is_refused_wherever_it_is_read(tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(BOMB, encoding='utf-8')
    with pytest.raises(ConfigError, match=r'line 2: an alias \(\*a\); write the value out'):
        load_config(recipe, {})
    bag = write_folder(tmp_path / 'bag', jpeg_messages(3))
    (bag / 'metadata.yaml').write_text(BOMB, encoding='utf-8')
    with pytest.raises(BagError, match='an alias'), open_bag(bag):
        pass
    assert len(plan(bag, tmp_path).frames) == 3
    recipe.write_text('[' * 100_000, encoding='utf-8')
    with pytest.raises(ValueError, match='nested more than 50 levels deep'):
        read_yaml(recipe)


def test_pipes_are_refused_instead_of_waited_for(tmp_path):
    pipe = {}
    for suffix in ('bag', 'mcap', 'db3', 'mcap.zstd', 'mp4', 'csv', 'jpg', 'safetensors', 'yaml',
                   'zip'):
        pipe[suffix] = tmp_path / f'pipe.{suffix}'
        os.mkfifo(pipe[suffix])
    for suffix in ('bag', 'mcap', 'db3', 'mcap.zstd'):
        assert 'is a pipe, device or socket' in plan(pipe[suffix], tmp_path / 'u').unreadable
    with pytest.raises(BagError, match='is a pipe'), open_bag(pipe['bag']):
        pass
    for error, call in ((DatasetError, lambda: read_intervals(pipe['csv'])),
                        (DatasetError, lambda: read_picture_rows(pipe['csv'])),
                        (BagError, lambda: find_sources([pipe['zip']])),
                        (ImageDecodeError, lambda: read_image(pipe['jpg'])),
                        (CheckpointError, lambda: Checkpoint.open(pipe['safetensors'])),
                        (ConfigError, lambda: load_config(pipe['yaml'], {}))):
        with pytest.raises(error, match='is a pipe, device or socket'):
            call()
    assert plan(pipe['mp4'], tmp_path).unreadable


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / 'dataset', split_frames(colour_frames()))


def test_a_pipe_in_a_data_set_is_a_fault_of_that_frame(dataset, capsys):
    file = next((dataset / 'success').iterdir())
    file.unlink()
    os.mkfifo(file)
    assert inspect_dataset([str(dataset), '--jobs', '1']) == 1
    assert 'WRONG: ' in capsys.readouterr().out


def test_symbolic_links_that_lead_out_of_a_data_set_are_refused(dataset, tmp_path, capsys):
    file = next((dataset / 'success').iterdir())
    outside = file.rename(tmp_path / 'outside.jpg')
    file.symlink_to(outside)
    with pytest.raises(DatasetError, match='1 frame outside of the data set, by a symbolic link'):
        read_extracted(dataset)
    assert inspect_dataset([str(dataset), '--jobs', '1']) == 1
    assert 'by a symbolic link' in capsys.readouterr().err
    # One within it leads nowhere else.
    file.unlink()
    outside.rename(dataset / 'kept.jpg')
    file.symlink_to(dataset / 'kept.jpg')
    assert read_extracted(dataset).train
    # A whole folder of a label may not lead out either.
    (dataset / 'failure').rename(tmp_path / 'failure')
    (dataset / 'failure').symlink_to(tmp_path / 'failure')
    with pytest.raises(DatasetError, match='by a symbolic link'):
        read_extracted(dataset)


def test_leftovers_of_dead_processes_are_removed_those_of_living_ones_are_not(tmp_path):
    dead = subprocess.run([sys.executable, '-c', 'import os; print(os.getpid())'],
                          capture_output=True, text=True, check=True).stdout.strip()
    host = socket.gethostname()
    gone = tmp_path / f'.out.partial-{host}-{dead}'
    kept = [tmp_path / f'.out.partial-{host}-1', tmp_path / f'.out.partial-other{host}-{dead}',
            tmp_path / f'.out2.partial-{host}-{dead}']
    for folder in (gone, *kept):
        folder.mkdir()
        (folder / 'file').touch()
    with new_folder(tmp_path / 'out', ConfigError):
        pass
    assert not gone.exists() and all(folder.exists() for folder in kept)


def test_extraction_tells_what_a_compressed_recording_held_back(tmp_path, capsys):
    path = tmp_path / 'a.mcap.zstd'
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(3)).read_bytes()
    path.write_bytes(storage.zstd.compress(bag + bytes(1 << 27)))
    assert extract_frames([str(path), '--label', 'success', '--jobs', '1',
                           '--out', str(tmp_path / 'set')]) == 0
    assert '1 compressed file that unpacks to over 1000 times its size' in capsys.readouterr().out
