"""
Weigh wrong `true`s against the time to decision, over how frames are averaged.

Takes a bag of simulated attempts (or records one), lets a checkpoint judge every frame, and feeds
the probabilities to the decider that the node uses, once for each way of weighing them. Writes
tables and a picture; docs/decision.md tells what was chosen from them and why. Needs matplotlib.

    python benchmarks/decision_sweep.py --bag bags/sweep --out docs
    python benchmarks/decision_sweep.py --attempts 150 --seed 3001 --out docs    records it first
"""

import argparse
from collections.abc import Iterator
import csv
from dataclasses import dataclass, replace
from itertools import groupby, product
import json
from pathlib import Path
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from grasp_success_detector.cli import simulate_grasps
from grasp_success_detector.console import progress_bar
from grasp_success_detector.decision import DecisionConfig, NS_PER_S, WindowedDecider
from grasp_success_detector.evaluation.metrics import wilson_interval
from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.images.visibility import black_and_white
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Verdict
from grasp_success_detector.recordings.bags import (
    ATTEMPT_TOPIC,
    GROUND_TRUTH_TOPIC,
    image_topic,
    open_bag,
)

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
WINDOWS_S = (0., 0.25, 0.5, 1.)
MIN_FRAMES = (1, 2, 3, 5, 8)
HYSTERESIS = (0., 0.2, 0.4, 0.6)


class Frame(NamedTuple):
    """
    A frame as judged.

    :ivar label: 1 success, 0 failure, -1 not labelled (around the moment of lift-off).
    :ivar black: share of black pixels.
    :ivar white: share of white pixels.
    :ivar still_s: for how long the picture has been the same, byte for byte.
    """

    attempt: int
    stamp_ns: int
    label: int
    probability: float
    black: float
    white: float
    still_s: float


@dataclass(frozen=True)
class Result:
    """
    What one way of weighing frames leads to.

    :ivar wrong_attempts: attempts in which the verdict became SUCCESS on a frame labelled failure.
    :ivar wrong_ends: attempts that end in failure and were called SUCCESS at the end.
    :ivar missed: attempts that end in success and were not called so at the end.
    :ivar times_s: of attempts that end in success, from the first frame labelled success to the
        first SUCCESS.
    :ivar withdrawals_s: for how long SUCCESS was still said after the hand had lost the object.
    :ivar changes: changes between SUCCESS and not, per attempt.
    """

    config: DecisionConfig
    attempts: int
    successes: int
    wrong_attempts: int
    wrong_ends: int
    missed: int
    times_s: tuple[float, ...]
    withdrawals_s: tuple[float, ...]
    changes: float

    @property
    def wrong_percent(self) -> tuple[float, float, float]:
        """Share of the wrong attempts in percent, and its interval (Wilson 95 %)."""
        low, high = wilson_interval(self.wrong_attempts, self.attempts)
        return 100 * self.wrong_attempts / self.attempts, 100 * low, 100 * high

    def time_s(self, percent: float) -> float:
        return _percentile(self.times_s, percent)

    def withdrawal_s(self, percent: float) -> float:
        return _percentile(self.withdrawals_s, percent)


