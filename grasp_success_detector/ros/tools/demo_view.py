"""The demo's terminal output, and its picture: a row of frames with verdicts per attempt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.evaluation.replay import NodeAnswer, ShownFrame
from grasp_success_detector.evaluation.single_pictures import Decided
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.outputs import COLOURS
from grasp_success_detector.ros.tools.demo_bag import Attempt, DemoBag

STYLES = {Verdict.SUCCESS: 'bold green', Verdict.FAILURE: 'bold dark_orange',
          Verdict.UNKNOWN: 'dim'}

#: Number of newest frames from which the frame rate is computed.
RATE_FRAMES = 30

FRAMES_PER_ATTEMPT = 6
CELL_WIDTH, CELL_HEIGHT = 216, 162      # of a frame, pixels
CAPTION_HEIGHT = 42
LABEL_WIDTH = 190
BORDER, GAP, MARGIN, TITLE_HEIGHT = 5, 10, 16, 70

BLACK, GREY = (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class DemoResult:
    """An attempt and the node's answers to its frames, by stamp in ns in ascending order."""

    attempt: Attempt
    answers: Mapping[int, NodeAnswer]

    @property
    def verdict(self) -> Verdict:
        """Return the last verdict; UNKNOWN if there is none."""
        return [Verdict.UNKNOWN, *(answer.verdict for answer in self.answers.values())][-1]

    @property
    def probability(self) -> float | None:
        """Return the confidence of the last verdict; None if it is UNKNOWN."""
        return None if self.verdict is Verdict.UNKNOWN else [*self.answers.values()][-1].confidence

    @property
    def correct(self) -> bool | None:
        """Return whether the last verdict is correct; None without ground truth."""
        success = self.attempt.success
        return None if success is None else self.verdict is _verdict_of(success)


def result_of(attempt: Attempt, answers: Mapping[int, NodeAnswer]) -> DemoResult:
    """Select the answers to an attempt's frames from those to all, given by stamp in ns."""
    return DemoResult(attempt, {
        stamp_ns: answer for stamp_ns, answer in sorted(answers.items())
        if attempt.begin_ns <= stamp_ns <= attempt.end_ns})


def median_latency_s(answers: Mapping[int, NodeAnswer]) -> float | None:
    """Return the median time from publication of a frame to that of its verdict."""
    known = [a.latency_s for a in answers.values() if a.latency_s is not None]
    return median(known) if known else None


def live_view(bag: DemoBag, frames: Sequence[ShownFrame], answers: Mapping[int, NodeAnswer],
              phase: str) -> RenderableType:
    """Return the panel shown during the run; ``phase`` is its subtitle."""
    attempt = bag.attempt_at(frames[-1].stamp_ns) if frames else None
    truth = bag.truth.get(frames[-1].stamp_ns) if frames else None
    verdict, probability, _ = [NodeAnswer(Verdict.UNKNOWN, 0., None), *answers.values()][-1]
    latency_s = median_latency_s(answers)
    recent = frames[-RATE_FRAMES:]
    span_ns = recent[-1].sent_ns - recent[0].sent_ns if recent else 0
    rate_hz = (len(recent) - 1) * NS_PER_S / span_ns if span_ns else 0.
    grid = Table.grid(padding=(0, 2))
    grid.add_row('attempt', '-' if attempt is None else
                 f'{attempt.number} {attempt.object_name} ({len(bag.attempts)} in all)')
    grid.add_row('camera', f'{rate_hz:5.1f} frames/s, {len(frames)} so far')
    grid.add_row('latency', '-' if latency_s is None else
                 f'{latency_s * 1e3:5.0f} ms from frame to verdict (median)')
    grid.add_row('P(success)', Group(ProgressBar(total=1., completed=probability, width=40),
                                     Text(f'{probability:.2f}')))
    grid.add_row('verdict', _styled(verdict))
    grid.add_row('truth', _truth_text(truth))
    return Panel(grid, title='grasp_success_detector', subtitle=phase, width=72)


def attempt_line(result: DemoResult) -> str:
    """Return one attempt as one line, for logs."""
    attempt = result.attempt
    return ' '.join(filter(None, (
        f'attempt {attempt.number}', attempt.object_name,
        f'truth={_word(attempt.success, "-")}', f'verdict={result.verdict.value}',
        f'P(success)={_number(result.probability)}', _correct(result))))


def result_table(results: Sequence[DemoResult]) -> Table:
    """Return a table with the last verdict and the ground truth of every attempt."""
    table = Table(title='Verdict at the end of every attempt')
    for heading in ('attempt', 'object', 'ground truth', 'verdict', 'P(success)', 'correct?'):
        table.add_column(heading, justify='right' if heading == 'P(success)' else 'left')
    for result in results:
        table.add_row(
            str(result.attempt.number), result.attempt.object_name,
            _truth_text(result.attempt.success), _styled(result.verdict),
            _number(result.probability), _correct(result))
    return table


def chosen_answers(result: DemoResult) -> dict[int, NodeAnswer]:
    """Return up to FRAMES_PER_ATTEMPT answers, evenly spaced, the last included, by stamp."""
    stamps = [*result.answers]
    picks = np.linspace(0, len(stamps) - 1, min(len(stamps), FRAMES_PER_ATTEMPT)).round()
    return {stamps[pick]: result.answers[stamps[pick]] for pick in picks.astype(int)}


class Still(NamedTuple):
    """A single picture, RGB uint8 (H, W, 3), what was said of it, and the truth."""

    picture: NDArray[np.uint8]
    answer: NodeAnswer
    success: bool

    @property
    def correct(self) -> bool:
        """Return whether the verdict is the truth."""
        return self.answer.verdict is _verdict_of(self.success)


