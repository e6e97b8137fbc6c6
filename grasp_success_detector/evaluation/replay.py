"""What a running node said of a bag that was played to it, beside what the direct way says."""

from collections.abc import Mapping, Sequence
import dataclasses
from dataclasses import dataclass
from math import ceil
from typing import Any

from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.evaluation.attempts import (
    attempt_result,
    AttemptResult,
    decide_attempts,
)
from grasp_success_detector.evaluation.judging import Judged
from grasp_success_detector.evaluation.matching import Matched, NodeAnswer
from grasp_success_detector.labels import Verdict

_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Replay:
    """
    One bag, played once.

    :ivar rate: 2 is twice as fast as recorded.
    :ivar played: frames of the bag.
    :ivar heard: of them, those that came to a listener beside the node.
    :ivar matched: what was said of which frame.
    :ivar by_header: whether that is known from the header that came with the verdict, exactly;
        else from the time of both.
    :ivar node: the node's own last figures, from ``/diagnostics``, as text.
    :ivar engine: what ran the network on the direct way.
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
        """Return percentiles by number (nearest rank); empty without answers."""
        times = sorted(answer.latency_s * 1e3 for answer in self.answers.values()
                       if answer.latency_s is not None)
        return {percent: times[ceil(percent / 100 * len(times)) - 1]
                for percent in _PERCENTILES} if times else {}


@dataclass(frozen=True)
class Difference:
    """
    The node against the direct way, on frames that both saw.

    :ivar frames: that both saw.
    :ivar agree: of them, those with the same verdict, where the direct way had all frames.
    :ivar agree_same: the same, where the direct way had only the frames that the node answered.
    :ivar largest: difference of the window's mean P(success), of the latter, where both are
        decided; None without any.
    """

    frames: int
    agree: int
    agree_same: int
    largest: float | None


def replayed_attempts(direct: Sequence[AttemptResult], replay: Replay, config: DecisionConfig,
                      ) -> list[AttemptResult]:
    """
    Put what the node said in the place of the direct way's verdicts.

    The node publishes no P(success) of single frames: that is the direct way's, on the frames
    that the node answered. A frame that it did not answer has what was said meanwhile, or the
    verdict that stood.
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
        results.append(attempt_result(frames, config))
    return results


def compare_ways(judged: Judged, replay: Replay, config: DecisionConfig) -> Difference:
    """
    Count how often both ways say the same.

    The direct way is taken as one stream too, as the node does not know where attempts begin.
    """
    kept = [i for i, frame in enumerate(judged.recording.frames)
            if frame.stamp_ns in replay.answers]
    same = Judged(
        dataclasses.replace(judged.recording, frames=tuple(
            judged.recording.frames[i] for i in kept)),
        judged.probabilities[kept], judged.uncalibrated[kept],
        {place: judged.blind[i] for place, i in enumerate(kept) if i in judged.blind},
        judged.refused)
    whole, alike = (
        [(frame, replay.answers[frame.stamp_ns])
         for attempt in decide_attempts([answers], config, anew=False)
         for frame in attempt.frames if frame.stamp_ns in replay.answers]
        for answers in (judged, same))
    apart = [abs(frame.window_probability - answer.confidence) for frame, answer in alike
             if frame.window_probability is not None and Verdict.UNKNOWN not in (
                 frame.verdict, answer.verdict)]
    agree, agree_same = (sum(frame.verdict is answer.verdict for frame, answer in pairs)
                         for pairs in (whole, alike))
    return Difference(len(kept), agree, agree_same, max(apart, default=None))


def replay_json(replay: Replay, difference: Difference) -> dict[str, Any]:
    """Return what metrics.json holds of a replay."""
    return {'rate': replay.rate, 'frames_played': replay.played, 'frames_heard': replay.heard,
            'frames_answered': len(replay.answers),
            'matched_by': 'header' if replay.by_header else 'time',
            'latency_ms': {f'p{p}': value for p, value in replay.latency_ms.items()},
            'direct': {'engine': replay.engine, 'frames': difference.frames,
                       'agree': difference.agree,
                       'agree_given_the_same_frames': difference.agree_same,
                       'largest_difference': difference.largest},
            'node': dict(replay.node)}
