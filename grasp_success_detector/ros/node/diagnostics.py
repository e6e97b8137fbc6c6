"""The node's DiagnosticStatus: counts, rate and latency of frames, and the verdict."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from grasp_success_detector.decision import (
    Decision,
    nearest_rank_percentiles,
    NS_PER_S,
    PERCENTILES,
    Reason,
)
from grasp_success_detector.labels import Verdict

#: Number of frames from which latency is computed.
RECENT_FRAMES = 300

#: Span over which the rate is computed.
RATE_SPAN_NS = 5 * NS_PER_S

#: Age of the last frame up to which the camera counts as sending.
ARRIVING_S = 1.


class StageTimes(NamedTuple):
    """
    Durations of the stages of a frame, ns; their sum is its latency.

    :ivar receive: from reception until the worker has deserialized the message.
    :ivar decode: includes the check of visibility.
    """

    receive: int
    decode: int
    preprocess: int
    infer: int
    publish: int = 0


@dataclass(frozen=True)
class Snapshot:
    """
    Figures of one moment.

    :ivar rate_hz: frames received per second, over the last 5 s.
    :ivar dropped: frames that a newer one replaced before they were judged.
    :ivar limited: frames that ``max_rate`` left out.
    :ivar bad: frames that could not be judged, by reason.
    :ivar age_s: time since the last frame was received, seconds; None before the first.
    :ivar is_behind: whether a frame was received after the newest judged one.
    :ivar latency_ms: percentile (50, 95, 99) -> time from a frame's reception to the publication
        of its verdict, over recent frames; empty before the first.
    :ivar stages_ms: stage -> percentiles of its duration; empty unless asked for.
    """

    received: int
    judged: int
    dropped: int
    limited: int
    bad: Mapping[str, int]
    rate_hz: float
    age_s: float | None
    is_behind: bool
    latency_ms: Mapping[int, float]
    stages_ms: Mapping[str, Mapping[int, float]]


class FrameStatistics:
    """Count frames; fed by the executor's thread and the worker's. Times are monotonic ns."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._received = self._judged = self._dropped = self._limited = 0
        self._bad: Counter[str] = Counter()
        self._judged_ns = 0     # when the newest judged frame was received
        self._received_ns: deque[int] = deque(maxlen=RECENT_FRAMES)
        self._times: deque[StageTimes] = deque(maxlen=RECENT_FRAMES)

    def add_received(self, now_ns: int, replaced_another: bool = False,
                     limited: bool = False) -> None:
        """
        Count a frame that came in.

        :param replaced_another: whether a waiting frame was dropped for it.
        :param limited: whether it was itself left out for ``max_rate``.
        """
        with self._lock:
            self._received += 1
            self._dropped += replaced_another
            self._limited += limited
            self._received_ns.append(now_ns)

    def add_judged(self, received_ns: int, times: StageTimes) -> None:
        """Count a frame whose verdict was published."""
        with self._lock:
            self._judged += 1
            self._judged_ns = received_ns
            self._times.append(times)

    def add_bad(self, reason: str) -> None:
        """Count a frame that could not be judged."""
        with self._lock:
            self._bad[reason] += 1

    def snapshot(self, now_ns: int, stages: bool = False) -> Snapshot:
        """
        Return the figures of now.

        :param stages: whether to include the durations of the stages.
        """
        with self._lock:
            times = list(self._times)
            recent = [at for at in self._received_ns if now_ns - at < RATE_SPAN_NS]
            span_ns = recent[-1] - recent[0] if recent else 0
            return Snapshot(
                self._received, self._judged, self._dropped, self._limited, dict(self._bad),
                rate_hz=(len(recent) - 1) * NS_PER_S / span_ns if span_ns else 0.,
                age_s=(now_ns - self._received_ns[-1]) / NS_PER_S if self._received_ns else None,
                is_behind=bool(self._received_ns) and self._received_ns[-1] > self._judged_ns,
                latency_ms=_percentiles_ms([sum(frame) for frame in times]),
                stages_ms={stage: _percentiles_ms([getattr(frame, stage) for frame in times])
                           for stage in StageTimes._fields} if stages else {})


def _percentiles_ms(times_ns: Iterable[int]) -> dict[int, float]:
    return nearest_rank_percentiles(time_ns / 1e6 for time_ns in times_ns)


def build_status(
    node_name: str, topic: str, decision: Decision, snapshot: Snapshot, facts: Mapping[str, str],
) -> DiagnosticStatus:
    """
    Return the status for ``/diagnostics``.

    :param topic: the camera's; used as hardware_id.
    :param facts: further keys and values, such as checkpoint and device.
    """
    level, message = _level(decision, snapshot, topic)
    values = {
        'verdict': decision.verdict.value,
        'reason': decision.reason.value,
        'confidence': f'{decision.confidence:.4f}',
        'window_frames': str(decision.frames),
        'time_to_decision_s': _optional(decision.seconds),
        'rate_hz': f'{snapshot.rate_hz:.2f}',
        **{f'latency_p{percent}_ms': _optional(snapshot.latency_ms.get(percent))
           for percent in PERCENTILES},
        **{f'{stage}_p{percent}_ms': f'{time_ms:.2f}'
           for stage, times in snapshot.stages_ms.items() for percent, time_ms in times.items()},
        'age_s': _optional(snapshot.age_s),
        'received': str(snapshot.received),
        'judged': str(snapshot.judged),
        'dropped': str(snapshot.dropped),
        'limited': str(snapshot.limited),
        'bad': str(sum(snapshot.bad.values())),
        **{f'bad.{reason}': str(count) for reason, count in sorted(snapshot.bad.items())},
        **facts,
    }
    return DiagnosticStatus(
        level=level, name=f'{node_name}: detector', message=message, hardware_id=topic,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])


def _level(decision: Decision, snapshot: Snapshot, topic: str) -> tuple[bytes, str]:
    match decision.reason:
        case Reason.INACTIVE:
            return DiagnosticStatus.WARN, 'inactive: takes no frames'
        case Reason.NO_FRAMES if snapshot.received == 0:
            return DiagnosticStatus.WARN, f'no frame received yet on {topic}'
        case Reason.NO_FRAMES | Reason.TOO_FEW_FRAMES:
            return DiagnosticStatus.WARN, 'unknown: too few frames judged yet'
        case Reason.DISABLED:
            return DiagnosticStatus.WARN, (
                'disabled: takes no frames until ~/enable is called with true')
        case Reason.UNDECIDED:
            return DiagnosticStatus.WARN, (
                f'unknown: P(success) {decision.probability:.2f} lies in the undecided band')
        case Reason.TOO_DARK | Reason.SATURATED | Reason.FROZEN:
            return DiagnosticStatus.ERROR, (
                f'unknown: the camera is blind ({decision.reason.value}); is it covered, lit, '
                'alive?')
        case Reason.BAD_FRAMES:
            worst = max(snapshot.bad, key=lambda reason: snapshot.bad[reason], default='unknown')
            return DiagnosticStatus.ERROR, f'unknown: frames cannot be decoded ({worst})'
        case Reason.STALE if snapshot.is_behind and (snapshot.age_s or 0.) < ARRIVING_S:
            return DiagnosticStatus.ERROR, (
                'unknown: frames arrive, but none was judged within stale_after_s; raise it or '
                'take a faster device')
        case Reason.STALE:
            return DiagnosticStatus.ERROR, f'unknown: no frames any more on {topic}'
    assert decision.verdict is not Verdict.UNKNOWN
    return DiagnosticStatus.OK, f'{decision.verdict.value} ({decision.confidence:.2f})'


def _optional(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'
