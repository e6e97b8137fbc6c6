"""label_attempts as people use it: by HTTP, and by keys in a real browser."""

from contextlib import contextmanager
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.request import build_opener, HTTPCookieProcessor, Request, urlopen

import numpy as np
from processes import interrupt, start, wait_until
import pytest
from recordings import jpeg_messages, write_folder, write_video
from rig_bag import write_rig_bag
import starlette  # noqa: F401 - the command needs it

from grasp_success_detector.files import write_whole
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.recordings.ground_truth import read_intervals
from grasp_success_detector.recordings.picture_labels import read_picture_rows

CHROMIUM, DRIVER = (shutil.which(name) for name in ('chromium', 'chromedriver'))
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason='needs chromium and chromedriver (apt install '
    'chromium chromium-driver)')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Return a bag with three attempts of eight frames, with pauses between them."""
    messages = jpeg_messages(24)
    for i, each in enumerate(messages):
        each.stamp_ns += i // 8 * 3_000_000_000
    return write_folder(tmp_path_factory.mktemp('bags') / 'take', messages)


@contextmanager
def labelling(checkpoint, out, *sources, options=()):
    """Run the command; yield its process and the page's address."""
    process = start('label_attempts', *sources, '--out', out, '--checkpoint', checkpoint,
                    '--no-browser', *options)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r'page: +(http\S+)', line):
                process.stdout_lines = lines
                wait_for_port(found[1])
                yield process, found[1]
                break
        else:
            raise AssertionError(''.join(lines) + process.stderr.read())
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def wait_for_port(address):
    port = int(re.search(r':(\d+)/', address)[1])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(('127.0.0.1', port)) == 0:
                return
        time.sleep(.05)


def parts(address):
    base, token = address.split('/?token=')
    return base, token


def ask(base, path, token=None, body=None, **headers):
    """Return status and content of an answer."""
    if token:
        headers['x-label-token'] = token
    request = Request(base + path, body, {name.replace('_', '-'): text
                                          for name, text in headers.items()})
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


@pytest.mark.slow
def test_only_the_page_with_its_token_is_answered(bag, random_checkpoint, tmp_path):
    out = tmp_path / 'l.csv'
    with labelling(random_checkpoint, out, bag) as (_, address):
        base, token = parts(address)
        assert base.startswith('http://127.0.0.1:')
        for path in ('/', '/?token=wrong', '/api/state', '/api/sources', '/page/app.js'):
            assert ask(base, path)[0] == 403, path
        assert ask(base, '/api/state', token)[0] == 200
        assert ask(base, '/api/state', token, Host='evil.example')[0] == 421
        assert ask(base, '/api/state', token, Origin='http://evil.example')[0] == 403
        press = json.dumps({'source': 0, 'start': 0, 'end': 8, 'frame': 0, 'mark': 's'}).encode()
        cookie = f'label_attempts_{base.rpartition(":")[2]}={token}'
        assert ask(base, '/api/label', None, press, Cookie=cookie)[0] == 403
        assert ask(base, '/api/label', 'wrong', press)[0] == 403
        assert read_intervals(out) == {}
        assert ask(base, '/api/label?x', token)[0] == 405      # GET changes nothing
        assert ask(base, '/page/..%2fserver.py', token)[0] == 404
        with build_opener(HTTPCookieProcessor()).open(address) as page:
            assert "default-src 'none'" in page.headers['content-security-policy']
            assert token in page.read().decode()
        assert ask(base, '/api/label', token, press)[0] == 200
        assert len(read_intervals(out)['take']) == 1
        for wrong in (b'[]', b'{', b'{"source":9}', b'x' * 70000,
                      press.replace(b'"s"', b'"x"')):
            assert ask(base, '/api/label', token, wrong)[0] in (400, 413), wrong
        stale = press.replace(b'"end": 8', b'"end": 9')
        status, content = ask(base, '/api/label', token, stale)
        assert status == 409 and 'another tab' in json.loads(content)['error']


