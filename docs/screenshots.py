"""
Make the screenshots of label_attempts that the documentation shows, in Chromium.

    simulate_grasps bags/rig --attempts 30 --fps 5 --seed 21
    extract_frames bags/rig --fps 0.5 --out frames
    python docs/screenshots.py bags/rig frames

The bag's attempts are labelled by its ground truth until the checkpoint has been adapted; the
frames are shown as a folder of pictures. Needs chromium, chromedriver and selenium.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
import csv
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from grasp_success_detector.files import write_whole
from grasp_success_detector.recordings.index import index_recording
from grasp_success_detector.recordings.sources import find_sources

#: Width and height in pixels, and colours, of each picture.
VIEWS = {'': (1280, 800, 'light'), '_small': (800, 640, 'dark')}
#: Largest file, in bytes.
LARGEST = 150_000
#: Labels that are given to the bag: enough for the first adaptation.
LABELS = 12
#: Pictures of the folder that are labelled.
PICTURES = 24

STATE = 'const it = window.labelling; return [it.at.start, it.at.end, it.state]'
SUGGESTION = "return document.querySelector('.chip.suggestion').textContent"
PRESS = """
const [frame, mark, next, done] = arguments, app = window.labelling;
app.goTo(frame);
app.press(mark).then(() => next && app.press('Enter')).then(done);
"""


@contextmanager
def page(source: Path, folder: Path, *options: str) -> Iterator[webdriver.Chrome]:
    """Open label_attempts in a browser."""
    process = subprocess.Popen(
        [sys.executable, '-c', 'import sys; from grasp_success_detector.cli.label_attempts import '
         'main; sys.exit(main())', str(source), '--out', str(folder / 'labels.csv'),
         '--no-browser', *options], stdout=subprocess.PIPE, text=True)
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = shutil.which('chromium')
    for option in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage',
                   '--hide-scrollbars'):
        chrome.add_argument(option)
    driver = webdriver.Chrome(options=chrome, service=Service(shutil.which('chromedriver')))
    try:
        driver.get(next(found[1] for line in process.stdout
                        if (found := re.search(r'page: +(http\S+)', line))))
        wait(driver, lambda at, end, state: state['judging']['done'] == state['judging']['total'])
        yield driver
    finally:
        driver.quit()
        process.terminate()
        process.wait()


def wait(driver: webdriver.Chrome, condition) -> None:
    """Wait until a condition on the attempt in view and the state holds."""
    deadline = time.monotonic() + 600
    while not driver.execute_script('return window.labelling && window.labelling.at') or not (
            condition(*driver.execute_script(STATE))):
        if time.monotonic() > deadline:
            raise TimeoutError(driver.find_element('tag name', 'body').text)
        time.sleep(.2)


def shoot(driver: webdriver.Chrome, out: Path) -> None:
    """Store the page in both sizes as jpeg, of a quality at which the file is small."""
    for suffix, (width, height, colours) in VIEWS.items():
        driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
            'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False})
        driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {
            'features': [{'name': 'prefers-color-scheme', 'value': colours}]})
        time.sleep(2)
        picture = cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), 1)
        for quality in range(90, 30, -10):
            jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(jpeg) <= LARGEST:
                break
        write_whole(out.with_name(f'{out.name}{suffix}.jpg'), jpeg)
        print(f'{out.name}{suffix}.jpg: {len(jpeg) / 1000:.0f} kB')


def label(driver: webdriver.Chrome, truth: list[bool | None]) -> None:
    """Label the attempt in view by its ground truth, and go on to the next."""
    start, end, _ = driver.execute_script(STATE)
    held = [frame for frame in range(start, end) if truth[frame]]
    known = [truth[frame] for frame in range(start, end) if truth[frame] is not None]
    success = bool(held) and known[-1]
    driver.execute_async_script(
        PRESS, held[0] if success else start, 's' if success else 'f', True)


def write_pictures(frames: Path, folder: Path) -> dict[str, str]:
    """Copy the frames of a data set, named by their attempts; return label by name."""
    folder.mkdir()
    labels, numbers = {}, Counter[str]()
    with (frames / 'manifest.csv').open(newline='', encoding='utf-8') as file:
        for row in csv.DictReader(file):
            attempt = row['attempt'].rpartition('/')[2]
            numbers[attempt] += 1
            name = f'take{attempt}_{numbers[attempt]:04}.jpg'
            shutil.copyfile(frames / row['file'], folder / name)
            labels[name] = row['label']
    return labels


def main() -> None:
    """Make the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('bag', type=Path)
    parser.add_argument('frames', type=Path)
    parser.add_argument('--out', type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    source, = find_sources([args.bag])
    with tempfile.TemporaryDirectory() as name:
        index = index_recording(source, '/ground_truth', Path(name))
    bools = dict(index.bools)
    truth = [bools.get(frame.received_ns) for frame in next(iter(index.frames.values()))]
    with tempfile.TemporaryDirectory() as name, page(args.bag, Path(name), '--adapt') as driver:
        began = time.monotonic()
        for _ in range(LABELS):
            label(driver, truth)
        wait(driver, lambda at, end, state: state['adaptation']['accuracy'] and (
            state['judging']['done'] == state['judging']['total']))
        print(f'adapted {time.monotonic() - began:.0f} s after the first label')
        driver.execute_script('window.labelling.first()')
        WebDriverWait(driver, 600).until(
            lambda driver: 'follows' not in driver.execute_script(SUGGESTION))
        shoot(driver, args.out / 'labelling_attempt')
    with tempfile.TemporaryDirectory() as name:
        photographs = Path(name) / 'photographs'
        labels = write_pictures(args.frames, photographs)
        with page(photographs, Path(name)) as driver:
            names = driver.execute_script('return window.labelling.sources[0].names')
            for frame in range(PICTURES):
                driver.execute_async_script(PRESS, frame, labels[names[frame]][0], False)
            shoot(driver, args.out / 'labelling_grid')


if __name__ == '__main__':
    main()
