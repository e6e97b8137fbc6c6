"""Which frame is it about? What a node published, put to the frames that were shown to it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.labels import Verdict

#: No confidence is higher.
_ABOVE_ALL = 2.


class ShownFrame(NamedTuple):
    """
    A frame as it was published.

    :ivar sent_ns: when.
    :ivar stamp_ns: of its header.
    """

    sent_ns: int
    stamp_ns: int


class Said(NamedTuple):
    """
    One verdict as it was published.

    :ivar confidence: 0 for UNKNOWN.
    :ivar stamp_ns: of the header that came with it: of the newest frame that was judged; None
        where it came without, 0 where no frame was judged yet.
    """

    sent_ns: int
    verdict: Verdict
    confidence: float
    stamp_ns: int | None = None


class NodeAnswer(NamedTuple):
    """
    What the node published after a frame.

    :ivar confidence: as published: the window's mean P(success), 0 for UNKNOWN.
    :ivar latency_s: from the frame's publication to the verdict's, in real time; None where the
        frame was not heard.
    """

    verdict: Verdict
    confidence: float
    latency_s: float | None


class Matched(NamedTuple):
    """
    Answers by the stamp of the frame, in ns.

    :ivar answers: of frames that were answered.
    :ivar meanwhile: what was said beside that while such a frame was the newest one: UNKNOWN, as
        nothing could be seen on it or the verdict before had become too old.
    """

    answers: Mapping[int, NodeAnswer]
    meanwhile: Mapping[int, NodeAnswer]


def without_header(verdicts: Iterable[tuple[int, bool]], confidences: Sequence[tuple[int, float]],
                   ) -> list[Said]:
    """
    Put Bools and confidences together, each with the time in ns at which it was published.

    The node publishes the confidence first. By its interface, UNKNOWN is false with confidence 0.
    """
    said = []
    for sent_ns, holds in verdicts:
        newest = bisect_right(confidences, (sent_ns, _ABOVE_ALL)) - 1
        confidence = confidences[newest][1] if newest >= 0 else 0.
        said.append(Said(sent_ns, Verdict.SUCCESS if holds else Verdict.FAILURE
                         if confidence > 0. else Verdict.UNKNOWN, confidence))
    return said


def match_by_time(frames: Sequence[ShownFrame], said: Iterable[Said]) -> dict[int, NodeAnswer]:
    """
    Take each verdict for the answer to the newest frame that was published before it.

    Right as long as the detector keeps up with the camera, however late one hears of it.
    """
    answers: dict[int, NodeAnswer] = {}
    for verdict in said:
        frame = _newest(frames, verdict.sent_ns)
        if frame is None:
            continue    # before the first frame: the watchdog's heartbeat
        before = answers.get(frame.stamp_ns)
        # Of several answers the first tells the latency; a heartbeat takes back none.
        if before is None or verdict.verdict is not Verdict.UNKNOWN:
            answers[frame.stamp_ns] = NodeAnswer(
                verdict.verdict, verdict.confidence, before.latency_s if before
                else (verdict.sent_ns - frame.sent_ns) / NS_PER_S)
    return answers


def match_by_header(frames: Sequence[ShownFrame], said: Iterable[Said]) -> Matched:
    """
    Take the first verdict with a frame's stamp for the answer to it.

    A further one with the same stamp is no answer to a frame: nothing new was judged.
    """
    sent = {frame.stamp_ns: frame.sent_ns for frame in frames}
    answers: dict[int, NodeAnswer] = {}
    meanwhile: dict[int, NodeAnswer] = {}
    for verdict in said:
        if verdict.stamp_ns and verdict.stamp_ns not in answers:
            sent_ns = sent.get(verdict.stamp_ns)
            answers[verdict.stamp_ns] = NodeAnswer(
                verdict.verdict, verdict.confidence,
                None if sent_ns is None else (verdict.sent_ns - sent_ns) / NS_PER_S)
        elif (frame := _newest(frames, verdict.sent_ns)) is not None:
            meanwhile[frame.stamp_ns] = NodeAnswer(verdict.verdict, verdict.confidence, None)
    return Matched(answers, meanwhile)


def bag_time_ns(sent_ns: int, frames: Sequence[ShownFrame], rate: float) -> int:
    """
    Return a moment of the playing on the time of the bag's frames, 0 or later.

    :param frames: one or more.
    :param rate: of the playing.
    """
    frame = _newest(frames, sent_ns) or frames[0]
    return max(0, frame.stamp_ns + round((sent_ns - frame.sent_ns) * rate))


def _newest(frames: Sequence[ShownFrame], sent_ns: int) -> ShownFrame | None:
    """Return the newest frame that was published by then."""
    index = bisect_right(frames, sent_ns, key=_sent) - 1
    return frames[index] if index >= 0 else None


def _sent(frame: ShownFrame) -> int:
    return frame.sent_ns