@pytest.mark.slow
def test_wrong_input_ends_with_one_line(bag, random_checkpoint, tmp_path):
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    write_whole(pictures / 'a.jpg', encode_jpeg(np.zeros((20, 20, 3), np.uint8)))
    (tmp_path / 'notes.csv').write_text('a,b\n')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, text in (
                (['nothing.bag', '--out', tmp_path / 'l.csv'], 'nothing.bag'),
                ([bag, '--out', tmp_path / 'none' / 'l.csv'], 'no such folder'),
                ([bag, '--out', tmp_path / 'notes.csv'], 'choose another --out'),
                ([bag, pictures, '--out', tmp_path / 'm.csv'], 'one after the other'),
                ([bag, '--out', tmp_path / 'l.csv', '--checkpoint', 'no.safetensors'], 'no.safe'),
                ([bag, '--out', tmp_path / 'l.csv', '--port', port], f'port {port}')):
            process = start('label_attempts', *arguments)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1, errors
            assert text in errors.splitlines()[-1]
            assert 'Traceback' not in errors




@pytest.mark.slow
def test_a_second_command_is_told_the_first_and_ctrl_c_ends_it(bag, random_checkpoint, tmp_path):
    out = tmp_path / 'l.csv'
    with labelling(random_checkpoint, out, bag) as (first, _):
        second = start('label_attempts', bag, '--out', out)
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f'process {first.pid}' in errors
        code, _, errors = interrupt(first)
        assert code == 130
        assert 'Traceback' not in errors


