"""One picture of a demo run: a strip of frames for each attempt, with what was said of them."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.node.outputs import COLOURS
from grasp_success_detector.ros.tools.demo_monitor import DemoAnswer, DemoResult

FRAMES_PER_ATTEMPT = 6
CELL_WIDTH, CELL_HEIGHT = 216, 162      # of a frame, pixels
CAPTION_HEIGHT = 42
LABEL_WIDTH = 190
BORDER, GAP, MARGIN, TITLE_HEIGHT = 5, 10, 16, 70

WHITE, BLACK, GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def chosen_answers(result: DemoResult) -> list[DemoAnswer]:
    """Return evenly spaced answers of an attempt, the last one included."""
    count = len(result.answers)
    picks = np.linspace(0, count - 1, min(count, FRAMES_PER_ATTEMPT)).round().astype(int)
    return [result.answers[pick] for pick in picks]


def draw_demo(
    results: Sequence[DemoResult], frames: Mapping[int, NDArray[np.uint8]],
    truth: Mapping[int, bool], title: str, subtitle: str,
) -> NDArray[np.uint8]:
    """
    Draw the attempts one below the other.

    :param frames: stamp in ns -> RGB uint8 (H, W, 3), for the answers that are chosen.
    :param truth: stamp in ns -> whether the hand holds the object.
    :return: RGB uint8 (H, W, 3).
    """
    row_height = CELL_HEIGHT + CAPTION_HEIGHT + GAP
    width = 2 * MARGIN + LABEL_WIDTH + FRAMES_PER_ATTEMPT * (CELL_WIDTH + GAP)
    canvas = np.full(
        (2 * MARGIN + TITLE_HEIGHT + row_height * len(results), width, 3), 255, np.uint8)
    _text(canvas, title, MARGIN, MARGIN + 24, BLACK, 0.85, 2)
    _text(canvas, subtitle, MARGIN, MARGIN + 52, GREY, 0.5)
    for row, result in enumerate(results):
        top = MARGIN + TITLE_HEIGHT + row * row_height
        _draw_label(canvas, result, top)
        for column, answer in enumerate(chosen_answers(result)):
            left = MARGIN + LABEL_WIDTH + column * (CELL_WIDTH + GAP)
            if answer.stamp_ns in frames:
                _draw_cell(canvas, frames[answer.stamp_ns], answer, truth.get(answer.stamp_ns),
                           left, top)
    return canvas


def _draw_label(canvas: NDArray[np.uint8], result: DemoResult, top: int) -> None:
    attempt = result.attempt
    _text(canvas, f'attempt {attempt.number}', MARGIN, top + 20, BLACK, 0.65, 2)
    _text(canvas, attempt.object_name, MARGIN, top + 46, GREY, 0.55)
    _text(canvas, f'truth: {_word(attempt.success)}', MARGIN, top + 76,
          _truth_colour(attempt.success), 0.55)
    probability = '' if result.probability is None else f' {result.probability:.2f}'
    _text(canvas, f'said: {result.verdict.value}{probability}', MARGIN, top + 102,
          COLOURS[result.verdict], 0.55)
    if result.correct is not None:
        _text(canvas, 'correct' if result.correct else 'WRONG', MARGIN, top + 132,
              BLACK, 0.55, 1 if result.correct else 2)


def _draw_cell(
    canvas: NDArray[np.uint8], frame: NDArray[np.uint8], answer: DemoAnswer, truth: bool | None,
    left: int, top: int,
) -> None:
    colour = COLOURS[answer.verdict]
    right, bottom = left + CELL_WIDTH, top + CELL_HEIGHT
    canvas[top:bottom, left:right] = colour
    inner = CELL_WIDTH - 2 * BORDER, CELL_HEIGHT - 2 * BORDER
    canvas[top + BORDER:bottom - BORDER, left + BORDER:right - BORDER] = cv2.resize(
        frame, inner, interpolation=cv2.INTER_AREA)
    said = answer.verdict.name
    if answer.verdict is not Verdict.UNKNOWN:
        said += f'  P = {answer.probability:.2f}'
    _text(canvas, said, left, bottom + 17, colour, 0.5)
    _text(canvas, f'truth: {_word(truth)}', left, bottom + 35, _truth_colour(truth), 0.45)


def _word(truth: bool | None) -> str:
    return 'not labelled' if truth is None else 'success' if truth else 'failure'


def _truth_colour(truth: bool | None) -> tuple[int, int, int]:
    return COLOURS[Verdict.UNKNOWN if truth is None
                   else Verdict.SUCCESS if truth else Verdict.FAILURE]


def _text(
    canvas: NDArray[np.uint8], text: str, left: int, baseline: int,
    colour: tuple[int, int, int], scale: float, thickness: int = 1,
) -> None:
    cv2.putText(canvas, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, colour,
                thickness, cv2.LINE_AA)
