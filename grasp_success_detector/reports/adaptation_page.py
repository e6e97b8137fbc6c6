"""The page about an adaptation: what was compared, what more labels would bring, what failed."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.evaluation.calibration import reliability
from grasp_success_detector.labels import Label
from grasp_success_detector.reports.charts import (
    add_reliability,
    Chart,
    number_axis,
    reliability_axes,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import percent, render
from grasp_success_detector.training.adaptation.adaptation import Adaptation

_MOST_ERRORS = 12


class Mistake(NamedTuple):
    """A frame on the wrong side of the threshold: RGB uint8 (h, w, 3) as the network sees it."""

    picture: NDArray[np.uint8]
    label: Label
    probability: float
    attempt: str


def adaptation_page(name: str, adaptation: Adaptation) -> str:
    """
    Return the page as HTML.

    :param name: file name of the adapted checkpoint.
    """
    best = adaptation.compared[adaptation.winner].candidate
    labels = [Label(int(it)) for it in adaptation.frames.labels]
    return render(
        'adaptation.html', title=f'{name}: adaptation report', name=name,
        told=adaptation.to_json(), kept=best.text, accuracy=adaptation.accuracy.to_json(),
        compared=[(one.candidate.text, one.score.accuracy.to_json(), one.score.loss,
                   i == adaptation.winner) for i, one in enumerate(adaptation.compared)],
        curve=_curve(adaptation), reliability=_reliability(adaptation.probabilities, labels),
        mistakes=_mistakes(adaptation, best.view, labels))


def _curve(adaptation: Adaptation) -> Chart | None:
    if len(adaptation.curve) < 2:
        return None
    steps = [step.to_json() for step in adaptation.curve]
    chart = Chart(number_axis('attempts learnt from', [step['attempts'] for step in steps], 0.),
                  share_axis('right of held-out attempts'), 'Learning curve')
    chart.band([(step['attempts'], step['low'], step['high']) for step in steps], SERIES[0])
    chart.line([(step['attempts'], step['accuracy']) for step in steps], SERIES[0])
    chart.dots(((step['attempts'], step['accuracy'], 3, _step_text(step)) for step in steps),
               SERIES[0])
    return chart


def _step_text(step: dict[str, Any]) -> str:
    return (f'{step["attempts"]} attempts: {percent(step["accuracy"])}, 95 % interval '
            f'{percent(step["low"])} to {percent(step["high"])}')


def _reliability(probabilities: NDArray[np.float32], labels: list[Label]) -> Chart:
    chart = reliability_axes('Reliability diagram')
    add_reliability(chart, reliability(probabilities, labels), SERIES[0])
    return chart


def _mistakes(adaptation: Adaptation, view: str, labels: list[Label]) -> list[Mistake]:
    """Return the frames that are wrong without having been learnt, the worst first."""
    threshold = adaptation.point.threshold
    wrong = [i for i, (value, label) in enumerate(
        zip(adaptation.probabilities.tolist(), labels, strict=True))
        if (value >= threshold) != (label is Label.SUCCESS)]
    wrong.sort(key=lambda i: -abs(adaptation.probabilities[i] - threshold))
    frames = adaptation.frames
    return [Mistake(frames.views[view][i], labels[i], float(adaptation.probabilities[i]),
                    frames.origins[i].attempt) for i in wrong[:_MOST_ERRORS]]
