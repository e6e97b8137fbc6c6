"""The data set that extract_frames leaves: resumed, split, deduplicated, checked for leaks."""

from collections import Counter
from contextlib import contextmanager
import csv
import json
import re
import signal
import subprocess

import cv2
import numpy as np
from processes import interrupt, start, wait_until
import pytest
from recordings import (
    bool_message,
    COMPRESSED,
    compressed_image,
    jpeg_messages,
    message,
    PERIOD_NS,
    picture,
    raw_messages,
    START_NS,
    TOPIC,
    write_folder,
    write_mcap,
)

from grasp_success_detector.cli.extract_frames import main
from grasp_success_detector.datasets.dataset import read_extracted, read_manifest
from grasp_success_detector.datasets.splits import balanced_split
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.images.decoding import decode_bytes, decode_message
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.images.fingerprints import (
    close_pairs,
    fingerprint,
    near_duplicates,
    SAME_BITS,
)
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import COMPRESSED_TOPIC, GROUND_TRUTH_TOPIC, open_bag
from grasp_success_detector.simulation.recorder import record, RecordingSettings


def run(*arguments, jobs=1):
    return main([*map(str, arguments), '--jobs', str(jobs)])


def contents(folder):
    """Return every file of a data set with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def rows_of(folder):
    with (folder / 'manifest.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def same_data_set(one, other):
    first, second = contents(one), contents(other)
    return first == second


# Stopped and continued

def long_command(folder):
    """Return arguments of an extraction that takes some seconds, from damaged bags."""
    bags = [write_mcap(folder / f'{name}.mcap', raw_messages(100, height=240, width=320))
            for name in 'ab']
    damaged = bytearray(bags[0].read_bytes())  # a wrong checksum, counted once for all workers
    damaged[damaged.index(picture(3, 240, 320).tobytes())] ^= 1
    bags[0].write_bytes(damaged)
    return [*map(str, bags), '--label', 'success', '--attempt-gap', '1', '--split', '1/0/0',
            '--format', 'png', '--resize', '800x600']


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Return such arguments, and the data set of an uninterrupted extraction."""
    folder = tmp_path_factory.mktemp('whole')
    arguments = long_command(folder)
    assert main([*arguments, '--jobs', '2', '--out', str(folder / 'set')]) == 0
    description = json.loads((folder / 'set/dataset.json').read_text(encoding='utf-8'))
    assert description['sources']['a']['damage'] == {'damaged chunk': 1}
    assert len(rows_of(folder / 'set')) == 200
    return arguments, folder / 'set'


def journalled(folder):
    """Return the files that the journal of an unfinished data set names."""
    path = folder / 'extraction.jsonl'
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    return [folder / row[1] for line in text.split('\n')[1:-1]
            for row in json.loads(line).get('written', ())]


MOMENTS = {
    'begun': lambda out: (out / 'extraction.jsonl').exists(),
    'before the first batch is journalled': lambda out: list(out.glob('success/*.png')),
    'after it': journalled,
}


@pytest.mark.slow
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize('jobs', [1, 2])
@pytest.mark.parametrize('moment', MOMENTS)
def test_stopped_by_a_signal_the_same_command_continues(tmp_path, whole, how, jobs, moment):
    arguments, expected = whole
    out = tmp_path / 'set'
    command = [*arguments, '--jobs', str(jobs), '--out', str(out)]
    process = start('extract_frames', *command)
    wait_until(lambda: MOMENTS[moment](out), process)
    code, printed, errors = interrupt(process, how)
    if how is signal.SIGINT:
        assert moment == 'begun' or 'the same command goes on after the frames' in printed
        assert code == 130 and errors.strip().endswith('interrupted')
        assert 'Traceback' not in errors
    else:
        assert code == -how
    assert not (out / 'dataset.json').exists()
    done = {path: path.stat().st_mtime_ns for path in journalled(out)}
    assert len(done) < 200
    if moment == 'after it':
        assert done
        with pytest.raises(DatasetError, match='this data set is not finished; run the extract_'):
            read_manifest(out)
    assert main(command) == 0
    assert same_data_set(out, expected)
    assert done == {path: path.stat().st_mtime_ns for path in done}     # not written again


@contextmanager
def small_disk(folder, options):
    """Mount a disk of limited size for the block; skip where that isn't allowed."""
    folder.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)],
                          capture_output=True, check=False)
    if done.returncode:
        pytest.skip('only root can mount a disk that is full')
    try:
        yield folder
    finally:
        subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.parametrize('jobs', [1, 2])
@pytest.mark.parametrize(('limit', 'room'), [
    ('size=4m', 'size=100m'), ('nr_inodes=4', 'nr_inodes=1000')],
    ids=['in the middle', 'before the first frame'])
