"""The verdicts of a running node, matched to the frames of the bag that was played to it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

from grasp_success_detector.decision import DecisionConfig, nearest_rank_percentiles, NS_PER_S
from grasp_success_detector.evaluation import attempts
from grasp_success_detector.labels import Verdict


class ShownFrame(NamedTuple):
    """A frame as it was published: at the time ``sent_ns``, with ``stamp_ns`` in its header."""

    sent_ns: int
    stamp_ns: int


class Said(NamedTuple):
    """
    One verdict as it was published.

    :ivar sent_ns: time of publication.
    :ivar confidence: mean P(success) of the window; 0 for UNKNOWN.
    :ivar stamp_ns: stamp of the newest judged frame, from the verdict's header; 0 if no frame was
        judged yet, None if the verdict has no header.
    """

    sent_ns: int
    verdict: Verdict
    confidence: float
    stamp_ns: int | None = None


class NodeAnswer(NamedTuple):
    """
    What the node published after a frame.

    :ivar confidence: mean P(success) of the window, as published; 0 for UNKNOWN.
    :ivar latency_s: from the frame's publication to the verdict's, in real time; None if the
        recorder did not receive the frame.
    """

    verdict: Verdict
    confidence: float
    latency_s: float | None


class Matched(NamedTuple):
    """
    The verdicts that were published, by the stamp of a frame in ns.

    :ivar answers: verdict on each frame that the node judged.
    :ivar meanwhile: verdicts that judged no new frame, by the newest frame then: UNKNOWN, as the
        frame showed nothing or the last verdict had become too old.
    """

    answers: Mapping[int, NodeAnswer]
    meanwhile: Mapping[int, NodeAnswer]


def without_header(verdicts: Iterable[tuple[int, bool]], confidences: Sequence[tuple[int, float]],
                   ) -> list[Said]:
    """
    Pair each Bool with the confidence published before it; both come with their time in ns.

    False with confidence 0 means UNKNOWN.
    """
    said = []
    for sent_ns, holds in verdicts:
        newest = bisect_right(confidences, sent_ns, key=lambda confidence: confidence[0]) - 1
        confidence = confidences[newest][1] if newest >= 0 else 0.
        said.append(Said(sent_ns, Verdict.SUCCESS if holds else Verdict.FAILURE
                         if confidence > 0. else Verdict.UNKNOWN, confidence))
    return said


def match_by_time(frames: Sequence[ShownFrame], said: Iterable[Said]) -> dict[int, NodeAnswer]:
    """
    Match each verdict to the newest frame that was published before it.

    This is right as long as the detector keeps up with the camera.
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
    Match the first verdict that has a frame's stamp to that frame.

    A further verdict with the same stamp answers no frame: nothing new was judged.
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
    Convert a time (ns) while a bag is played to the time of its frames, 0 or later.

    :param frames: one or more.
    :param rate: speed of playing; 2 is twice as fast as recorded.
    """
    frame = _newest(frames, sent_ns) or frames[0]
    return max(0, frame.stamp_ns + round((sent_ns - frame.sent_ns) * rate))


def _newest(frames: Sequence[ShownFrame], sent_ns: int) -> ShownFrame | None:
    """Return the newest frame that was published by a time."""
    index = bisect_right(frames, sent_ns, key=lambda frame: frame.sent_ns) - 1
    return frames[index] if index >= 0 else None


@dataclass(frozen=True)
class Replay:
    """
    One playing of a bag.

    :ivar rate: speed of playing; 2 is twice as fast as recorded.
    :ivar played: number of frames in the bag.
    :ivar heard: number of frames that the recorder received.
    :ivar by_header: whether verdicts were matched by their header, not by time.
    :ivar node: the last values that the node published on ``/diagnostics``, as text.
    :ivar engine: engine, number format and device of the direct evaluation.
    """

    rate: float
    played: int
    heard: int
    matched: Matched
    by_header: bool
    node: Mapping[str, str]
    engine: str

    @property
    def answers(self) -> Mapping[int, NodeAnswer]:
        """Return the answers by the frame's stamp, ns."""
        return self.matched.answers

    @property
    def latency_ms(self) -> dict[int, float]:
        """Return percentiles of the latency by percentage, such as 50; empty without answers."""
        return nearest_rank_percentiles(
            answer.latency_s * 1e3 for answer in self.answers.values()
            if answer.latency_s is not None)


