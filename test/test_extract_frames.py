"""extract_frames: every form of recording, the options that choose frames, and the output."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
from processes import start
import pytest
from recordings import (
    bool_message,
    COMPRESSED,
    compressed_image,
    FORMS,
    IMAGE,
    jpeg_message,
    jpeg_messages,
    message,
    PERIOD_NS,
    picture,
    png_message,
    raw_messages,
    START_NS,
    TOPIC,
    write_folder,
    write_form,
    write_mcap,
    write_video,
)

from grasp_success_detector.cli.extract_frames import main
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.images.encoding import encode_jpeg, encode_png


def run(*arguments, jobs=1):
    return main([*map(str, arguments), '--jobs', str(jobs)])


def rows_of(folder):
    with (folder / 'manifest.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def extracted(tmp_path, *arguments, rc=0, **more):
    out = tmp_path / 'set'
    assert run(*arguments, '--out', out, **more) == rc
    return rows_of(out) if rc == 0 else None


@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_bag_comes_back_pixel_for_pixel(tmp_path, form):
    bag = write_form(tmp_path, form)
    rows = extracted(tmp_path, bag, '--label', 'success', '--format', 'png')
    assert [int(row['stamp_ns']) for row in rows] == [START_NS + i * PERIOD_NS for i in range(6)]
    for i, row in enumerate(rows):
        assert row['file'] == f'success/lab__camera_image_raw__{row["stamp_ns"]}.png'
        assert row['topic'] == TOPIC
        np.testing.assert_array_equal(read_image(tmp_path / 'set' / row['file']), picture(i))


@pytest.mark.parametrize('suffix', ['.mp4', '.webm', '.avi', '.mkv'])
def test_every_form_of_video(tmp_path, suffix):
    rows = extracted(tmp_path, write_video(tmp_path / f'take{suffix}'), '--label', 'failure')
    assert [int(row['stamp_ns']) for row in rows] == [i * 10 ** 8 for i in range(12)]
    for i, row in enumerate(rows):
        shown = read_image(tmp_path / 'set' / row['file']).astype(int)
        # Videos lose detail, but each frame is that picture and no other.
        errors = [np.abs(shown - picture(j, 48, 64)).mean() for j in range(12)]
        assert int(np.argmin(errors)) == i


def test_jpeg_and_png_are_copied_byte_for_byte_when_nothing_is_to_be_changed(tmp_path):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(3))
    for i, row in enumerate(extracted(tmp_path, bag, '--label', 'success')):
        data = (tmp_path / 'set' / row['file']).read_bytes()
        assert data == encode_jpeg(picture(i))
        assert row['sha256'] == hashlib.sha256(data).hexdigest()
    bag = write_mcap(tmp_path / 'b.mcap', [
        message(TOPIC, COMPRESSED, START_NS, png_message(1, START_NS))])
    row, = extracted(tmp_path / 'png', bag, '--label', 'success', '--format', 'png')
    assert (tmp_path / 'png/set' / row['file']).read_bytes() == encode_png(picture(1))
    row, = extracted(tmp_path / 'jpg', bag, '--label', 'success')
    assert row['file'].endswith('.jpg')
    assert np.abs(read_image(tmp_path / 'jpg/set' / row['file']).astype(int) - picture(1)
                  ).mean() < 12


def test_images_that_copying_would_change_are_decoded(tmp_path):
    """A Bayer mosaic and a 16-bit png show something else than what decoding gives."""
    mosaic = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    deep = np.random.default_rng(1).integers(0, 65536, (8, 8, 3), np.uint16)
    stamps = START_NS, START_NS + PERIOD_NS
    bag = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, COMPRESSED, stamps[0], compressed_image(
            cv2.imencode('.png', mosaic)[1].tobytes(), stamps[0]).replace(
                b'rgb8; jpeg compressed bgr8', b'bayer_rggb8; png compresse')),
        message(TOPIC, COMPRESSED, stamps[1], compressed_image(
            cv2.imencode('.png', deep)[1].tobytes(), stamps[1]))])
    rows = extracted(tmp_path, bag, '--label', 'success', '--format', 'png')
    first, second = (read_image(tmp_path / 'set' / row['file']) for row in rows)
    np.testing.assert_array_equal(first, cv2.cvtColor(mosaic, cv2.COLOR_BayerBG2RGB))
    np.testing.assert_array_equal(second, (deep >> 8).astype(np.uint8)[:, :, ::-1])


@pytest.mark.parametrize(('options', 'expected'), [
    (['--roi', '8,4,16,12'], lambda rgb: rgb[4:16, 8:24]),
    (['--roi', '.25,.5,.5,.5'], lambda rgb: rgb[12:24, 8:24]),
    (['--resize', '16x12'], lambda rgb: cv2.resize(rgb, (16, 12), interpolation=cv2.INTER_AREA)),
    (['--resize', '64x48', '--roi', '0,0,.5,1'], lambda rgb: cv2.resize(
        np.ascontiguousarray(rgb[:, :16]), (64, 48), interpolation=cv2.INTER_LINEAR)),
])
def test_region_and_size(tmp_path, options, expected):
    bag = write_mcap(tmp_path / 'a.mcap', raw_messages(1))
    row, = extracted(tmp_path, bag, '--label', 'success', '--format', 'png', *options)
    np.testing.assert_array_equal(read_image(tmp_path / 'set' / row['file']),
                                  expected(picture(0)))


@pytest.mark.parametrize(('options', 'numbers'), [
    (['--every', '3'], [0, 3, 6, 9]),
    (['--fps', '5'], [0, 2, 4, 6, 8]),
    (['--fps', '100'], list(range(10))),
    (['--start', '.25', '--end', '.6'], [3, 4, 5]),
    (['--start', '.25', '--every', '4'], [3, 7]),
])
def test_choice_of_frames(tmp_path, options, numbers, capsys):
    rows = extracted(tmp_path, write_mcap(tmp_path / 'a.mcap', jpeg_messages(10)),
                     '--label', 'success', *options)
    assert [(int(row['stamp_ns']) - START_NS) // PERIOD_NS for row in rows] == numbers
    counts = json.loads((tmp_path / 'set/dataset.json').read_text())['sources']['a']
    assert counts['written'] + sum(counts['skipped'].values()) == counts['found'] == 10


def test_intervals_give_labels_and_attempts(tmp_path, capsys):
    bag = write_mcap(tmp_path / 'lab.mcap', jpeg_messages(10))
    video = write_video(tmp_path / 'take.mp4')
    labels = tmp_path / 'labels.csv'
    labels.write_text('source,start_s,end_s,label,attempt\n'
                      'lab,0,.3,failure,a\nlab.mcap,9,10,success,b\n'
                      'take.mp4,0.1,0.3,success,\n')
    # Names of a source are not mixed: the more exact one is taken.
    rows = extracted(tmp_path, bag, video, '--labels', labels)
    assert {(r['source'], r['label'], r['attempt']) for r in rows} == {
        ('take', 'success', 'take/0')}
    assert capsys.readouterr().err == (
        f'note: {labels}: 1 row not used, whose source names no given recording, or one that '
        'other rows name more exactly: lab\n')
    labels.write_text('source,start_s,end_s,label,attempt\n'
                      'lab,0,.3,failure,a\nlab,.5,.7,success,b\ntake,0.1,0.3,success,\n')
    rows = extracted(tmp_path / 'two', bag, video, '--labels', labels)
    assert [(r['label'], r['attempt'], int(r['stamp_ns']) % 10 ** 9 // 10 ** 8) for r in rows] == [
        ('failure', 'lab/a', 0), ('failure', 'lab/a', 1), ('failure', 'lab/a', 2),
        ('success', 'lab/b', 5), ('success', 'lab/b', 6),
        ('success', 'take/0', 1), ('success', 'take/0', 2)]
    assert {row['file'].split('/')[0] for row in rows} == {'failure', 'success'}


def test_recordings_of_the_same_name_are_told_apart_by_more_of_their_paths(tmp_path, capsys):
    days = [write_folder(tmp_path / day / 'rig', jpeg_messages(2)) for day in ('mon', 'tue')
            if (tmp_path / day).mkdir() is None]
    labels = tmp_path / 'labels.csv'
    labels.write_text('source,start_s,end_s,label\nrig,0,1,success\n')
    extracted(tmp_path, *days, '--labels', labels, rc=1)
    assert capsys.readouterr().err == (
        f'error: {labels}: source rig names 2 recordings ({days[0]}, {days[1]}); expected more of '
        f'its path, such as {days[0]}\n')
    labels.write_text('source,start_s,end_s,label\nmon/rig,0,1,success\n./tue/rig/,0,1,failure\n'
                      'mon/rig,-2,0,success\nmon/rig,7,8,success\n')
    rows = extracted(tmp_path, *days, '--labels', labels, '--split', '1/0/0')
    assert [(row['source'], row['label']) for row in rows] == [
        ('mon.rig', 'success')] * 2 + [('tue.rig', 'failure')] * 2
    assert '  damage: 2 interval of --labels outside of the recording\ntue.rig: 2 of 2 frames' in (
        capsys.readouterr().out)


def test_intervals_find_a_source_whose_name_the_locale_cannot_decode(tmp_path):
    write_mcap(tmp_path / 'Würfel.mcap', jpeg_messages(2))
    (tmp_path / 'labels.csv').write_text(
        'source,start_s,end_s,label\nWürfel.mcap,0,1,success\n', encoding='utf-8')
    done = subprocess.run(
        [sys.executable, '-c', 'from grasp_success_detector.cli.extract_frames import main; '
         'raise SystemExit(main())', tmp_path / 'Würfel.mcap', '--labels', tmp_path / 'labels.csv',
         '--out', tmp_path / 'set', '--jobs', '1'],
        env=os.environ | {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
        capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(r['source'], r['label']) for r in rows_of(tmp_path / 'set')] == [
        ('W_rfel', 'success')] * 2


@pytest.mark.parametrize(('text', 'error'), [
    ('source,start,label\n', 'no column start_s, end_s; expected a CSV with'),
    ('source,start_s,end_s,label\nlab,0,1,grasped\n', "line 2: label 'grasped' .expected failure"),
    ('source,start_s,end_s,label\nlab,2,1,success\n', r'line 2: interval 2.0 to 1.0 s'),
    ('source,start_s,end_s,label\nlab,x,1,success\n', "line 2: start_s 'x'"),
    ('source,start_s,end_s,label\nlab,0,2,success\nlab,1,3,failure\n',
     'lab: 0 to 2 s and 1 to 3 s overlap'),
    ('source,start_s,end_s,label\nlab,0,1e300,success\nlab,nan,1,success\nlab,-inf,1e13,failure\n',
     r'line 2: interval 0.0 to 1e\+300 s \(expected start_s below end_s, at most 1e\+12\); '
     'line 3: interval nan to 1.0 s .*; line 4: interval -inf to 10'),
    ('source,start_s,end_s,label,attempt\nlab,0,1,success,\nlab,0,1,success,a\n',
     'lab: 0 to 1 s and 0 to 1 s overlap'),
])
def test_wrong_intervals_are_one_line_and_leave_nothing(tmp_path, text, error, capsys):
    bag = write_mcap(tmp_path / 'lab.mcap', jpeg_messages(2))
    (tmp_path / 'labels.csv').write_text(text)
    extracted(tmp_path, bag, '--labels', tmp_path / 'labels.csv', rc=1)
    err = capsys.readouterr().err
    assert re.search(error, err) and err.count('\n') == 1
    assert not (tmp_path / 'set').exists()


def test_text_files_are_utf_8_in_every_locale(tmp_path):
    bag = write_folder(tmp_path / 'bag', [
        *jpeg_messages(4), bool_message('/gehalten/für', START_NS, True)])
    data = next(bag.glob('*.mcap'))
    data.write_bytes(data.read_bytes()[:-data.stat().st_size // 3])
    labels = tmp_path / 'labels.csv'
    labels.write_text('source,start_s,end_s,label\nbag,0,9,success\nTür,0,9,success\n',
                      encoding='utf-8')
    program = ('import sys\nfrom grasp_success_detector.cli.extract_frames import main\n'
               'sys.exit(main(sys.argv[1:]))')
    done = subprocess.run(
        [sys.executable, '-c', program, str(bag), '--labels', str(labels), '--out',
         str(tmp_path / 'set'), '--jobs', '1'], capture_output=True, text=True, timeout=120,
        env=os.environ | {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'})
    assert done.returncode == 0, done.stderr
    assert 'frames missing that metadata.yaml counts' in done.stdout


def test_a_label_topic_holds_until_its_next_message(tmp_path):
    messages = jpeg_messages(8)
    for at, value in ((2, False), (5, True)):
        messages.append(bool_message('/holding', START_NS + at * PERIOD_NS - 1, value))
    bag = write_mcap(tmp_path / 'a.mcap', sorted(messages, key=lambda m: m.stamp_ns))
    rows = extracted(tmp_path, bag, '--label-topic', '/holding')
    assert [row['label'] for row in rows] == ['failure'] * 3 + ['success'] * 3
    rows = extracted(tmp_path / 'b', bag, '--label-topic', '/holding', '--label-hold', '.15')
    assert [row['label'] for row in rows] == ['failure'] * 2 + ['success'] * 2


def test_labels_without_a_frame_are_named(tmp_path, capsys):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(2))
    extracted(tmp_path, bag, rc=3)
    assert 'give --label, --labels or --label-topic' in capsys.readouterr().out
    extracted(tmp_path, bag, '--label-topic', '/none', rc=3)
    assert 'no std_msgs/Bool of /none counts for any' in capsys.readouterr().out


def test_pauses_begin_new_attempts(tmp_path):
    stamps = [START_NS + round(t * 1e9) for t in (0, .1, .2, 3., 3.1, 9.)]
    bag = write_mcap(tmp_path / 'a.mcap', [
        message(TOPIC, COMPRESSED, s, jpeg_message(i, s)) for i, s in enumerate(stamps)])
    rows = extracted(tmp_path, bag, '--label', 'success', '--attempt-gap', '2')
    assert [row['attempt'] for row in rows] == ['a/0'] * 3 + ['a/1'] * 2 + ['a/2']
    rows = extracted(tmp_path / 'b', bag, '--label', 'success')
    assert {row['attempt'] for row in rows} == {'a/0'}


def test_the_topic_must_be_chosen_where_there_are_several(tmp_path, capsys):
    other = [message('/left/image', IMAGE, m.stamp_ns, m.data) for m in raw_messages(4)]
    bag = write_folder(tmp_path / 'two', raw_messages(2) + other)
    extracted(tmp_path, bag, '--label', 'success', rc=1)
    assert re.search(r'expected one image topic, found: /camera/image_raw \(2\), '
                     r'/left/image \(4\); choose with --topic', capsys.readouterr().err)
    assert not (tmp_path / 'set').exists()
    extracted(tmp_path, bag, '--label', 'success', '--topic', '/right', rc=1)
    assert 'no image topic /right; image topics here: /camera' in capsys.readouterr().err
    rows = extracted(tmp_path, bag, '--label', 'success', '--topic', '/left/image')
    assert {row['topic'] for row in rows} == {'/left/image'} and len(rows) == 4


def test_any_file_name_gives_a_source_name(tmp_path):
    for number, name in enumerate(['1²2', 'x' * 100 + os.fsdecode(b'\xff')]):
        folder = tmp_path / f'bag{number}'
        folder.mkdir()
        bag = write_mcap(folder / f'{name}.mcap', jpeg_messages(1))
        row, = extracted(folder, folder, '--label', 'success')
        assert row['source'] == folder.name
        row, = extracted(tmp_path / f'out{number}', bag, '--label', 'success')
        assert re.fullmatch(r'[A-Za-z0-9._-]{1,100}', row['source'])


def test_many_sources_globs_and_equal_names(tmp_path):
    for day in ('day1', 'day2'):
        (tmp_path / day).mkdir()
        for i in range(2):
            write_mcap(tmp_path / day / f'take {i}.mcap',
                       jpeg_messages(3, first=10 * i + (50 if day == 'day2' else 0)))
    rows = extracted(tmp_path, tmp_path / 'day*/*.mcap', '--label', 'success', jobs=2)
    assert list(dict.fromkeys(row['source'] for row in rows)) == [
        'day1.take_0', 'day1.take_1', 'day2.take_0', 'day2.take_1']
    assert len({row['file'] for row in rows}) == 12


@pytest.mark.parametrize('topic', ['/a/../../b', '/weird name/ü', '/' + 'x' * 300, '~/private'])
def test_any_topic_name_gives_a_safe_file_name(tmp_path, topic):
    messages = [message(topic, COMPRESSED, START_NS, jpeg_message(0, START_NS))] * 2
    bag = write_mcap(tmp_path / 'a.mcap', messages)
    rows = extracted(tmp_path, bag, '--label', 'success')
    # the same stamp twice: two files
    assert len({row['file'] for row in rows}) == 2
    for row in rows:
        assert re.fullmatch(r'success/[A-Za-z0-9._-]{1,200}', row['file'])
        assert (tmp_path / 'set' / row['file']).is_file()
        assert row['topic'] == topic


@pytest.mark.slow
@pytest.mark.parametrize(('arguments', 'text'), [
    (['nowhere.mcap', 'nobody/*.db3'],
     r'nowhere.mcap: no such bag, video or picture; nobody/\*.db3: no'),
    (['.'], 'no recording, no pictures, no data set; expected a rosbag2 folder'),
    (['a.mcap', 'again.mcap', '--label', 'success'],
     'a.mcap and again.mcap: have .*/a.mcap in common; expected each recording once$'),
    (['a.mcap', '--label', 'held'], r"label 'held' \(expected failure or success\)"),
    (['a.mcap', '--label', 'success', '--label-topic', '/x'],
     "frames with --label 'success' .expected only one of --label and --label-topic.$"),
    (['a.mcap', '--labels', 'x.csv', '--label-topic', '/x'],
     "frames with --labels 'x.csv' .expected only one of --labels and --label-topic.$"),
    (['a.mcap', '--label-hold', '2'], '--label-hold 2.0 .expected none without --label-topic.$'),
    (['a.mcap', '--fps', '-1', '--every', '0'],
     r'fps -1.0 \(expected a number above 0 and up to 1000000\), '
     r'--every 0 \(expected a whole number of 1 or'),
    (['a.mcap', '--label-hold', 'nan', '--fps', '1e300'],
     '--label-hold nan .expected a number .*, --fps 1e[+]300 '
     '.expected a number above 0 and up to 1000000'),
    (['a.mcap', '--topic', '', '--label-topic', ''],
     "topic '' .*, --label-topic '' .expected the name"),
    (['a.mcap', '--topic', '/a\nb'], r"topic '/a\\nb' \(expected the name of a topic\)"),
    (['a.mcap', '--split', '.5/.2/.2'],
     r'split \(0.5, 0.2, 0.2\) \(expected three fractions that add up to 1\)'),
    (['a.mcap', '--roi', '0,0,2,.5', '--resize', '0x4'], 'resize'),
    (['a.mcap', '--dask', 'tcp://127.0.0.1:1'], 'no Dask scheduler answers there'),
    (['a.mcap', '--dask', 'head'], '--dask head: expected the address of a scheduler'),
    (['a.mcap', '--labels', 'none.csv'], r'none.csv: cannot be read \(No such file or directory'),
    (['a.mcap', '--jobs', '-3'], '--jobs -3: expected 1 or more processes'),
    (['a.mcap', '--jobs', '0'], '--jobs 0: expected 1 or more processes'),
    (['a.mcap', '--resize', '99999x99999'], r'resize \(99999, 99999\) \(expected 2 values, each'),
    (['a.mcap', '--resize', '60000x60000'], r'resize .* \(expected .* at most 100 megapixels\)'),
    (['a.mcap', '--quality', '0'], r'quality 0 \(expected a whole number from 1 to 100\)'),
    (['a.mcap', '--quality', '101'], r'quality 101 \(expected a whole number from 1 to 100\)'),
    (['a.mcap', '--roi', 'nan,0,1,1'], r'roi \(nan, .*\(expected 4 values, each a number from 0'),
    (['a.mcap', '--roi', '1e308,0,1e308,1'], r'roi \(1e\+308.*\(expected 4 values'),
    (['a.mcap', '--roi', '0,0,0,5'], r'roi .*\(expected x, y, width, height within the picture'),
    (['a.mcap', '--roi', '.5,.5,.6,.6'], r'roi .*\(expected x, y, width, height within the pic'),
    (['a.mcap', '--split', 'nan/1/0'], r'split .* \(expected 3 values, each a number of 0'),
])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, arguments, text, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == 'a.mcap':
        write_mcap(tmp_path / 'a.mcap', jpeg_messages(1))
        (tmp_path / 'again.mcap').symlink_to('a.mcap')
    assert main(['--out', 'set', '--jobs', '1', *arguments]) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err, re.MULTILINE)
    if '--dask' not in arguments:   # distributed logs to stderr, too
        assert err.count('\n') == 1
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize(('option', 'text'), [
    (['--resize', '10.9x10.9'], "argument --resize: '10.9x10.9': expected WIDTHxHEIGHT, each"),
    (['--resize', '10'], "argument --resize: '10': expected WIDTHxHEIGHT, each a whole number"),
    (['--roi', '1,2,3'], "argument --roi: '1,2,3': expected X,Y,WIDTH,HEIGHT, each a number"),
    (['--quality', 'best'], "argument --quality: invalid int value: 'best'"),
])
def test_options_that_cannot_be_parsed_are_usage_errors(tmp_path, option, text, capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['a.mcap', '--out', str(tmp_path / 'set'), *option])
    assert text in capsys.readouterr().err
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('out', ['a.mcap/set', '/sys/set', '/proc/set', 'x' * 300])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, out, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mcap(tmp_path / 'a.mcap', jpeg_messages(1))
    assert run('a.mcap', '--label', 'success', '--out', out) == 1
    assert re.fullmatch(f'error: {out}: cannot be written .+; once it can be, the same .*\n',
                        capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ['a.mcap']


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    topic = '/weird name/ü'
    bag = write_mcap(tmp_path / 'a.mcap', [message(topic, m.msgtype, m.stamp_ns, m.data)
                                           for m in jpeg_messages(2)])
    labels = tmp_path / 'labels.csv'
    labels.write_text('source,start_s,end_s,label,attempt\na,0,9,success,täg\n',
                      encoding='utf-8')
    process = start('extract_frames', bag, '--labels', labels, '--out', tmp_path / 'set', '--jobs',
                    1, env={**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0',
                            'PYTHONCOERCECLOCALE': '0'})
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and not errors
    assert f'a: 2 of 2 frames of {topic}' in printed
    rows = rows_of(tmp_path / 'set')
    assert {(row['topic'], row['attempt']) for row in rows} == {(topic, 'a/täg')}
    # What one locale has written the other reads.
    assert run(bag, '--labels', labels, '--out', tmp_path / 'set') == 0


def test_no_labelled_frame_is_no_data_set(tmp_path, capsys):
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(3))
    extracted(tmp_path, bag, rc=3)
    printed = capsys.readouterr().out
    assert '0 of 3 frames' in printed and '3 no label' in printed and 'give --label' in printed
    assert not (tmp_path / 'set').exists()


@pytest.mark.slow
def test_torchvision_reads_the_folder(tmp_path):
    import grasp_success_detector.networks.torchvision_ops  # noqa: F401  (makes torchvision importable)
    datasets = pytest.importorskip('torchvision.datasets')
    messages = jpeg_messages(6)
    messages += [bool_message('/h', m.stamp_ns - 1, i > 2) for i, m in enumerate(messages)]
    bag = write_mcap(tmp_path / 'a.mcap', messages)
    extracted(tmp_path, bag, '--label-topic', '/h')
    folder = datasets.ImageFolder(str(tmp_path / 'set'))
    assert folder.classes == ['failure', 'success'] and folder.targets == [0] * 3 + [1] * 3
    assert folder[0][0].size == (32, 24)


def test_several_processes_give_the_result_of_one(tmp_path):
    bag = write_mcap(tmp_path / 'a.mcap', raw_messages(70), 'zstd')
    one = extracted(tmp_path / 'one', bag, '--label', 'success')
    two = extracted(tmp_path / 'two', bag, '--label', 'success', jobs=2)
    assert one == two and len(one) == 70
