"""All readable frames of damaged recordings are extracted, and every loss is counted."""

import csv
import json
import re
import sqlite3
import struct

import numpy as np
import pytest
from recordings import (
    COMPRESSED,
    compressed_image,
    IMAGE,
    jpeg_message,
    jpeg_messages,
    MCAP_FILES,
    message,
    PERIOD_NS,
    picture,
    raw_image,
    raw_messages,
    ROS1,
    START_NS,
    TOPIC,
    write_folder,
    write_mcap,
    write_ros1,
    write_video,
)

from grasp_success_detector.cli.extract_frames import main
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.recordings.selection import FrameSelection, plan_source
from grasp_success_detector.recordings.sources import find_sources

COUNT = 200


def extract(out, *sources, rc=0, options=('--label', 'success', '--format', 'png')):
    """Run the command; return manifest rows and the account of the first source."""
    assert main([*map(str, sources), *options, '--out', str(out), '--jobs', '1']) == rc
    if rc:
        assert not out.exists()
        return [], None
    with (out / 'manifest.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    account, *_ = json.loads((out / 'dataset.json').read_text())['sources'].values()
    assert account['found'] == (account['written'] + sum(account['skipped'].values())
                                + sum(account['refused'].values()))
    return rows, account


def check_pictures(out, rows):
    for row in rows:
        number = (int(row['stamp_ns']) - START_NS) // PERIOD_NS
        np.testing.assert_array_equal(read_image(out / row['file']), picture(number))


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:round(len(data) * share)])


@pytest.mark.parametrize('chunk_size', [8_000, 10_000_000])
@pytest.mark.parametrize('form', MCAP_FILES)
def test_cut_mcap_gives_the_frames_before_the_cut(tmp_path, form, chunk_size):
    path = write_mcap(tmp_path / 'a.mcap', raw_messages(COUNT), form, chunk_size)
    cut(path, .7)
    rows, account = extract(tmp_path / 'set', path)
    # 70 % of the bytes; the last message and what belongs to it may be gone
    assert len(rows) >= .7 * COUNT - 3
    assert 'cut off' in account['damage']
    check_pictures(tmp_path / 'set', rows)


def test_a_cut_folder_reports_frames_missing_against_its_metadata(tmp_path, capsys):
    bag = write_folder(tmp_path / 'bag', raw_messages(COUNT))
    cut(next(bag.glob('*.mcap')), .7)
    rows, account = extract(tmp_path / 'set', bag)
    assert len(rows) >= .7 * COUNT - 3
    missing = account['damage']['frames missing that metadata.yaml counts']
    assert len(rows) + missing == COUNT
    assert f'{missing} frames missing that metadata.yaml counts' in capsys.readouterr().out


@pytest.mark.parametrize('form', ['ros1', 'ros1_lz4', 'ros1_bz2'])
def test_cut_ros1_bag_that_was_never_indexed(tmp_path, form):
    messages = raw_messages(100, ROS1, height=96, width=128)  # four chunks
    path = write_ros1(tmp_path / 'a.bag', messages, form)
    cut(path, .7)
    path = path.rename(tmp_path / 'a.bag.active')
    rows, account = extract(tmp_path / 'set', path)
    # bz2 gives nothing of a block of 900 kB that is not whole, lz4 of one of 64 kB
    assert len(rows) >= (50 if form == 'ros1_bz2' else 66)
    assert 'cut off' in account['damage']
    for row in rows:
        number = (int(row['stamp_ns']) - START_NS) // PERIOD_NS
        np.testing.assert_array_equal(read_image(tmp_path / 'set' / row['file']),
                                      picture(number, 96, 128))


@pytest.mark.parametrize(('size', 'count'), [((24, 32), 400), ((120, 160), 60)])
@pytest.mark.parametrize('share', [.3, .7, .95])
def test_cut_sqlite_gives_the_frames_of_its_pages(tmp_path, share, size, count):
    bag = write_folder(tmp_path / 'bag', raw_messages(count, height=size[0], width=size[1]),
                       'sqlite3')
    path = next(bag.glob('*.db3'))
    # An index over all times lies at the end or between: a real bag has it as well.
    cut(path, share)
    rows, account = extract(tmp_path / 'set', path)
    assert len(rows) >= share * count * .95 - 3
    assert account['damage']['damaged sqlite3 file'] == 1
    for row in rows:
        number = (int(row['stamp_ns']) - START_NS) // PERIOD_NS
        np.testing.assert_array_equal(read_image(tmp_path / 'set' / row['file']),
                                      picture(number, *size))


