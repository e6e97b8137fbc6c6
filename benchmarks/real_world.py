"""
Judge photographs of rigs that a checkpoint has never seen, rig by rig, and show every picture.

The folder holds pictures and a labels.csv with the columns ``file,label`` and, where known,
``rig,lifted,attempt,hand_bbox``. ``label`` is success or failure; rows with another label, such as
ambiguous, are left out. ``lifted`` is 0 where the object is not held clear of any support, as in
manipulation in the hand. ``hand_bbox`` is ``x0,y0,x1,y1`` in pixels. Without ``rig`` all pictures
are of one rig, without ``attempt`` each is an attempt of its own.

An attempt is decided as the node decides it, at the checkpoint's threshold, from the mean of its
pictures with the same label. Wilson intervals are by attempt, since pictures of one attempt
resemble each other. Measure and choose with these pictures; do not train on them.

    python benchmarks/real_world.py pictures
    python benchmarks/real_world.py pictures --lifted --crop 1.5 --out pictures.html
    python benchmarks/real_world.py pictures --checkpoint models/cifar_cnn_rig.safetensors
"""

import argparse
from collections import Counter
from collections.abc import Sequence
import csv
from dataclasses import dataclass, replace
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import command, ExitCode
from grasp_success_detector.decision import Reason
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.evaluation.calibration import expected_calibration_error
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.evaluation.single_pictures import decide_picture, decide_together
from grasp_success_detector.evaluation.threshold import roc_auc
from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path, write_whole
from grasp_success_detector.images.decoding import read_image
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.hand_finder import View
from grasp_success_detector.labels import CLASS_NAMES, Label, Verdict
from grasp_success_detector.networks.hand_boxes import HandBox

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """A labelled picture; ``box``: the hand's x0, y0, x1, y1 in pixels, or None if unknown."""

    file: str
    label: Label
    rig: str
    lifted: bool
    attempt: str
    box: Box | None


@dataclass(frozen=True)
class Judged:
    """
    A picture, its P(success), and the verdict on it alone.

    :ivar reason: NO_HAND or UNFAMILIAR if the picture says nothing, else DECIDED.
    :ivar box: the hand that was found, or that was given.
    """

    picture: Picture
    probability: float
    reason: Reason
    verdict: Verdict
    box: HandBox | None = None


def read_labels(folder: Path) -> list[Picture]:
    """Read labels.csv; DatasetError if it is missing, damaged, or has no labelled picture."""
    path = folder / 'labels.csv'
    pictures = []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                if missing := [name for name in ('file', 'label') if not row.get(name)]:
                    raise DatasetError(f'{path}: line {number} has no {" and no ".join(missing)}; '
                                       'expected the columns file,label')
                if row['label'] not in CLASS_NAMES:
                    continue
                pictures.append(Picture(
                    row['file'], Label(CLASS_NAMES.index(row['label'])),
                    row.get('rig') or folder.name, row.get('lifted') != '0',
                    row.get('attempt') or row['file'],
                    _box(row.get('hand_bbox') or '', f'{path}: line {number}')))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error
    if not pictures:
        raise DatasetError(f'{path}: no picture is labelled {" or ".join(CLASS_NAMES)}')
    return pictures


def _box(text: str, where: str) -> Box | None:
    if not text:
        return None
    try:
        x0, y0, x1, y1 = (round(float(part)) for part in text.split(','))
    except ValueError:
        x0 = y0 = x1 = y1 = 0
    if x0 >= x1 or y0 >= y1:
        raise DatasetError(f'{where}: hand_bbox {text!r} (expected x0,y0,x1,y1 in pixels)')
    return x0, y0, x1, y1


def judge(classifier: GraspClassifier, folder: Path, pictures: Sequence[Picture],
          crop: float | None) -> list[Judged]:
    """
    Return P(success) and verdict of every picture.

    :param crop: cut out the square with this multiple of the longer side of ``hand_bbox`` where it
        is known; None: what the classifier itself looks at.
    """
    judged = []
    for picture in pictures:
        frame = read_image(folder / picture.file)
        view, box = classifier.look(frame), picture.box
        if crop is not None and box is not None:
            height, width, _ = frame.shape
            edges = box[0] / width, box[1] / height, box[2] / width, box[3] / height
            view = View(replace(classifier.preprocessing, hand=crop).crop_and_resize(
                frame, edges), HandBox(*edges), False)
        _, *said = decide_picture(classifier, frame, view=view)
        judged.append(Judged(picture, *said, view.box))
    return judged


