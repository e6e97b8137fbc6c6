"""inspect_dataset: counts, leaks, damaged files, the contact sheet and the page."""

import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
from recordings import (
    bool_message,
    COMPRESSED,
    compressed_image,
    jpeg_messages,
    message,
    PERIOD_NS,
    picture,
    START_NS,
    TOPIC,
    write_mcap,
)
from report_page import Page

from grasp_success_detector.cli.extract_frames import main as extract_frames
from grasp_success_detector.cli.inspect_dataset import main as inspect_dataset
from grasp_success_detector.images.decoding import decode_bytes, read_image
from grasp_success_detector.images.encoding import encode_jpeg


@pytest.fixture
def dataset(tmp_path):
    """Extract three attempts of each label, from two bags, all pictures different."""
    bags = []
    for b, name in enumerate(('first', 'second')):
        messages = []
        for attempt in range(3):
            start = START_NS + attempt * 10 * 10 ** 9
            for i in range(4):
                stamp = start + i * PERIOD_NS
                number = b * 100 + attempt * 10 + i
                messages.append(message(TOPIC, COMPRESSED, stamp, compressed_image(
                    encode_jpeg(picture(number, 48, 64)), stamp)))
            messages.append(bool_message('/held', start - 1, (attempt + b) % 2 == 0))
        bags.append(str(write_mcap(tmp_path / f'{name}.mcap', messages)))
    assert extract_frames([*bags, '--label-topic', '/held', '--attempt-gap', '1', '--jobs', '1',
                           '--split', '.5/.25/.25', '--out', str(tmp_path / 'set')]) == 0
    return tmp_path / 'set'


def inspect(dataset, *options, rc=0):
    assert inspect_dataset([str(dataset), '--jobs', '1', *options]) == rc


def row_lines(dataset):
    return (dataset / 'manifest.csv').read_text().splitlines()


@pytest.mark.slow
def test_counts_sheet_and_page_of_a_sound_data_set(dataset, capsys):
    inspect(dataset)
    printed = capsys.readouterr().out
    assert re.search(r'^first +8 +4 +3$', printed, re.MULTILINE)
    assert re.search(r'^second +4 +8 +3$', printed, re.MULTILINE)
    assert re.search(r'^first/2 +4 +0 +1$', printed, re.MULTILINE)
    assert 'WRONG' not in printed
    out = dataset.with_name('set-inspection')
    sheet = read_image(out / 'contact_sheet.png')
    assert sheet.shape[1] > 800 and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 100
    text = (out / 'index.html').read_text()
    page = Page(text)
    assert len(page.loads) == 24 and page.needs_nothing_else
    inspect(dataset, rc=1)
    assert re.search('index.html, .*contact_sheet.png: exists already; replace it with '
                     '--overwrite', capsys.readouterr().err)
    # What a killed one left; no process has this number (the kernel's limit is 2 ** 22).
    left = out.with_name(f'.{out.name}.partial-{socket.gethostname()}-{2 ** 30}')
    left.mkdir()
    inspect(dataset, '--overwrite')
    assert not left.exists()
    assert (out / 'index.html').read_text() == text
    (out / 'contact_sheet.png').unlink()    # as beside a page of another program
    inspect(dataset, '--overwrite', rc=1)
    assert 'index.html: is not of an earlier inspection' in capsys.readouterr().err
    assert 'Sound' in text and text.count('<svg') == 4 and 'Picture sizes: 64 x 48 (24)' in text


def test_page_is_utf_8_in_any_locale(dataset):
    """A locale of ASCII cannot decode the folder's name, which the page shows."""
    folder = dataset.rename(dataset.with_name('Würfel'))
    done = subprocess.run(
        [sys.executable, '-c', 'from grasp_success_detector.cli.inspect_dataset import main; '
         'raise SystemExit(main())', folder, '--jobs', '1'],
        env=os.environ | {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
        capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = folder.with_name('Würfel-inspection') / 'index.html'
    assert 'Data set Würfel' in Page(page.read_text(encoding='utf-8')).text


def test_damaged_changed_missing_and_unlisted_files_are_named(dataset, capsys):
    files = sorted(dataset.glob('*/*.jpg'))
    files[0].write_bytes(files[0].read_bytes()[:-200])
    files[1].unlink()
    files[2].write_bytes(encode_jpeg(picture(999, 48, 64)))
    (dataset / 'success/extra.jpg').write_bytes(files[3].read_bytes())
    inspect(dataset, rc=1)
    printed = capsys.readouterr().out
    assert '3 frames not as the manifest says: ' in printed
    assert '1 file not in the manifest, such as success/extra.jpg' in printed
    text = (dataset.with_name('set-inspection') / 'index.html').read_text()
    for part in ('ends too early', 'cannot be read', 'its sha256 is not', 'Not to be trusted'):
        assert part in text


@pytest.mark.parametrize('exact', [True, False])
def test_a_leak_fails_loudly(dataset, exact, capsys):
    """A picture of the training split is copied, also recompressed, to the test split."""
    import hashlib
    lines = row_lines(dataset)
    train = next(line for line in lines if ',train,' in line).split(',')
    at = next(i for i, line in enumerate(lines) if ',test,' in line)
    test = lines[at].split(',')
    data = (dataset / train[0]).read_bytes()
    if not exact:
        data = encode_jpeg(decode_bytes(data), 80)
    (dataset / test[0]).write_bytes(data)
    test[-2] = hashlib.sha256(data).hexdigest()
    lines[at] = ','.join(test)
    (dataset / 'manifest.csv').write_text('\n'.join(lines) + '\n')
    inspect(dataset, rc=1)
    printed = capsys.readouterr().out
    kind = 'the same picture' if exact else 'nearly the same picture'
    assert re.search(rf'WRONG: 1 frame leaks between splits: \S+ \(\w+\) is {kind} as', printed)
    assert '1 frame leaks' in (dataset.with_name('set-inspection') / 'index.html').read_text()


def test_a_folder_that_is_not_a_data_set_is_one_line(tmp_path, capsys):
    (tmp_path / 'folder').mkdir()
    inspect(tmp_path / 'folder', rc=1)
    assert 'no recording, no pictures, no data set' in capsys.readouterr().err
    bag = write_mcap(tmp_path / 'a.mcap', jpeg_messages(2))
    extract_frames([str(bag), '--label', 'success', '--out', str(tmp_path / 'set'), '--jobs', '1'])
    (tmp_path / 'set/manifest.csv').write_text('file,label\n')
    inspect(tmp_path / 'set', rc=1)
    assert 'expected the columns file,label,source,topic,stamp_ns' in capsys.readouterr().err
    inspect(tmp_path / 'set', '--jobs', '0', rc=1)
    assert capsys.readouterr().err == 'error: --jobs 0: expected 1 or more processes\n'
    inspect(tmp_path / 'set', '--most', '0', rc=1)
    assert capsys.readouterr().err == 'error: --most 0: expected 1 or more lines\n'


@pytest.mark.parametrize('out', ['set/manifest.csv/below', 'set/manifest.csv', '/sys/inspection'])
def test_a_folder_that_cannot_be_written_is_one_line(dataset, out, capsys):
    inspect(dataset, '--out', str(dataset.parent / out), rc=1)
    assert re.fullmatch(f'error: .*{out}: cannot be written .*; choose another --out\n',
                        capsys.readouterr().err)