def test_on_a_full_disk_it_is_one_line_and_goes_on_when_there_is_room(tmp_path, jobs, limit, room,
                                                                      capsys):
    bag = write_mcap(tmp_path / 'a.mcap', raw_messages(200, height=120, width=160))
    command = [bag, '--label', 'success', '--format', 'png', '--split', '1/0/0']
    with small_disk(tmp_path / 'disk', limit) as disk:
        for _ in range(2):
            assert run(*command, '--out', disk / 'set', jobs=jobs) == 1
            errors = capsys.readouterr().err
            assert re.fullmatch('error: .*cannot be written .*No space left on device.*; .*same '
                                'command goes on\n', errors)
        done = {path: path.stat().st_mtime_ns for path in journalled(disk / 'set')}
        assert bool(done) == (limit == 'size=4m')
        subprocess.run(['mount', '-o', f'remount,{room}', str(disk)], check=True)
        assert run(*command, '--out', disk / 'set', jobs=jobs) == 0
        assert done == {path: path.stat().st_mtime_ns for path in done}     # not written again
        assert run(*command, '--out', tmp_path / 'set') == 0
        assert same_data_set(disk / 'set', tmp_path / 'set')


def test_a_finished_data_set_is_left_alone(tmp_path, capsys):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(4))
    command = [bag, '--label', 'success', '--out', tmp_path / 'set']
    assert run(*command) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'set').rglob('*')}
    assert run(*command) == 0
    assert 'was complete already, 4 frames' in capsys.readouterr().out
    assert run(*command, '--every', '2') == 1
    assert 'holds a finished data set, made with every 1 (now 2)' in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'set').rglob('*')}


def test_another_data_set_or_folder_is_never_touched(tmp_path, capsys):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(4))
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set/precious').write_text('data')
    assert run(bag, '--label', 'success', '--out', tmp_path / 'set') == 1
    assert 'is not empty and no data set of extract_frames' in capsys.readouterr().err
    assert contents(tmp_path / 'set') == {'precious': b'data'}
    # Begun with other options: a leak left it unfinished.
    other = write_mcap(tmp_path / 'b.mcap', jpeg_messages(4))
    command = [bag, other, '--label', 'success', '--out', tmp_path / 'two', '--split', '.5/.5/0']
    assert run(*command) == 1
    capsys.readouterr()
    assert run(*command, '--resize', '8x8') == 1
    err = capsys.readouterr().err
    assert 'holds a data set begun with resize null (now [8, 8]); run that' in err
    (tmp_path / 'labels.csv').write_text('source,start_s,end_s,label\na,0,1,success\n')
    assert run(bag, '--labels', tmp_path / 'labels.csv', '--out', tmp_path / 'c') == 0
    (tmp_path / 'labels.csv').write_text('source,start_s,end_s,label\na,0,1,failure\n')
    assert run(bag, '--labels', tmp_path / 'labels.csv', '--out', tmp_path / 'c') == 1
    assert 'labels_text' in capsys.readouterr().err
    (tmp_path / 'labels.csv').write_text('source,start_s,end_s,label\na,0,1,success\n'
                                         'another recording of that day,0,1,success\n')
    assert run(bag, '--labels', tmp_path / 'labels.csv', '--out', tmp_path / 'c') == 1
    assert (r'made with labels_text ...bel\na,0,1,success\n" (now ...bel\na,0,1,success'
            r'\nanother recording of that day,0,1,succes...); choose another --out') in (
                capsys.readouterr().err)