def auc_within_rigs(judged: Sequence[Judged]) -> float | None:
    """
    Return the share of pairs of a success and a failure of one rig that are ranked rightly.

    :returns: None unless a rig has pictures of both labels.
    """
    right = pairs = 0.
    for rig in {of.picture.rig for of in judged}:
        rows = [of for of in judged if of.picture.rig == rig]
        successes = sum(of.picture.label is Label.SUCCESS for of in rows)
        count = successes * (len(rows) - successes)
        area = roc_auc([of.probability for of in rows], [of.picture.label for of in rows])
        if area is not None:
            right, pairs = right + area * count, pairs + count
    return right / pairs if pairs else None


def bootstrap(judged: Sequence[Judged], measure: Any, resamples: int = 500,
              ) -> tuple[float, float] | None:
    """Return the 95 % interval of a measure over resamples of whole attempts (percentiles)."""
    rng = np.random.default_rng(0)
    attempts: dict[str, list[Judged]] = {}
    for of in judged:
        attempts.setdefault(of.picture.attempt, []).append(of)
    groups = list(attempts.values())
    values: list[float] = []
    for _ in range(resamples):
        drawn = [of for i in rng.integers(0, len(groups), len(groups)) for of in groups[i]]
        if (value := measure(drawn)) is not None:
            values.append(value)
    return (float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))
            ) if values else None


def pooled_auc(judged: Sequence[Judged]) -> float | None:
    """Return the area under the ROC curve over all pictures."""
    return roc_auc([of.probability for of in judged], [of.picture.label for of in judged])