def test_sqlite_with_its_tree_overwritten(tmp_path):
    """Inner pages lost: SQLite sees no row behind them, though the leaves are all there."""
    bag = write_folder(tmp_path / 'bag', raw_messages(300), 'sqlite3')
    path = next(bag.glob('*.db3'))
    data = bytearray(path.read_bytes())
    size, = struct.unpack('>H', data[16:18])
    inner = [at for at in range(size, len(data), size) if data[at] == 5]
    assert inner
    for at in inner:
        data[at:at + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute('SELECT count(data) FROM messages').fetchone()
    rows, account = extract(tmp_path / 'set', bag)
    assert len(rows) == 300
    assert account['damage']['damaged sqlite3 file'] == 1
    check_pictures(tmp_path / 'set', rows)


@pytest.mark.parametrize('form', ['mcap_zstd_file', 'sqlite3_zstd_file'])
def test_cut_compressed_file(tmp_path, form):
    bag = write_folder(tmp_path / 'bag', raw_messages(COUNT), form)
    cut(next(bag.glob('*.zstd')), .7)
    rows, account = extract(tmp_path / 'set', bag)
    assert len(rows) >= .5 * COUNT
    assert account['damage']['cut-off or damaged compressed file'] == 1
    assert sorted(path.name for path in (tmp_path / 'set').iterdir()) == [
        'dataset.json', 'failure', 'manifest.csv', 'success']


@pytest.mark.parametrize('form', ['mcap', 'sqlite3', 'mcap_zstd_message', 'sqlite3_zstd_file'])
def test_folder_without_metadata(tmp_path, form):
    bag = write_folder(tmp_path / 'bag', raw_messages(5), form)
    (bag / 'metadata.yaml').unlink()
    rows, account = extract(tmp_path / 'set', bag)
    assert len(rows) == 5
    assert account['damage'] == {'metadata.yaml missing': 1}
    check_pictures(tmp_path / 'set', rows)


def test_reading_continues_after_a_damaged_part(tmp_path):
    path = write_mcap(tmp_path / 'a.mcap', raw_messages(COUNT), chunk_size=8_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 20_000] = np.random.default_rng(0).bytes(20_000)
    path.write_bytes(data)
    rows, account = extract(tmp_path / 'set', path)
    # 20 kB are some 9 frames of 2.3 kB; two chunks of 4 are hit at their edges
    assert len(rows) >= COUNT - 20
    assert int(rows[-1]['stamp_ns']) == START_NS + (COUNT - 1) * PERIOD_NS
    assert {'damaged record', 'damaged chunk'} & account['damage'].keys()


@pytest.mark.parametrize('every', [1, 20])
def test_a_wrong_checksum_is_noticed_whether_or_not_its_frames_are_taken(tmp_path, every):
    path = write_mcap(tmp_path / 'a.mcap', raw_messages(COUNT))  # two frames a chunk
    data = bytearray(path.read_bytes())
    for number in (50, 100, 101):
        data[data.index(picture(number).tobytes())] ^= 1
    path.write_bytes(data)
    rows, account = extract(tmp_path / 'set', path, options=(
        '--label', 'success', '--format', 'png', '--every', str(every)))
    assert len(rows) == COUNT / every
    assert account['damage'] == {'damaged chunk': 2}
    source, = find_sources([path])
    plan = plan_source(source, FrameSelection(label='success', every=every), [], tmp_path)
    assert plan.damage == {'damaged chunk': 2}


def test_one_bad_message_costs_that_message(tmp_path, capsys):
    good = jpeg_message(0, START_NS)
    stamps = [START_NS + i * PERIOD_NS for i in range(8)]
    jpeg = encode_jpeg(picture(1))
    raw = raw_image(picture(2), 0)
    payloads = [
        (COMPRESSED, good), (COMPRESSED, compressed_image(jpeg[:-30], stamps[1])),
        (COMPRESSED, compressed_image(b'', stamps[2])),
        (COMPRESSED, compressed_image(b'GIF89a', stamps[3])), (COMPRESSED, good[:40]),
        (COMPRESSED, b''), (COMPRESSED, b'\xff' * 500), (COMPRESSED, good)]
    path = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, kind, stamp, data)
        for (kind, data), stamp in zip(payloads, stamps, strict=True)])
    rows, account = extract(tmp_path / 'set', path, options=('--label', 'success'))
    assert len(rows) == 2
    assert account['refused'] == {'truncated': 1, 'empty_data': 1, 'unknown_format': 1,
                                  'unreadable_message': 3}
    assert re.search('refused: 1 empty_data, 1 truncated, 1 unknown_format, 3 unreadable_message',
                     capsys.readouterr().out)
    path = write_mcap(tmp_path / 'b.mcap', [
        message(TOPIC, IMAGE, START_NS, raw),
        message(TOPIC, IMAGE, START_NS + 1, raw.replace(b'rgb8\0', b'rgbX\0')),
        message(TOPIC, IMAGE, START_NS + 2, raw[:-100])])
    rows, account = extract(tmp_path / 'b', path)
    assert account['refused'] == {'unknown_encoding': 1, 'unreadable_message': 1}