def test_two_commands_cannot_write_one_data_set(tmp_path, capsys):
    import fcntl
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(4))
    (tmp_path / 'set').mkdir()
    with (tmp_path / 'set/extraction.jsonl').open('a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run(bag, '--label', 'success', '--out', tmp_path / 'set') == 1
    assert 'another extract_frames is writing it' in capsys.readouterr().err


# Splits

def test_splits_are_whole_attempts_balanced_over_labels():
    rng = np.random.default_rng(5)
    groups, labels = [], []
    for i in range(60):
        frames = int(rng.integers(5, 40))
        groups += [i] * frames
        labels += [Label(i % 3 == 0)] * frames
    split = balanced_split(groups, labels, (.7, .15, .15), seed=1)
    assert split == balanced_split(groups, labels, (.7, .15, .15), seed=1)
    assert split != balanced_split(groups, labels, (.7, .15, .15), seed=2)
    counts = Counter((split[group], label) for group, label in zip(groups, labels, strict=True))
    for label in Label:
        total = labels.count(label)
        for name, share in (('train', .7), ('val', .15), ('test', .15)):
            assert counts[name, label] / total == pytest.approx(share, abs=.03)


@pytest.mark.parametrize(('attempts', 'expected'), [
    (1, {'train': 1}), (3, {'train': 1, 'val': 1, 'test': 1}),
    (20, {'train': 14, 'val': 3, 'test': 3})])
def test_few_attempts_reach_every_split_that_they_can(attempts, expected):
    split = balanced_split(list(range(attempts)), [Label.SUCCESS] * attempts, (.7, .15, .15), 0)
    assert Counter(split.values()) == expected
    assert set(balanced_split([1, 2, 3], [Label.FAILURE] * 3, (.8, .2, 0.), 0).values()) == {
        'train', 'val'}


def test_split_by_source_keeps_sources_whole(tmp_path):
    bags = []
    for name in 'abc':
        path = tmp_path / f'{name}.mcap'
        stamps = [START_NS + (i + 30 * (i // 3)) * PERIOD_NS for i in range(9)]
        bags.append(write_mcap(path, [
            message(TOPIC, COMPRESSED, s, compressed_image(
                encode_jpeg(picture(ord(name) * 100 + i)), s)) for i, s in enumerate(stamps)]))
    command = [*bags, '--label', 'success', '--attempt-gap', '1', '--split', '.34/.33/.33']
    assert run(*command, '--out', tmp_path / 'attempts') == 0
    rows = rows_of(tmp_path / 'attempts')
    assert len({row['attempt'] for row in rows}) == 9
    assert any(len({r['split'] for r in rows if r['source'] == name}) > 1 for name in 'abc')
    assert run(*command, '--split-by', 'source', '--out', tmp_path / 'sources') == 0
    rows = rows_of(tmp_path / 'sources')
    assert [len({r['split'] for r in rows if r['source'] == name}) for name in 'abc'] == [1] * 3
    assert {row['split'] for row in rows} == {'train', 'val', 'test'}


def test_a_manifest_with_a_divided_attempt_is_refused(tmp_path):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(4))
    run(bag, '--label', 'success', '--out', tmp_path / 'set')
    text = (tmp_path / 'set/manifest.csv').read_text()
    (tmp_path / 'set/manifest.csv').write_text(text.replace(',train,', ',test,', 1))
    with pytest.raises(DatasetError, match='attempt a/0 is in test and in train'):
        read_manifest(tmp_path / 'set')


# Duplicates and leaks

def test_fingerprints_tell_pictures_from_changed_copies():
    pictures = [picture(i, 120, 160) for i in range(20)]
    looks = [fingerprint(p) for p in pictures]
    changed = [fingerprint(np.clip(decode_bytes(encode_jpeg(cv2.resize(
        p, (80, 60), interpolation=cv2.INTER_AREA), 80)).astype(int) + 6, 0, 255).astype(np.uint8))
        for p in pictures]
    distances = np.array([[(a ^ b).bit_count() for b in changed] for a in looks])
    assert distances.diagonal().max() <= SAME_BITS
    assert distances[~np.eye(20, dtype=bool)].min() > 2 * SAME_BITS


def test_the_search_for_close_fingerprints_misses_none():
    rng = np.random.default_rng(0)
    looks = [int.from_bytes(rng.bytes(32), 'little') for _ in range(60)]
    near = looks.copy()
    for i in range(60):  # up to 14 bits changed, on both sides of the limit
        for bit in rng.choice(256, rng.integers(0, 15), replace=False).tolist():
            near[i] ^= 1 << bit
    both = looks + near
    groups = ['train'] * 60 + ['test'] * 60
    brute = {(60 + j, i) for i in range(60) for j in range(60)
             if (looks[i] ^ near[j]).bit_count() <= SAME_BITS}
    assert {(i, j) for i, j, _ in close_pairs(both, SAME_BITS, groups)} == brute
    assert 20 < len(brute) < 60
    assert near_duplicates(both, [0] * 120) == {i for i, _ in brute}
    assert near_duplicates(both, [0] * 60 + [1] * 60) == set()


def video_like(path, name, labels=None):
    """Write frames of which each three in a row look the same, with different jpeg qualities."""
    messages = []
    for i in range(9):
        stamp = START_NS + i * PERIOD_NS
        data = encode_jpeg(picture(name * 50 + i // 3, 96, 128), 95 - i)
        messages.append(message(TOPIC, COMPRESSED, stamp, compressed_image(data, stamp)))
    return write_mcap(path, messages)


def test_dedupe_keeps_one_of_frames_that_look_the_same(tmp_path, capsys):
    bags = [video_like(tmp_path / 'a.mcap', 0), video_like(tmp_path / 'b.mcap', 1),
            video_like(tmp_path / 'c.mcap', 0)]
    assert run(*bags, '--label', 'success', '--out', tmp_path / 'set', '--dedupe') == 0
    rows = rows_of(tmp_path / 'set')
    assert [(row['source'], int(row['stamp_ns']) - START_NS) for row in rows] == [
        (name, i * 3 * PERIOD_NS) for name in 'ab' for i in range(3)]
    assert '21 near duplicates left out' in capsys.readouterr().out
    assert len(list((tmp_path / 'set/success').iterdir())) == 6


def test_the_same_picture_in_two_splits_fails_loudly(tmp_path, capsys):
    bags = [write_mcap(tmp_path / f'{name}.mcap', jpeg_messages(4)) for name in 'ab']
    command = [*bags, '--label', 'success', '--split', '.5/.5/0', '--out', tmp_path / 'set']
    assert run(*command) == 1
    err = capsys.readouterr().err
    assert re.search(r'4 frames leak between splits: success/b__.*\.jpg \((train|val)\) is the '
                     r'same picture as success/a__.*nothing needs to be extracted again', err)
    assert not (tmp_path / 'set/dataset.json').exists()
    # The advice works, and extracts nothing again.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'set').rglob('a__*.jpg')}
    assert run(*command, '--dedupe') == 0
    assert len(rows_of(tmp_path / 'set')) == 4
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / 'set').rglob('a__*.jpg')}


def test_dedupe_with_contradicting_labels_fails_loudly(tmp_path, capsys):
    messages = jpeg_messages(4) + [
        message(m.topic, m.msgtype, m.stamp_ns + 60 * 10 ** 9, m.data) for m in jpeg_messages(4)]
    messages += [bool_message('/h', START_NS - 1, False),
                 bool_message('/h', START_NS + 30 * 10 ** 9, True)]
    bag = write_mcap(tmp_path / 'a.mcap', messages)
    assert run(bag, '--label-topic', '/h', '--attempt-gap', '5', '--dedupe', '--split', '.5/.5/0',
               '--out', tmp_path / 'set') == 1
    assert '4 frames leak between splits' in capsys.readouterr().err


# From simulation, and on a cluster

@pytest.mark.slow
def test_a_simulated_bag_brings_its_labels_and_attempts(tmp_path):
    bag = tmp_path / 'grasps'
    done = record(
        RecordingSettings(attempts=6, frames=4, seed=2, width=64, height=48), bag, jobs=1)
    assert run(bag, '--out', tmp_path / 'set') == 0
    rows = read_manifest(tmp_path / 'set')
    assert len(rows) == sum(summary.labelled for summary in done) == 24
    for summary in done:
        of_attempt = [row for row in rows if row.attempt == f'grasps/{summary.attempt}']
        assert len(of_attempt) == 4
        assert (of_attempt[-1].label is Label.SUCCESS) == summary.success
    truth, pictures = {}, {}
    with open_bag(bag) as reader:
        for connection, stamp_ns, data in reader.messages():
            content = reader.deserialize(data, connection.msgtype)
            if connection.topic == GROUND_TRUTH_TOPIC:
                truth[stamp_ns] = content.data
            elif connection.topic == COMPRESSED_TOPIC:
                pictures[stamp_ns] = decode_message(content)
    assert [(row.stamp_ns, row.label is Label.SUCCESS) for row in rows] == sorted(truth.items())
    assert json.loads((tmp_path / 'set/dataset.json').read_text())['frames'] == 24
    # Training reads the same pictures from the data set as are in the bag.
    split = read_extracted(tmp_path / 'set')
    frames = split.train + split.val + split.test
    assert len(frames) == 24 and split.train and split.val and split.test
    for frame in frames:
        np.testing.assert_array_equal(decode_message(frame.message), pictures[frame.stamp_ns])
    next((tmp_path / 'set/failure').iterdir()).unlink()
    with pytest.raises(DatasetError, match='1 frame missing: failure/'):
        read_extracted(tmp_path / 'set')


@pytest.mark.slow
def test_a_dask_cluster_of_two_workers_makes_the_same_data_set(tmp_path):
    distributed = pytest.importorskip('distributed')
    sources = [write_mcap(tmp_path / f'{i}.mcap', raw_messages(60, height=20 + i))
               for i in range(2)] + [write_folder(tmp_path / 'c', jpeg_messages(60, 500),
                                                  'sqlite3_zstd_file')]
    command = [*sources, '--label', 'success']
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert run(*command, '--out', tmp_path / 'dask',
                   '--dask', cluster.scheduler_address) == 0
        logs = cluster.get_logs()
        assert len(cluster.workers) == 2 and logs
    assert run(*command, '--out', tmp_path / 'local') == 0
    assert same_data_set(tmp_path / 'dask', tmp_path / 'local')
    assert len(rows_of(tmp_path / 'dask')) == 180
