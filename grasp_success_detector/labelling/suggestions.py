"""What a checkpoint says about attempts: P(success) over time, a suggestion, and the doubt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.labelling.marks import Mark, SourceMarks, Span

#: Frames of an attempt that are judged, at most: enough for a curve, and for a first suggestion.
CURVE_FRAMES = 16

#: Share of an attempt's judged frames, from its end, that decide its suggested label.
_END_SHARE = .25

#: Doubt of an attempt that is not judged yet, between those that are certain and uncertain.
_UNJUDGED = .5


class Suggestion(NamedTuple):
    """
    What the checkpoint would say; it is never written as a label.

    :ivar mark: success or failure.
    :ivar frame: the first frame of the success; for a failure, the attempt's first frame.
    :ivar probability: mean P(success) at the end of the attempt.
    """

    mark: Mark
    frame: int
    probability: float


#: By source and attempt; None where no frame could be judged.
Suggestions = Mapping[tuple[str, Span], Suggestion | None]


def curve_frames(span: Span) -> list[int]:
    """Return the frames of an attempt to judge: evenly spread, with the first and the last."""
    count = min(CURVE_FRAMES, span.end - span.start)
    return sorted({round(at) for at in np.linspace(span.start, span.end - 1, count)})


def suggest(span: Span, curve: Mapping[int, float | None], threshold: float) -> Suggestion | None:
    """
    Return the suggested label of an attempt.

    :param curve: P(success) by frame; None for a frame that cannot be judged.
    :returns: None while no frame of the attempt is judged.
    """
    known = [(frame, curve[frame]) for frame in range(span.start, span.end) if frame in curve]
    judged = [(frame, probability) for frame, probability in known if probability is not None]
    if not judged:
        return None
    last = max(1, round(_END_SHARE * len(judged)))
    end = float(np.mean([probability for _, probability in judged[-last:]]))
    if end < threshold:
        return Suggestion(Mark.FAILURE, span.start, end)
    first = len(judged) - last
    while first > 0 and judged[first - 1][1] >= threshold:
        first -= 1
    return Suggestion(Mark.SUCCESS, judged[first][0], end)


def doubt(suggestion: Suggestion | None, threshold: float) -> float:
    """Return how doubtful a suggestion is: 1 at the threshold, 0 for P(success) of 0 or 1."""
    if suggestion is None:
        return _UNJUDGED
    side = threshold if suggestion.probability < threshold else 1 - threshold
    return 1 - abs(suggestion.probability - threshold) / max(side, 1e-6)


def to_label(sources: Mapping[str, SourceMarks],
             suggestions: Suggestions, threshold: float,
             first: Sequence[tuple[str, int]] = ()) -> list[tuple[str, Span]]:
    """
    Return the attempts that are not labelled yet, in the order in which to label them.

    :param suggestions: by source and attempt; those that are not judged yet may be missing.
    :param first: source and a frame of attempts that come first, such as those from which an
        adaptation would learn most; the others follow by their doubt.
    """
    left = [(key, span) for key, marks in sources.items() for span in marks.spans()
            if marks.mark_of(span) is Mark.NONE]
    rank = {(key, sources[key].span_at(frame)): i for i, (key, frame) in reversed(
        list(enumerate(first))) if key in sources}
    return sorted(left, key=lambda item: (
        rank.get(item, len(rank)), -doubt(suggestions.get(item), threshold)))


def agreement(sources: Mapping[str, SourceMarks],
              suggestions: Suggestions) -> Accuracy:
    """Return for how many labelled attempts the suggestion agrees with the label."""
    pairs = [(found.mark, mark) for (key, span), found in _suggested(suggestions)
             if key in sources and span.start in sources[key].starts
             and (mark := sources[key].mark_of(span)).label is not None]
    return Accuracy(sum(one is other for one, other in pairs), len(pairs))


def _suggested(suggestions: Suggestions,
               ) -> Iterable[tuple[tuple[str, Span], Suggestion]]:
    return [(item, found) for item, found in suggestions.items() if found is not None]
