"""What the node tells about itself: counts and times of frames, as one DiagnosticStatus."""

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil
from operator import sub
from threading import Lock

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from grasp_success_detector.decision import Decision, NS_PER_S, Reason
from grasp_success_detector.labels import Verdict

#: Frames that rate and latency are computed from.
RECENT_FRAMES = 300

PERCENTILES = (50, 95, 99)

#: What a frame goes through, in this order; together they are its latency. *receive* is the time
#: until the worker has the message, *decode* includes the look whether anything can be seen.
STAGES = ('receive', 'decode', 'preprocess', 'infer', 'publish')

#: Rate counts frames received within this time.
RATE_SPAN_NS = 5 * NS_PER_S

#: A camera whose last frame is no older than this still sends.
ARRIVING_S = 1.


@dataclass(frozen=True)
class Snapshot:
    """
    Figures of one moment.

    :ivar rate_hz: frames received per second, over the last 5 s.
    :ivar age_s: time since the last frame was received, seconds; None before the first.
    :ivar is_behind: a frame came after the newest judged one; one is being judged, or all are too
        late.
    :ivar latency_ms: time from a frame's reception to its verdict's publication: the percentiles
        50, 95 and 99 of recent frames by number; empty before the first.
    :ivar stages_ms: the same of each of ``STAGES``, where that was asked for.
    :ivar dropped: frames that a newer one replaced before they were judged.
    :ivar limited: frames that ``max_rate`` left out.
    :ivar bad: frames that could not be judged, by reason.
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
        self._marks_ns: deque[tuple[int, ...]] = deque(maxlen=RECENT_FRAMES)

    def add_received(self, now_ns: int, replaced_another: bool) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._received += 1
            self._dropped += replaced_another
            self._received_ns.append(now_ns)

    def add_limited(self, now_ns: int) -> None:
        """Count a frame that came in sooner than wanted."""
        with self._lock:
            self._received += 1
            self._limited += 1
            self._received_ns.append(now_ns)

    def add_judged(self, marks_ns: tuple[int, ...]) -> None:
        """Count a frame whose verdict was published: when it came in, and the stages' ends."""
        with self._lock:
            self._judged += 1
            self._judged_ns = marks_ns[0]
            self._marks_ns.append(marks_ns)

    def add_bad(self, reason: str) -> None:
        """Count a frame that could not be judged."""
        with self._lock:
            self._bad[reason] += 1

    def snapshot(self, now_ns: int, stages: bool = False) -> Snapshot:
        """
        Return the figures of now.

        :param stages: whether to take the latency apart.
        """
        with self._lock:
            marks = list(self._marks_ns)
            steps = zip(*(map(sub, mark[1:], mark) for mark in marks), strict=True)
            recent = [at for at in self._received_ns if now_ns - at < RATE_SPAN_NS]
            span_ns = recent[-1] - recent[0] if recent else 0
            return Snapshot(
                self._received, self._judged, self._dropped, self._limited, dict(self._bad),
                rate_hz=(len(recent) - 1) * NS_PER_S / span_ns if span_ns else 0.,
                age_s=(now_ns - self._received_ns[-1]) / NS_PER_S if self._received_ns else None,
                is_behind=bool(self._received_ns) and self._received_ns[-1] > self._judged_ns,
                latency_ms=_percentiles_ms([mark[-1] - mark[0] for mark in marks]),
                stages_ms={stage: _percentiles_ms(times) for stage, times in zip(
                    STAGES, steps, strict=True)} if stages and marks else {})


def _percentiles_ms(times_ns: Collection[int]) -> dict[int, float]:
    if not times_ns:
        return {}
    in_order = sorted(times_ns)
    # Nearest rank: a latency that was really there.
    return {percent: in_order[ceil(percent / 100 * len(in_order)) - 1] / 1e6
            for percent in PERCENTILES}


def build_status(
    node_name: str, topic: str, decision: Decision, snapshot: Snapshot, facts: Mapping[str, str],
) -> DiagnosticStatus:
    """
    Return the status for ``/diagnostics``.

    :param topic: where frames come from; the status' hardware_id.
    :param facts: what does not change with frames (checkpoint, device, ...), shown as given.
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
            return DiagnosticStatus.WARN, 'disabled: takes no frames until ~/enable says so'
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