def _percentile(values: tuple[float, ...], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float('nan')


def messages(bag: Path) -> Iterator[tuple[int, int, Any]]:
    """Yield (attempt, label, image message) of a bag in order of time."""
    with open_bag(bag) as reader:
        labels, begins = {}, []
        for connection, at, data in reader.messages(
                [c for c in reader.connections
                 if c.topic in (GROUND_TRUTH_TOPIC, ATTEMPT_TOPIC)]):
            message = reader.deserialize(data, connection.msgtype)
            if connection.topic == GROUND_TRUTH_TOPIC:
                labels[at] = int(message.data)
            elif json.loads(message.data)['event'] == 'begin':
                begins.append(at)
        topic = image_topic(reader)
        for connection, at, data in reader.messages(
                [c for c in reader.connections if c.topic == topic]):
            yield (int(np.searchsorted(begins, at, side='right')) - 1, labels.get(at, -1),
                   reader.deserialize(data, connection.msgtype))


def judge(bag: Path, checkpoint: Path) -> list[Frame]:
    """Let the checkpoint judge every frame, one at a time as the node does."""
    classifier = GraspClassifier.from_checkpoint(checkpoint)
    frames: list[Frame] = []
    still, still_since_ns = np.empty(0), 0
    with progress_bar(Console()) as progress:
        task = progress.add_task('frames judged', total=None)
        for attempt, label, message in messages(bag):
            stamp_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
            image = decode_message(message, classifier.preprocessing.half_suffices)
            if not np.array_equal(still, image):
                still, still_since_ns = image, stamp_ns
            frames.append(Frame(attempt, stamp_ns, label, float(classifier.predict([image])[0]),
                                *black_and_white(image), (stamp_ns - still_since_ns) / NS_PER_S))
            progress.advance(task)
    return frames


def try_out(frames: list[Frame], config: DecisionConfig) -> Result:
    """Decide every attempt as the node does, from its own frames."""
    attempts = successes = wrong = wrong_ends = missed = changes = 0
    times: list[float] = []
    withdrawals: list[float] = []
    for _, group in groupby(frames, key=lambda frame: frame.attempt):
        decider, holds, said_wrong = WindowedDecider(config), False, False
        first_ns: int | None = None
        true_ns: int | None = None
        end, end_says = -1, False
        lost_ns: int | None = None      # stamp of the first failure after a success
        held = False
        for frame in group:
            decider.observe(frame.stamp_ns, frame.probability, frame.stamp_ns)
            says = decider.decide(frame.stamp_ns).verdict is Verdict.SUCCESS
            changes += says != holds
            turned, holds = says and not holds, says
            if frame.label < 0:
                continue
            end, end_says = frame.label, says
            said_wrong |= turned and frame.label == 0
            if frame.label == 0 and held and lost_ns is None:
                lost_ns = frame.stamp_ns
            if lost_ns is not None and not says:
                withdrawals.append((frame.stamp_ns - lost_ns) / NS_PER_S)
                lost_ns = None
            held = frame.label == 1
            if frame.label == 1:
                first_ns = frame.stamp_ns if first_ns is None else first_ns
                true_ns = frame.stamp_ns if says and true_ns is None else true_ns
        if end < 0:
            continue
        attempts += 1
        successes += end
        wrong += said_wrong
        wrong_ends += end == 0 and end_says
        missed += end == 1 and not end_says
        if end == 1 and true_ns is not None and first_ns is not None:
            times.append((true_ns - first_ns) / NS_PER_S)
    return Result(config, attempts, successes, wrong, wrong_ends, missed, tuple(times),
                  tuple(withdrawals), changes / attempts)


def sweep(frames: list[Frame]) -> list[Result]:
    """Try every combination that can reach its number of frames at 15 frames/s."""
    results = []
    for threshold, window_s, min_frames, hysteresis in product(
            THRESHOLDS, WINDOWS_S, MIN_FRAMES, HYSTERESIS):
        if min_frames <= 1 + int(window_s * 15):
            results.append(try_out(frames, replace(
                DecisionConfig(), threshold=threshold, window_s=window_s, min_frames=min_frames,
                hysteresis=hysteresis, undecided=0.)))
    return results


def frontier(results: list[Result]) -> list[Result]:
    """Return those that no other one beats in both wrong attempts and time."""
    best: list[Result] = []
    for result in sorted(results, key=lambda r: (r.time_s(90), r.wrong_attempts, r.changes)):
        if not best or result.wrong_attempts < best[-1].wrong_attempts:
            best.append(result)
    return best


def row(result: Result) -> str:
    """Return a line of a Markdown table."""
    config = result.config
    _, low, high = result.wrong_percent
    return (f'| {config.threshold:g} | {config.window_s:g} | {config.min_frames} '
            f'| {config.hysteresis:g} | {result.wrong_attempts}/{result.attempts} '
            f'({low:.1f}% to {high:.1f}%) '
            f'| {result.wrong_ends}/{result.attempts - result.successes} '
            f'| {result.missed}/{result.successes} | {result.time_s(50):.2f} '
            f'| {result.time_s(90):.2f} | {result.withdrawal_s(50):.2f} '
            f'| {result.withdrawal_s(90):.2f} | {result.changes:.2f} |')


HEADING = (
    '| threshold | window_s | min_frames | hysteresis '
    '| attempts in which a wrong true began (Wilson 95 %) | failures called SUCCESS at the end '
    '| successes missed at the end | time to decision, median (s) | 90 % (s) '
    '| time to withdraw, median (s) | 90 % (s) | changes per attempt |\n' + '| --- ' * 12 + '|')


QUESTIONS_HEADING = """| threshold | min_frames | failures answered SUCCESS | attempts with such \
an answer (Wilson 95 %) | successes not answered SUCCESS |
| --- | --- | --- | --- | --- |"""

#: A question is put at every third frame whose next frames all have one label.
QUESTION_STEP = 3


def question_row(frames: list[Frame], threshold: float, min_frames: int) -> str:
    """Ask at many moments of every attempt, as ``~/verify`` does, and count wrong answers."""
    config = replace(DecisionConfig(), threshold=threshold, min_frames=min_frames)
    asked, wrong, wrong_attempts, attempts = [0, 0], [0, 0], 0, 0
    for _, group in groupby(frames, key=lambda frame: frame.attempt):
        attempt, any_wrong = list(group), False
        for start in range(0, len(attempt) - max(MIN_FRAMES), QUESTION_STEP):
            label = attempt[start].label
            following = attempt[start:start + max(MIN_FRAMES)]
            if label < 0 or any(frame.label != label for frame in following):
                continue
            decider = WindowedDecider(config)
            for frame in following[:min_frames]:
                decider.observe(frame.stamp_ns, frame.probability, frame.stamp_ns)
            says = decider.decide(following[min_frames - 1].stamp_ns).holds_object
            asked[label] += 1
            wrong[label] += says != bool(label)
            any_wrong |= says and label == 0
        attempts += 1
        wrong_attempts += any_wrong
    low, high = wilson_interval(wrong_attempts, attempts)
    return (f'| {threshold:g} | {min_frames} | {wrong[0]}/{asked[0]} '
            f'| {wrong_attempts}/{attempts} ({low:.1%} to {high:.1%}) | {wrong[1]}/{asked[1]} |')


def draw(results: list[Result], defaults: list[Result], path: Path) -> None:
    """Draw wrong attempts against time to decision."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)

    def points(those: list[Result]) -> tuple[list[float], list[float]]:
        return [r.time_s(90) for r in those], [r.wrong_percent[0] for r in those]

    for threshold in THRESHOLDS:
        axes.scatter(*points([r for r in results if r.config.threshold == threshold]), s=12,
                     alpha=0.6, label=f'threshold {threshold:g}')
    axes.step(*points(frontier(results)), where='post', color='black', linewidth=1, label='best')
    shares, lows, highs = np.transpose([r.wrong_percent for r in defaults])
    axes.errorbar(*points(defaults), yerr=[shares - lows, highs - shares], fmt='D', color='black',
                  capsize=4, linewidth=0.8, label='defaults at each threshold, Wilson 95 %')
    axes.set_xlabel('time to decision, 90th percentile of successful attempts (s)')
    axes.set_ylabel('attempts in which a wrong true began (%)')
    axes.set_title(f'{results[0].attempts} SIMULATED attempts filmed at 15 frames/s')
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bag', type=Path, help='bag of attempts; none: record one')
    parser.add_argument('--attempts', type=int, default=150, help='to record (default 150)')
    parser.add_argument('--seed', type=int, default=3001, help='to record with (default 3001)')
    parser.add_argument('--checkpoint', type=Path, help='default: the one that ships')
    parser.add_argument('--predictions', type=Path,
                        help='CSV that keeps what the checkpoint said; read where it exists')
    parser.add_argument('--out', type=Path, required=True, help='folder for table and picture')
    options = parser.parse_args()
    checkpoint = options.checkpoint or share_path(DEFAULT_CHECKPOINT)
    with tempfile.TemporaryDirectory() as folder:
        if options.predictions and options.predictions.exists():
            with open(options.predictions, encoding='utf-8', newline='') as source:
                frames = [Frame(int(r[0]), int(r[1]), int(r[2]), *map(float, r[3:]))
                          for r in csv.reader(source)]
        else:
            bag = options.bag or Path(folder) / 'attempts'
            if options.bag is None and simulate_grasps.main(
                    [str(bag), '--preset', 'rig', '--attempts', str(options.attempts),
                     '--seed', str(options.seed)]):
                sys.exit(1)
            frames = judge(bag, checkpoint)
            if options.predictions:
                with open(options.predictions, 'w', encoding='utf-8', newline='') as target:
                    csv.writer(target).writerows(frames)
    results = sweep(frames)
    defaults = [r for r in results if replace(
        r.config, threshold=DecisionConfig.threshold, undecided=DecisionConfig.undecided
    ) == DecisionConfig()]
    any_one = results[0]
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [
        f'{any_one.attempts} SIMULATED attempts, {any_one.successes} of them successes, '
        f'{len(frames)} frames at 15 frames/s; checkpoint {checkpoint.name}.', '',
        '## The defaults, by threshold', '', HEADING, *map(row, defaults), '',
        '## What no other combination beats in both wrong trues and time (90 %)', '',
        HEADING, *map(row, frontier(results)), '',
        '## The default window and frames, by threshold and hysteresis', '', HEADING,
        *(row(r) for r in results if r.config.window_s == DecisionConfig.window_s
          and r.config.min_frames == DecisionConfig.min_frames), '',
        '## One question (`~/verify`), by threshold and min_frames', '', QUESTIONS_HEADING,
        *(question_row(frames, threshold, min_frames)
          for threshold in (0.5, 0.8) for min_frames in MIN_FRAMES), '',
        '## Blindness', '',
        f'At most {max(f.black for f in frames):.1%} black and {max(f.white for f in frames):.1%} '
        f'white pixels in any frame; the same picture for {max(f.still_s for f in frames):.2f} s '
        'at most.', '']
    (options.out / 'decision_sweep.md').write_text(
        '# How frames are weighed: sweep on simulated attempts\n\nWritten by '
        '`benchmarks/decision_sweep.py`; docs/decision.md says what was chosen.\n\n'
        + '\n'.join(lines), encoding='utf-8')
    draw(results, defaults, options.out / 'decision_sweep.png')
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
