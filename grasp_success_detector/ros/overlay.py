"""The camera's picture with the verdict drawn in, for people to look at."""

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import Decision
from grasp_success_detector.labels import Verdict

#: RGB, distinguishable also for the colour-blind.
COLOURS = {
    Verdict.SUCCESS: (0, 158, 115),
    Verdict.FAILURE: (213, 94, 0),
    Verdict.UNKNOWN: (128, 128, 128),
}


def draw_overlay(frame: NDArray[np.uint8], decision: Decision) -> NDArray[np.uint8]:
    """
    Return a copy with a coloured border and one line of text; works for any size of frame.

    :param frame: RGB uint8 (H, W, 3).
    :return: RGB uint8 (H, W, 3).
    """
    drawn = np.ascontiguousarray(frame).copy()
    height, width = drawn.shape[:2]
    colour = COLOURS[decision.verdict]
    border = max(1, min(height, width) // 60)
    cv2.rectangle(drawn, (0, 0), (width - 1, height - 1), colour, border * 2)
    text = decision.verdict.name
    if decision.verdict is Verdict.UNKNOWN:
        text += f' ({decision.reason.value})'
    else:
        text += f'  P(success) {decision.confidence:.2f}'
    scale, thickness = height / 400, max(1, height // 240)
    (text_width, text_height), below = cv2.getTextSize(
        text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = max(2, text_height // 2)
    bottom = text_height + below + 2 * pad
    cv2.rectangle(drawn, (0, 0), (text_width + 2 * pad, bottom), colour, cv2.FILLED)
    cv2.putText(drawn, text, (pad, pad + text_height), cv2.FONT_HERSHEY_SIMPLEX, scale,
                (255, 255, 255), thickness, cv2.LINE_AA)
    return drawn
