"""
Count the keys and the waits of labelling a simulated bag in Chromium, by its ground truth.

    simulate_grasps bags/hundred --attempts 100 --fps 10 --seed 7
    python benchmarks/labelling.py bags/hundred

The keys are pressed as a person would who knows the outcome and the frame of lift-off: ``f`` and
enter for a failure; for a success arrows (with shift ten frames at once) to the first frame of the
ground truth's success, ``s`` and enter. Needs chromium, chromedriver and selenium.
"""

import argparse
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from grasp_success_detector.recordings.index import index_recording
from grasp_success_detector.recordings.sources import find_sources

#: The pace that the minutes are computed with, in seconds: looking at an attempt, and each key.
LOOK_S, KEY_S = 2., .3

PRESS = """
const [keys, done] = arguments, app = window.labelling, began = performance.now();
(async () => {
  for (const [key, shift] of keys) await app.press(key, shift);
  const image = document.querySelector('.stage img');
  await image.decode().catch(() => {});
  done([performance.now() - began, app.at.start, app.at.frame, app.state.counts['.']]);
})();
"""


def keys_for(at: int, onset: int | None) -> list[tuple[str, bool]]:
    """Return the keys for an attempt: the frame of its first success, None if it fails."""
    if onset is None:
        return [('f', False), ('Enter', False)]
    tens, ones = divmod(abs(onset - at), 10)
    arrow = 'ArrowRight' if onset > at else 'ArrowLeft'
    return [*[(arrow, True)] * tens, *[(arrow, False)] * ones, ('s', False), ('Enter', False)]


def main() -> None:
    """Label the bag, and print keys, waits and minutes."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('bag', type=Path)
    bag = parser.parse_args().bag
    source, = find_sources([bag])
    with tempfile.TemporaryDirectory() as name:
        index = index_recording(source, '/ground_truth', Path(name))
        frames, = index.frames.values()
        truth = dict(index.bools)
        labels = [truth.get(frame.received_ns) for frame in frames]
        ends = [event.received_ns for event in index.attempts if not event.begins]
        process = subprocess.Popen(
            [sys.executable, '-c', 'import sys; from grasp_success_detector.cli.label_attempts '
             'import main; sys.exit(main())', str(bag), '--out', f'{name}/labels.csv',
             '--no-browser'], stdout=subprocess.PIPE, text=True)
        address = next(found[1] for line in process.stdout
                       if (found := re.search(r'page: +(http\S+)', line)))
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which('chromium')
        for option in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage'):
            options.add_argument(option)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
        try:
            began = time.monotonic()
            driver.get(address)
            while not driver.execute_script('return window.labelling && window.labelling.at'):
                time.sleep(.01)
            opened = time.monotonic() - began
            start, at = driver.execute_script(
                'return [window.labelling.at.start, window.labelling.at.frame]')
            keys, waits, left = 0, [], 1
            while left:
                end_ns = min(end for end in ends if end >= frames[start].received_ns)
                own = [i for i in range(start, len(frames)) if frames[i].received_ns <= end_ns]
                held = [i for i in own if labels[i]]
                known = [labels[i] for i in own if labels[i] is not None]
                pressed = keys_for(at, held[0] if held and known[-1] else None)
                keys += len(pressed)
                took, start, at, left = driver.execute_async_script(PRESS, pressed)
                waits.append(took / 1000)
                time.sleep(.2)      # a person looks; the background goes on
        finally:
            driver.quit()
            process.terminate()
            process.wait()
    count = len(waits)
    minutes = (opened + sum(waits) + count * LOOK_S + keys * KEY_S) / 60
    print(f'{count} attempts: {keys} keys, {keys / count:.1f} each; '
          f'page open after {opened:.1f} s; '
          f'waits {sum(waits):.1f} s in all, {max(waits):.2f} s at most for an attempt\n'
          f'{minutes:.1f} minutes at {LOOK_S:g} s of looking per attempt and {KEY_S:g} s per key')


if __name__ == '__main__':
    main()
