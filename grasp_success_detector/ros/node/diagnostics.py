"""The node's DiagnosticStatus: counts, rate and latency of frames, and the verdict."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from grasp_success_detector.decision import (
    Decision,
    nearest_rank_percentiles,
    NO_CLOCK,
    NS_PER_S,
    PERCENTILES,
    Reason,
)
from grasp_success_detector.labels import Verdict

#: Number of newest frames whose latencies the percentiles describe.
RECENT_FRAMES = 300

#: Span over which the rate is computed.
RATE_SPAN_NS = 5 * NS_PER_S

#: Age of the last frame up to which the camera counts as sending.
ARRIVING_S = 1.


class StageTimes(NamedTuple):
    """Durations of the stages of one frame in ns; their sum is the frame's latency."""

    receive: int        #: from reception until the worker has deserialized the message
    decode: int         #: includes the visibility check
    preprocess: int
    infer: int
    publish: int = 0


class FrameStatistics:
    """
    Thread-safe frame counters and latencies, and the DiagnosticStatus made from them.

    Times are monotonic ns. A frame is *dropped* if a newer one replaces it before it is judged,
    *limited* if it exceeds ``max_rate``, and *bad* if it cannot be judged.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._received = self._judged = self._dropped = self._limited = 0
        self._bad: Counter[str] = Counter()     # by reason
        self._judged_ns = 0     # when the newest judged frame was received
        self._received_ns: deque[int] = deque(maxlen=RECENT_FRAMES)
        self._times: deque[StageTimes] = deque(maxlen=RECENT_FRAMES)

    def add_received(self, now_ns: int, replaced_another: bool = False,
                     limited: bool = False) -> None:
        """Count a received frame, which replaced a waiting one or exceeded ``max_rate``."""
        with self._lock:
            self._received += 1
            self._dropped += replaced_another
            self._limited += limited
            self._received_ns.append(now_ns)

    def add_judged(self, received_ns: int, times: StageTimes) -> None:
        """Count a frame whose verdict was published, and keep its durations."""
        with self._lock:
            self._judged += 1
            self._judged_ns = received_ns
            self._times.append(times)

    def add_bad(self, reason: str) -> None:
        """Count a frame that could not be judged, under the reason of its UnjudgedError."""
        with self._lock:
            self._bad[reason] += 1

    def status(self, node_name: str, topic: str, decision: Decision, facts: Mapping[str, str],
               now_ns: int, stages: bool = False) -> DiagnosticStatus:
        """
        Return the status for ``/diagnostics``.

        :param topic: the camera's topic, which becomes the hardware_id.
        :param facts: further keys and values, such as checkpoint and device.
        :param stages: add percentiles for each stage of StageTimes.
        """
        with self._lock:
            recent = [at for at in self._received_ns if now_ns - at < RATE_SPAN_NS]
            span_ns = recent[-1] - recent[0] if recent else 0
            age_s = (now_ns - self._received_ns[-1]) / NS_PER_S if self._received_ns else None
            latency = {f'latency_p{percent}_ms': '' for percent in PERCENTILES}
            latency |= _percentiles_ms('latency', map(sum, self._times))
            for stage in StageTimes._fields if stages else ():
                latency |= _percentiles_ms(stage, (
                    getattr(times, stage) for times in self._times))
            values = {
                'verdict': decision.verdict.value,
                'reason': decision.reason.value,
                'confidence': f'{decision.confidence:.4f}',
                'window_frames': str(decision.frames),
                'time_to_decision_s': _optional(decision.seconds),
                'rate_hz': f'{(len(recent) - 1) * NS_PER_S / span_ns if span_ns else 0.:.2f}',
                **latency,
                'age_s': _optional(age_s),
                'received': str(self._received),
                'judged': str(self._judged),
                'dropped': str(self._dropped),
                'limited': str(self._limited),
                'bad': str(self._bad.total()),
                **{f'bad.{reason}': str(count) for reason, count in sorted(self._bad.items())},
                **facts,
            }
            level, message = self._level(
                decision, topic, age_s, facts.get('hand_place', ''))
        return DiagnosticStatus(
            level=level, name=f'{node_name}: detector', message=message, hardware_id=topic,
            values=[KeyValue(key=key, value=value) for key, value in values.items()])

    def _level(self, decision: Decision, topic: str, age_s: float | None, hand_place: str,
               ) -> tuple[bytes, str]:
        match decision.reason:
            case Reason.INACTIVE:
                return DiagnosticStatus.WARN, 'inactive: takes no frames'
            case Reason.NO_FRAMES if self._received == 0:
                return DiagnosticStatus.WARN, f'no frame received yet on {topic}'
            case Reason.NO_FRAMES | Reason.TOO_FEW_FRAMES:
                return DiagnosticStatus.WARN, 'unknown: too few frames judged yet'
            case Reason.DISABLED:
                return DiagnosticStatus.WARN, (
                    'disabled: takes no frames until ~/enable is called with true')
            case Reason.NO_CLOCK:
                return DiagnosticStatus.ERROR, f'unknown: {NO_CLOCK}'
            case Reason.AMBIGUOUS_SOURCE:
                return DiagnosticStatus.ERROR, (
                    f'unknown: several cameras publish on {topic}; give each a topic of its own')
            case Reason.UNDECIDED:
                return DiagnosticStatus.WARN, (
                    f'unknown: P(success) {decision.probability:.2f} lies in the undecided band')
            case Reason.TOO_DARK | Reason.SATURATED | Reason.FROZEN:
                return DiagnosticStatus.ERROR, (
                    f'unknown: the camera is blind ({decision.reason.value}); is it covered, lit, '
                    'alive?')
            case Reason.UNFAMILIAR:
                return DiagnosticStatus.ERROR, (
                    'unknown: the checkpoint has not seen this kind of picture; adapt it to this '
                    'rig with adapt_classifier')
            case Reason.NO_HAND:
                return DiagnosticStatus.ERROR, (
                    'unknown: no Allegro hand is found in the frames; turn the camera to it, or '
                    'set roi to where it is')
            case Reason.NO_CALIBRATION | Reason.NO_TRANSFORM | Reason.OUT_OF_VIEW:
                return DiagnosticStatus.ERROR, f'unknown: {hand_place}'
            case Reason.CONTRADICTION:
                return DiagnosticStatus.ERROR, (
                    'unknown: the camera sees a held object, but the hand is closed on nothing; '
                    'look at both')
            case Reason.BAD_FRAMES:
                worst = max(self._bad, key=lambda reason: self._bad[reason], default='unknown')
                return DiagnosticStatus.ERROR, f'unknown: frames cannot be decoded ({worst})'
            # Frames came after the newest judged one.
            case Reason.STALE if self._received_ns and (
                    self._received_ns[-1] > self._judged_ns) and (age_s or 0.) < ARRIVING_S:
                return DiagnosticStatus.ERROR, (
                    'unknown: frames arrive, but none was judged within stale_after_s; raise it '
                    'or take a faster device')
            case Reason.STALE:
                return DiagnosticStatus.ERROR, f'unknown: no frames any more on {topic}'
        assert decision.verdict is not Verdict.UNKNOWN
        return DiagnosticStatus.OK, f'{decision.verdict.value} ({decision.confidence:.2f})'


def _percentiles_ms(name: str, times_ns: Iterable[int]) -> dict[str, str]:
    return {f'{name}_p{percent}_ms': f'{time_ns / 1e6:.2f}'
            for percent, time_ns in nearest_rank_percentiles(times_ns).items()}


def _optional(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'
