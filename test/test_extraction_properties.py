"""extract_frames on any input: no crash, no silent loss, and the counts add up."""

import csv
import json
from pathlib import Path
import subprocess
import sys
import tempfile

from hypothesis import example, given, HealthCheck, settings, strategies as st
import pytest
from recordings import (
    COMPRESSED,
    IMAGE,
    jpeg_message,
    message,
    picture,
    raw_image,
    raw_messages,
    ROS1,
    START_NS,
    TOPIC,
    write_folder,
    write_mcap,
    write_ros1,
)

from grasp_success_detector.cli.extract_frames import main
from grasp_success_detector.images.decoding import read_image

COUNT = 12
JPEG = [jpeg_message(i, START_NS + i) for i in range(3)]
RAW = [raw_image(picture(i), START_NS + i) for i in range(3)]

# Random bytes at random places, and cuts: what a failing disk or a killed recorder leaves.
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)),
                   max_size=6)
cuts = st.floats(0, 1)


def changed(data: bytes, edits, kept: float = 1.) -> bytes:
    damaged = bytearray(data)
    for place, new in edits:
        at = int(place * len(damaged))
        damaged[at:at + len(new)] = new[:len(damaged) - at]
    return bytes(damaged[:round(len(damaged) * kept)])


def account(source: Path, out: Path):
    """Extract; check that what was written can be read back, and return the account."""
    rc = main([str(source), '--label', 'success', '--format', 'png', '--out', str(out),
               '--jobs', '1'])
    assert rc in (0, 3)
    if rc == 3:
        assert not out.exists()
        return None
    found, = json.loads((out / 'dataset.json').read_text())['sources'].values()
    with (out / 'manifest.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found['written'] == len({row['file'] for row in rows})
    assert found['found'] == found['written'] + sum(found['skipped'].values()) + sum(
        found['refused'].values())
    for row in rows:
        assert read_image(out / row['file']).size
    return found


quick = settings(max_examples=40, deadline=None,
                 suppress_health_check=[HealthCheck.too_slow])


@quick
@given(st.lists(st.tuples(st.sampled_from(JPEG), changes, st.just(1.) | cuts),
                min_size=1, max_size=8))
@example([(JPEG[0], [(.5, b'\xff\xd9')], 1.), (b'', [], 1.)])
def test_mutated_compressed_messages(messages):
    check_messages(COMPRESSED, messages)


@quick
@given(st.lists(st.tuples(st.sampled_from(RAW), changes, st.just(1.) | cuts),
                min_size=1, max_size=8))
def test_mutated_raw_messages(messages):
    check_messages(IMAGE, messages)


def check_messages(msgtype, messages):
    with tempfile.TemporaryDirectory() as folder:
        path = write_mcap(Path(folder) / 'a.mcap', [
            message(TOPIC, msgtype, START_NS + i, changed(*parts))
            for i, parts in enumerate(messages)])
        found = account(path, Path(folder) / 'set')
        whole = sum(not edits and kept == 1. and data != b'' for data, edits, kept in messages)
        assert (found is None and not whole) or (
            found['found'] == len(messages) and found['written'] >= whole)


def file_bytes(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        if suffix == '.bag':
            return write_ros1(Path(folder) / 'a.bag', raw_messages(COUNT, ROS1)).read_bytes()
        if suffix == '.db3':
            bag = write_folder(Path(folder) / 'a', raw_messages(COUNT), 'sqlite3')
            return next(bag.glob('*.db3')).read_bytes()
        form = suffix.strip('.').removesuffix('mcap') or 'plain'
        return write_mcap(Path(folder) / 'a.mcap', raw_messages(COUNT), form).read_bytes()


FILES = {suffix: file_bytes(suffix)
         for suffix in ('.mcap', '.zstdmcap', '.lz4mcap', '.unchunkedmcap', '.db3', '.bag')}


@pytest.mark.slow
@settings(quick, max_examples=120)
@given(st.sampled_from(sorted(FILES)), changes, st.just(1.) | cuts)
def test_mutated_files(suffix, edits, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ('a.mcap' if suffix.endswith('mcap') else f'a{suffix}')
        path.write_bytes(changed(FILES[suffix], edits, kept))
        found = account(path, Path(folder) / 'set')
        if not edits and kept == 1.:
            assert found is not None and found['written'] == COUNT and not found['damage']
        elif found is not None:
            # Damage may change a length or a stamp, but it invents no frames.
            assert found['found'] <= COUNT


@settings(quick, max_examples=60)
@given(st.binary(max_size=400), st.sampled_from(['.mcap', '.db3', '.bag', '.mcap.zstd']))
def test_files_with_any_content(data, suffix):
    magic = {'.mcap': b'\x89MCAP0\r\n', '.db3': b'SQLite format 3\0', '.bag': b'#ROSBAG V2.0\n',
             '.mcap.zstd': b'\x28\xb5\x2f\xfd'}[suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'a{suffix}'
        path.write_bytes(magic + data)
        assert account(path, Path(folder) / 'set') is None


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """A bag of 100,000 frames and half a gigabyte, of which every 20th frame is written."""
    count = 100_000
    data = raw_image(picture(0, 32, 48), 0)
    path = write_mcap(tmp_path / 'a.mcap', (
        message(TOPIC, IMAGE, START_NS + i * 10 ** 6, data) for i in range(count)),
        chunk_size=1 << 20)
    # Not ru_maxrss: a new process begins with that of the one that made it.
    program = ('import re, sys\n'
               'from grasp_success_detector.cli.extract_frames import main\n'
               'rc = main(sys.argv[1:])\n'
               'status = open("/proc/self/status").read()\n'
               'print(rc, re.search(r"VmHWM:\\s+(\\d+)", status)[1])')
    done = subprocess.run(
        [sys.executable, '-c', program, str(path), '--label', 'success', '--every', '20', '--out',
         str(tmp_path / 'set'), '--jobs', '1'], capture_output=True, text=True, check=True)
    rc, peak_kb = map(int, done.stdout.split()[-2:])
    size = path.stat().st_size
    assert rc == 0 and size > 450e6
    assert f'5000 of {count} frames' in done.stdout
    assert peak_kb * 1024 < 250e6