def still(frame: NDArray[np.uint8], said: Decided, success: bool) -> Still:
    """Return a picture in which the hand that was found is framed."""
    picture = frame.copy()
    if said.view.box is not None:
        height, width, _ = frame.shape
        left, top, right, bottom = said.view.box.in_pixels(width, height)
        cv2.rectangle(picture, (left, top), (right, bottom), COLOURS[said.verdict], 2)
    return Still(picture, NodeAnswer(said.verdict, said.probability, None), success)


def draw_demo(
    results: Sequence[DemoResult], frames: Mapping[int, NDArray[np.uint8]],
    truth: Mapping[int, bool], title: str, subtitle: str, stills: Sequence[Still] = (),
) -> NDArray[np.uint8]:
    """
    Draw a row of frames for each attempt, with verdicts and ground truth, and rows of stills.

    :param frames: stamp in ns -> RGB uint8 (H, W, 3), for the chosen answers.
    :param truth: stamp in ns -> whether the hand holds the object.
    :returns: RGB uint8 (H, W, 3).
    """
    row_height = CELL_HEIGHT + CAPTION_HEIGHT + GAP
    rows = len(results) + -(-len(stills) // FRAMES_PER_ATTEMPT)
    width = 2 * MARGIN + LABEL_WIDTH + FRAMES_PER_ATTEMPT * (CELL_WIDTH + GAP)
    canvas = np.full(
        (2 * MARGIN + TITLE_HEIGHT + row_height * rows, width, 3), 255, np.uint8)
    _text(canvas, title, MARGIN, MARGIN + 24, BLACK, 0.85, 2)
    _text(canvas, subtitle, MARGIN, MARGIN + 52, GREY, 0.5)
    for row, result in enumerate(results):
        top = MARGIN + TITLE_HEIGHT + row * row_height
        _draw_label(canvas, result, top)
        for column, (stamp_ns, answer) in enumerate(chosen_answers(result).items()):
            left = MARGIN + LABEL_WIDTH + column * (CELL_WIDTH + GAP)
            if stamp_ns in frames:
                _draw_cell(canvas, frames[stamp_ns], answer, truth.get(stamp_ns), left, top)
    for number, (picture, answer, success) in enumerate(stills):
        row, column = divmod(number, FRAMES_PER_ATTEMPT)
        top = MARGIN + TITLE_HEIGHT + (len(results) + row) * row_height
        left = MARGIN + LABEL_WIDTH + column * (CELL_WIDTH + GAP)
        _draw_cell(canvas, picture, answer, success, left, top)
        if number == 0:
            for line, text in enumerate(('single pictures', 'other hands, arms,',
                                         'cameras, light;', 'the hand is found', 'first')):
                _text(canvas, text, MARGIN, top + 20 + 24 * line, GREY if line else BLACK, 0.55)
    return canvas


def _draw_label(canvas: NDArray[np.uint8], result: DemoResult, top: int) -> None:
    attempt = result.attempt
    probability = '' if result.probability is None else f' {result.probability:.2f}'
    _text(canvas, f'attempt {attempt.number}', MARGIN, top + 20, BLACK, 0.65, 2)
    _text(canvas, attempt.object_name, MARGIN, top + 46, GREY, 0.55)
    _text(canvas, f'truth: {_word(attempt.success, "not labelled")}', MARGIN, top + 76,
          COLOURS[_verdict_of(attempt.success)], 0.55)
    _text(canvas, f'said: {result.verdict.value}{probability}', MARGIN, top + 102,
          COLOURS[result.verdict], 0.55)
    if result.correct is not None:
        _text(canvas, _correct(result), MARGIN, top + 132, BLACK, 0.55,
              1 if result.correct else 2)


def _draw_cell(
    canvas: NDArray[np.uint8], frame: NDArray[np.uint8], answer: NodeAnswer, truth: bool | None,
    left: int, top: int,
) -> None:
    colour = COLOURS[answer.verdict]
    right, bottom = left + CELL_WIDTH, top + CELL_HEIGHT
    canvas[top:bottom, left:right] = colour
    inner = CELL_WIDTH - 2 * BORDER, CELL_HEIGHT - 2 * BORDER
    canvas[top + BORDER:bottom - BORDER, left + BORDER:right - BORDER] = cv2.resize(
        frame, inner, interpolation=cv2.INTER_AREA)
    probability = '' if answer.verdict is Verdict.UNKNOWN else f'  P = {answer.confidence:.2f}'
    _text(canvas, answer.verdict.name + probability, left, bottom + 17, colour, 0.5)
    _text(canvas, f'truth: {_word(truth, "not labelled")}', left, bottom + 35,
          COLOURS[_verdict_of(truth)], 0.45)


def _text(
    canvas: NDArray[np.uint8], text: str, left: int, baseline: int,
    colour: tuple[int, int, int], scale: float, thickness: int = 1,
) -> None:
    cv2.putText(canvas, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, colour,
                thickness, cv2.LINE_AA)


def _verdict_of(truth: bool | None) -> Verdict:
    return Verdict.UNKNOWN if truth is None else Verdict.SUCCESS if truth else Verdict.FAILURE


def _styled(verdict: Verdict) -> Text:
    return Text(verdict.name, STYLES[verdict])


def _truth_text(truth: bool | None) -> Text:
    return _styled(_verdict_of(truth)) if truth is not None else Text('-', 'dim')


def _word(truth: bool | None, none: str) -> str:
    return none if truth is None else _verdict_of(truth).value


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def _correct(result: DemoResult) -> str:
    if result.correct is None:
        return '-'
    return ('correct' if result.correct else
            'unknown' if result.verdict is Verdict.UNKNOWN else 'WRONG')