JUDGES_FOR_LONG = """
import sys, time
from grasp_success_detector.cli.label_attempts import main
from grasp_success_detector.labelling.judging import Judging
Judging._load = lambda self: time.sleep(60)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_at_once_though_it_judges_and_leaves_nothing(bag, random_checkpoint, tmp_path,
                                                             number, code):
    (tmp_path / 'temporary').mkdir()
    out = tmp_path / 'l.csv'
    with subprocess.Popen(
            [sys.executable, '-c', JUDGES_FOR_LONG, bag, '--out', out, '--checkpoint',
             random_checkpoint, '--no-browser'], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {'TMPDIR': str(tmp_path / 'temporary')}) as process:
        wait_until(lambda: 'page:' in process.stdout.readline(), process)
        before = time.monotonic()
        assert interrupt(process, number)[0] == code
    assert time.monotonic() - before < 15   # 0.6 s on an idle machine
    assert [*(tmp_path / 'temporary').iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'l.csv', 'l.csv.journal', 'temporary']


@pytest.mark.slow
def test_a_bag_that_grows_is_followed(random_checkpoint, tmp_path):
    messages = jpeg_messages(24)
    whole = write_folder(tmp_path / 'whole', messages)
    data = next(whole.glob('*.mcap')).read_bytes()
    growing = tmp_path / 'growing.mcap'
    growing.write_bytes(next(write_folder(tmp_path / 'part', messages[:8]).glob(
        '*.mcap')).read_bytes())
    with labelling(random_checkpoint, tmp_path / 'l.csv', growing) as (_, address):
        base, token = parts(address)

        def frames():
            return len(json.loads(ask(base, '/api/state', token)[1])['sources'][0]['marks'])

        deadline = time.monotonic() + 20
        while frames() != 8:
            assert time.monotonic() < deadline
            time.sleep(.1)
        press = json.dumps({'source': 0, 'start': 0, 'end': 8, 'frame': 0, 'mark': 's'}).encode()
        assert ask(base, '/api/label', token, press)[0] == 200
        growing.write_bytes(data)
        while frames() != 24:
            assert time.monotonic() < deadline
            time.sleep(.1)
        state = json.loads(ask(base, '/api/state', token)[1])
        assert state['sources'][0]['marks'].startswith('s' * 8 + '.')


@pytest.mark.slow
def test_the_checkpoint_is_adapted_after_every_tenth_label(tmp_path):
    write_rig_bag(tmp_path / 'rig', attempts=22, rate_hz=2)
    out = tmp_path / 'l.csv'
    with labelling('cifar_cnn_rig', out, tmp_path / 'rig', options=['--adapt']) as (_, address):
        base, token = parts(address)

        def state(until=lambda state: True):
            deadline = time.monotonic() + 120
            while not until(found := json.loads(ask(base, '/api/state', token)[1])):
                assert time.monotonic() < deadline, found['adaptation']
                time.sleep(.2)
            return found

        starts = state(lambda found: found['sources'][0]['marks'])['sources'][0]['starts']
        # Attempts with frames; those between them are outside of all attempts.
        found = state()['sources'][0]
        attempts = [(start, end) for start, end in zip(
            starts, [*starts[1:], len(found['marks'])], strict=True)
            if found['marks'][start] == '.']

        def label(numbers):
            for number in numbers:
                start, end = attempts[number]
                body = {'source': 0, 'start': start, 'end': end, 'frame': start,
                        'mark': 'fs'[number % 2]}
                assert ask(base, '/api/label', token, json.dumps(body).encode())[0] == 200

        label(range(0, 20, 2))      # failures alone
        told = state(lambda found: found['adaptation']['failure'])['adaptation']
        assert '0 attempts with success frames' in told['failure']
        assert '\n' not in told['failure'] and not told['accuracy']
        label(range(1, 20, 2))
        told = state(lambda found: found['adaptation']['labelled'] == 20)
        assert not told['adaptation']['failure']
        assert told['adaptation']['accuracy']['total'] >= 20
        new = tmp_path / 'l.adapted.safetensors'
        report = json.loads(new.with_suffix('.adaptation.json').read_text())
        assert report['accuracy'] == told['adaptation']['accuracy']
        assert len(report['label_next']) == 2
        first = report['label_next'][0]
        times = json.loads(ask(base, '/api/sources', token)[1])[0]['times']
        assert first['start_s'] == pytest.approx(times[told['order'][0][1]], abs=.01)
        state(lambda found: found['judging']['checkpoint'] == 'l.adapted')
    assert list(tmp_path.glob('.l.csv.adapt*')) == []


# In the browser

@contextmanager
def browser(address, width=1280, height=800):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu',
                   f'--window-size={width},{height}'):
        options.add_argument(option)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get(address)
        wait(driver, lambda: text(driver, 'of') not in ('', 'of 0 labelled'))
        yield driver
        errors = [entry['message'] for entry in driver.get_log('browser')
                  if entry['level'] == 'SEVERE' and not any(
                      text in entry['message'] for text in ('404', 'ERR_CONNECTION_REFUSED'))]
        assert not errors
    finally:
        driver.quit()


def wait(driver, condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, driver.find_element('tag name', 'body').text
        time.sleep(.03)


def text(driver, name):
    return driver.find_element('id', name).text


def press(driver, *keys):
    """Press keys one after the other, without waiting for an answer, as a quick person does."""
    for key in keys:
        driver.find_element('tag name', 'body').send_keys(key)


def done(driver, count):
    wait(driver, lambda: text(driver, 'done') == str(count))


@needs_browser
@pytest.mark.slow
def test_a_bag_is_labelled_by_keys_and_undone(bag, random_checkpoint, tmp_path):
    from selenium.webdriver.common.keys import Keys
    out = tmp_path / 'l.csv'
    with labelling(random_checkpoint, out, bag) as (process, address):
        with browser(address) as driver:
            assert text(driver, 'of') == 'of 3 labelled'
            press(driver, Keys.HOME, 'f', Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, 's', Keys.ENTER)
            done(driver, 1)
            press(driver, 'u', Keys.ENTER, Keys.HOME, 'f')
            done(driver, 3)
            assert [text(driver, f'count-{mark}') for mark in 'sfu'] == ['1', '1', '1']
            rows = read_intervals(out)['take']
            assert [row.label.name for row in rows].count('SUCCESS') == 1
            assert len(rows) == 3
            press(driver, 'z')
            done(driver, 2)
            driver.switch_to.new_window('tab')      # a second tab
            driver.get(address)
            done(driver, 2)
            press(driver, 'f')
            done(driver, 3)
            driver.switch_to.window(driver.window_handles[0])
            done(driver, 3)                         # the first one is in step
            press(driver, Keys.HOME, Keys.ARROW_RIGHT, 'c')
            wait(driver, lambda: text(driver, 'of') == 'of 4 labelled')
            press(driver, 'j')
            wait(driver, lambda: text(driver, 'of') == 'of 3 labelled')
            press(driver, '?')
            assert driver.find_element('id', 'keys').is_displayed()
            press(driver, Keys.ESCAPE)
            driver.find_element('id', 'finish').click()
            wait(driver, lambda: process.poll() is not None)
        assert process.returncode == 0
    before = out.read_text()
    with labelling(random_checkpoint, out, bag) as (_, address), browser(address) as driver:
        done(driver, 3)
        assert out.read_text() == before


@needs_browser
@pytest.mark.slow
def test_a_video_is_labelled_by_keys(random_checkpoint, tmp_path):
    from selenium.webdriver.common.keys import Keys
    video, out = write_video(tmp_path / 'take.mp4', 12), tmp_path / 'l.csv'
    with labelling(random_checkpoint, out, video) as (_, address), browser(address) as driver:
        press(driver, Keys.HOME, 's')
        wait(driver, lambda: read_intervals(out).get('take.mp4'))
        image = driver.find_element('css selector', '.stage img')
        wait(driver, lambda: driver.execute_script(
            'return arguments[0].complete && arguments[0].naturalWidth', image))


@needs_browser
@pytest.mark.slow
def test_two_folders_of_photographs_are_labelled_by_keys(random_checkpoint, tmp_path):
    from selenium.webdriver.common.keys import Keys
    noise = np.random.default_rng(0)
    for folder in ('<b>one', '=two'):
        (tmp_path / folder).mkdir()
        for name in ('a "quote".jpg', '<script>alert(1)<.jpg', '=1+1.jpg'):
            write_whole(tmp_path / folder / name, encode_jpeg(
                noise.integers(0, 256, (6, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)))
    out = tmp_path / 'l.csv'
    folders = [tmp_path / '<b>one', tmp_path / '=two']
    with labelling(random_checkpoint, out, *folders) as (_, address), browser(address) as driver:
        assert text(driver, 'of') == 'of 6 labelled'
        for mark in 'sfsfsu':
            press(driver, mark, Keys.ENTER)
        done(driver, 6)
        assert '<script>alert(1)<.jpg' in driver.find_element('tag name', 'main').text
        press(driver, 'z')
        done(driver, 5)
    rows = read_picture_rows(out)
    assert sorted(row.label.name for row in rows) == ['FAILURE'] * 2 + ['SUCCESS'] * 3
    assert len({row.file for row in rows}) == 5


@needs_browser
@pytest.mark.slow
def test_folders_of_several_bags_are_labelled_by_keys(random_checkpoint, tmp_path):
    from selenium.webdriver.common.keys import Keys
    folders, out = [tmp_path / day for day in ('monday', 'tuesday')], tmp_path / 'l.csv'
    for number, name in enumerate(('monday/late', 'monday/take', 'tuesday/take')):
        messages = jpeg_messages(16)
        for i, each in enumerate(messages):
            each.stamp_ns += i // 8 * 3_000_000_000 + number * 10 ** 13
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_folder(tmp_path / name, messages)
    with labelling(random_checkpoint, out, *folders) as (process, address):
        assert '3 sources' in ''.join(process.stdout_lines)
        with browser(address) as driver:
            assert text(driver, 'of') == 'of 6 labelled'
            for number in range(6):
                press(driver, Keys.HOME, 's' if number % 2 else 'f')
                done(driver, number + 1)
                press(driver, Keys.ENTER)
    rows = read_intervals(out)
    # Two bags of one name are told apart by their paths, the third is named as it is.
    assert sorted(rows) == sorted(['late', *(str(folder / 'take') for folder in folders)])
    assert all(len(intervals) == 2 for intervals in rows.values())
    before = out.read_text()
    with labelling(random_checkpoint, out, *folders) as (_, address), browser(address) as driver:
        done(driver, 6)
    assert out.read_text() == before
    process = start('extract_frames', *folders, '--labels', out, '--split', '1/0/0',
                    '--out', tmp_path / 'set')
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    manifest = (tmp_path / 'set' / 'manifest.csv').read_text().splitlines()
    assert len(manifest) == 1 + 48


def test_a_refused_label_file_gets_no_journal(tmp_path):
    write_rig_bag(tmp_path / 'rig', attempts=1)
    (tmp_path / 'page.html').write_text('<html>', encoding='utf-8')
    process = start('label_attempts', tmp_path / 'rig', '--out', tmp_path / 'page.html')
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and 'choose another --out' in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['page.html', 'rig']