def summarize(name: str, judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """Return counts by attempt and by picture, and what ranks and calibrates, of some pictures."""
    groups: dict[tuple[str, Label], list[float]] = {}
    for of in judged:
        group = groups.setdefault((of.picture.attempt, of.picture.label), [])
        if of.reason is Reason.DECIDED:
            group.append(of.probability)
    verdicts = [(label, decide_together(threshold, values))
                for (_, label), values in groups.items()]
    right = sum(verdict.value == label.name.lower() for label, verdict in verdicts)
    unknown = sum(verdict is Verdict.UNKNOWN for _, verdict in verdicts)
    reasons = Counter(of.reason.value for of in judged if of.reason is not Reason.DECIDED)
    failures = [of for of in judged if of.picture.label is Label.FAILURE]
    return {
        'name': name, 'pictures': len(judged), 'reasons': dict(reasons),
        'successes': len(judged) - len(failures),
        'right': Accuracy(right, len(verdicts)).to_json(),
        'wrong': len(verdicts) - right - unknown, 'unknown': unknown,
        'decided': Accuracy(right, len(verdicts) - unknown).to_json(),
        'false_success': Accuracy(sum(of.verdict is Verdict.SUCCESS for of in failures),
                                  len(failures)).to_json(),
        'auc': pooled_auc(judged), 'ece': expected_calibration_error(
            [of.probability for of in judged], [of.picture.label for of in judged])}


def by_rig(judged: Sequence[Judged], threshold: float) -> list[dict[str, Any]]:
    """Return a summary of each rig, those with the most pictures first, and of all together."""
    rigs: dict[str, list[Judged]] = {}
    for of in judged:
        rigs.setdefault(of.picture.rig, []).append(of)
    in_order = sorted(rigs.items(), key=lambda item: (-len(item[1]), item[0]))
    return [summarize(name, rows, threshold) for name, rows in in_order] + [
        summarize('all rigs', judged, threshold)]


def print_tables(rows: Sequence[dict[str, Any]], judged: Sequence[Judged]) -> None:
    """Print a table with a row for each rig, and the areas under the ROC curve with intervals."""
    print('| rig | pictures (success) | attempts right (95 % interval) | wrong | unknown | '
          'right of decided | failures called SUCCESS | ROC-AUC | ECE |\n' + '| --- ' * 9 + '|')
    for row in rows:
        low, high = row['right']['wilson_95']
        print(f'| {row["name"]} | {row["pictures"]} ({row["successes"]}) | '
              f'{row["right"]["correct"]}/{row["right"]["total"]}, {low:.0%} to {high:.0%} | '
              f'{row["wrong"]} | {row["unknown"]} | {_share(row["decided"])} | '
              f'{_share(row["false_success"])} | {_number(row["auc"])} | {_number(row["ece"])} |')
    for name, measure in (('ROC-AUC, pooled', pooled_auc),
                          ('ROC-AUC within a rig', auc_within_rigs)):
        interval = bootstrap(judged, measure)
        if (value := measure(judged)) is not None and interval is not None:
            print(f'{name}: {value:.3f} (bootstrap by attempt, 95 %: {interval[0]:.3f} to '
                  f'{interval[1]:.3f})')


def _share(accuracy: dict[str, Any]) -> str:
    return '-' if not accuracy['total'] else f'{accuracy["correct"]}/{accuracy["total"]}'


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def drawn(folder: Path, of: Judged, widest: int = 320) -> NDArray[np.uint8]:
    """Return a small copy, RGB uint8: hand_bbox in green, the hand that was found in blue."""
    frame = read_image(folder / of.picture.file)
    scale = min(1., widest / frame.shape[1])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if (box := of.picture.box) is not None:
        x0, y0, x1, y1 = (round(scale * edge) for edge in box)
        cv2.rectangle(small, (x0, y0), (x1, y1), (0, 220, 0), 1)
    if of.box is not None:
        height, width, _ = small.shape
        left, top, right, bottom = of.box.in_pixels(width, height)
        cv2.rectangle(small, (left, top), (right, bottom), (0, 80, 255), 1)
    return np.asarray(small, np.uint8)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Judge the pictures, print the tables, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--checkpoint', type=Path, default=share_path(DEFAULT_CHECKPOINT))
    parser.add_argument('--lifted', action='store_true', help='only pictures with lifted 1')
    parser.add_argument('--crop', type=float, metavar='FACTOR', help='judge a square around '
                        "hand_bbox with this multiple of the box's longer side")
    parser.add_argument('--temperature', type=float, metavar='T',
                        help="in place of the checkpoint's: a lower one says UNKNOWN less often")
    parser.add_argument('--out', type=Path, help='write a page with every picture here (.html)')
    args = parser.parse_args(argv)
    if args.crop is not None and not 0 < args.crop < float('inf'):
        parser.error(f'--crop {args.crop} (expected a number above 0)')
    pictures = [of for of in read_labels(args.folder) if of.lifted or not args.lifted]
    classifier = GraspClassifier.from_checkpoint(args.checkpoint)
    if args.temperature is not None:
        classifier.metadata = replace(classifier.metadata, temperature=args.temperature)
    judged = judge(classifier, args.folder, pictures, args.crop)
    rows = by_rig(judged, classifier.threshold)
    own = classifier.preprocessing.hand
    seen = (f'crops of {args.crop:g} times hand_bbox' if args.crop is not None else
            f'crops of {own:g} times the hand that was found' if own else 'whole pictures')
    print(f'{args.checkpoint.name}, threshold {classifier.threshold:.3f}, temperature '
          f'{classifier.metadata.temperature:g}, {seen}\n')
    print_tables(rows, judged)
    if rows[-1]['reasons']:
        print('pictures that say nothing: ' + ', '.join(
            f'{count} {reason}' for reason, count in rows[-1]['reasons'].items()))
    if args.out:
        from grasp_success_detector.reports.page import render
        worst = sorted(judged, key=lambda of: -abs(of.probability - of.picture.label))
        write_whole(args.out, render(
            'real_world.html', title=f'{args.checkpoint.stem} on photographs', seen=seen,
            folder=args.folder.name, threshold=classifier.threshold, rows=rows,
            within=auc_within_rigs(judged),
            count=len(judged), figures=((of, drawn(args.folder, of)) for of in worst)))
        print(f'\n{args.out}: {len(judged)} pictures, the worst errors first')
    return ExitCode.OK


if __name__ == '__main__':
    sys.exit(main())