@dataclass(frozen=True)
class Difference:
    """
    How the node's verdicts differ from those of the direct evaluation, on frames judged by both.

    :ivar frames: number of frames that both judged.
    :ivar agree: number with the same verdict, if the direct evaluation takes all frames.
    :ivar agree_same: number with the same verdict, if it takes only the frames that the node
        answered.
    :ivar largest: largest difference of the window's mean P(success) in the latter case, where
        neither verdict is UNKNOWN; None without such frames.
    """

    frames: int
    agree: int
    agree_same: int
    largest: float | None


def replayed_attempts(direct: Sequence[attempts.AttemptResult], replay: Replay,
                      config: DecisionConfig) -> list[attempts.AttemptResult]:
    """
    Replace the verdicts of the direct evaluation by those of the node.

    The node publishes no P(success) of single frames: they are taken from the direct evaluation,
    for the frames that the node answered. A frame without answer has the verdict published then,
    or else the previous one.
    """
    results = []
    for attempt in direct:
        standing: NodeAnswer | None = None
        frames = []
        for frame in attempt.frames:
            answer = replay.answers.get(frame.stamp_ns)
            standing = answer or replay.matched.meanwhile.get(frame.stamp_ns) or standing
            verdict = Verdict.UNKNOWN if standing is None else standing.verdict
            decided = standing is not None and verdict is not Verdict.UNKNOWN
            frames.append(frame._replace(
                verdict=verdict, reason=None,
                probability=None if answer is None else frame.probability,
                uncalibrated=None if answer is None else frame.uncalibrated,
                window_probability=standing.confidence if standing and decided else None))
        results.append(attempts.attempt_result(frames, config))
    return results


def compare_ways(judged: attempts.Judged, replay: Replay, config: DecisionConfig) -> Difference:
    """
    Count the frames on which the node and the direct evaluation agree.

    The direct evaluation is one stream too, as the node does not know where attempts begin.
    """
    kept = [i for i, frame in enumerate(judged.recording.frames)
            if frame.stamp_ns in replay.answers]
    same = dataclasses.replace(
        judged, recording=dataclasses.replace(judged.recording, frames=tuple(
            judged.recording.frames[i] for i in kept)),
        probabilities=judged.probabilities[kept], uncalibrated=judged.uncalibrated[kept],
        blind={place: judged.blind[i] for place, i in enumerate(kept) if i in judged.blind})
    whole, alike = (
        [(frame, replay.answers[frame.stamp_ns])
         for attempt in attempts.decide_attempts([answers], config, anew=False)
         for frame in attempt.frames if frame.stamp_ns in replay.answers]
        for answers in (judged, same))
    apart = [abs(frame.window_probability - answer.confidence) for frame, answer in alike
             if frame.window_probability is not None and Verdict.UNKNOWN not in (
                 frame.verdict, answer.verdict)]
    agree, agree_same = (sum(frame.verdict is answer.verdict for frame, answer in pairs)
                         for pairs in (whole, alike))
    return Difference(len(kept), agree, agree_same, max(apart, default=None))


def replay_json(replay: Replay, difference: Difference) -> dict[str, Any]:
    """Return the entry of a replay in metrics.json."""
    return {'rate': replay.rate, 'frames_played': replay.played, 'frames_heard': replay.heard,
            'frames_answered': len(replay.answers),
            'matched_by': 'header' if replay.by_header else 'time',
            'latency_ms': {f'p{p}': value for p, value in replay.latency_ms.items()},
            'direct': {'engine': replay.engine, 'frames': difference.frames,
                       'agree': difference.agree,
                       'agree_given_the_same_frames': difference.agree_same,
                       'largest_difference': difference.largest},
            'node': dict(replay.node)}