def test_only_bad_messages_are_no_data_set(tmp_path, capsys):
    path = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, COMPRESSED, START_NS, compressed_image(b'GIF89a', START_NS))])
    extract(tmp_path / 'set', path, rc=3)
    assert 'refused: 1 unknown_format' in capsys.readouterr().out


def test_unset_stamps_become_receive_times_and_are_reported(tmp_path, capsys):
    path = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, COMPRESSED, START_NS + i, jpeg_message(i, 0 if i < 3 else START_NS + 100))
        for i in range(4)])
    rows, account = extract(tmp_path / 'set', path)
    assert [int(row['stamp_ns']) - START_NS for row in rows] == [0, 1, 2, 100]
    assert account['damage'] == {'stamp not set, receive time used': 3}
    assert '3 stamp not set, receive time used' in capsys.readouterr().out


def test_clocks_that_jump(tmp_path):
    """The clock is set three times: from 1970 to now, back by an hour, and on by two days."""
    seconds = [0., .1, .2, 1.7e9, 1.7e9 + .1, 1.7e9 - 3600, 1.7e9 - 3599.9, 1.7e9 + 172_800]
    stamps = [round(s * 1e9) + 1 for s in seconds]
    path = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, COMPRESSED, s, jpeg_message(i, s)) for i, s in enumerate(stamps)])
    rows, account = extract(tmp_path / 'set', path, options=(
        '--label', 'success', '--attempt-gap', '1', '--end', '.45'))
    assert [int(row['stamp_ns']) for row in rows] == stamps
    assert {row['attempt'] for row in rows} == {'a/0'}
    assert account['damage'] == {'clock set while recording': 3,
                                 'stamp earlier than the one before': 1}


def test_one_unreadable_source_does_not_stop_the_others(tmp_path, capsys):
    (tmp_path / 'empty.mcap').touch()
    (tmp_path / 'text.db3').write_text('no bag at all ' * 100)
    (tmp_path / 'not.mp4').write_bytes(b'\0' * 1000)
    (tmp_path / 'old.bag').write_text('#ROSBAG V1.2\n')
    good = write_mcap(tmp_path / 'good.mcap', jpeg_messages(3))
    broken = sorted(set(tmp_path.iterdir()) - {good})
    rows, _ = extract(tmp_path / 'set', good, *broken)
    assert len(rows) == 3
    printed = capsys.readouterr().out
    for name in ('empty', 'text', 'not', 'old'):
        assert f'{name}: nothing could be read: ' in printed
    extract(tmp_path / 'none', *broken, rc=3)


def test_cut_video(tmp_path):
    path = write_video(tmp_path / 'a.avi', 40)
    cut(path, .6)
    rows, account = extract(tmp_path / 'set', path)
    assert len(rows) + sum(account['refused'].values()) >= 22
    path = write_video(tmp_path / 'b.mp4')
    cut(path, .5)  # its index was at the end: nothing can be decoded, and that is said
    extract(tmp_path / 'b', path, rc=3)


def test_attempt_and_label_messages_that_are_damaged_are_counted(tmp_path):
    text = struct.pack('<4sI', b'\0\1\0\0', 4) + b'{"a\0'
    path = write_mcap(tmp_path / 'a.mcap', [
        *jpeg_messages(2), message('/attempt', 'std_msgs/msg/String', START_NS, text),
        message('/h', 'std_msgs/msg/Bool', START_NS, b'\0\1\0\0\7'),
        message('/h', 'std_msgs/msg/Bool', START_NS, b'\0\1\0\0\1')])
    rows, account = extract(tmp_path / 'set', path, options=('--label-topic', '/h'))
    assert len(rows) == 2
    assert account['damage'] == {'damaged attempt message': 1, 'damaged label message': 1}
