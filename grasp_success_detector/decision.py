"""Decide SUCCESS, FAILURE or UNKNOWN, with a reason, from recent frames and from the hand."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import ceil
from statistics import fmean

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import FailureReason, Verdict
from grasp_success_detector.settings import check_settings, setting

NS_PER_S = 1_000_000_000

#: Percentiles that are reported of latencies.
PERCENTILES = (50, 95, 99)


class Reason(Enum):
    """Reason of a verdict; with every reason except DECIDED the verdict is UNKNOWN."""

    DECIDED = 'decided'
    NO_FRAMES = 'no_frames'             #: nothing judged since the start or the last reset
    TOO_FEW_FRAMES = 'too_few_frames'   #: the window holds less than ``min_frames``
    UNDECIDED = 'undecided'             #: P(success) lies too close below the threshold
    STALE = 'stale'                     #: the newest judged frame is older than ``stale_after_s``
    BAD_FRAMES = 'bad_frames'           #: ``max_bad_frames`` in a row could not be decoded
    TOO_DARK = 'too_dark'               #: the camera is blind: its newest frame is (almost) black
    SATURATED = 'saturated'             #: the camera is blind: its newest frame is (almost) white
    FROZEN = 'frozen'                   #: the camera sends one picture again and again
    AMBIGUOUS_SOURCE = 'ambiguous_source'   #: several cameras publish on the topic
    NO_CLOCK = 'no_clock'               #: ``use_sim_time`` is set, and nothing publishes /clock
    UNFAMILIAR = 'unfamiliar'           #: the checkpoint does not know pictures of this kind
    NO_HAND = 'no_hand'                 #: no Allegro hand was found in the frame
    NO_CALIBRATION = 'no_calibration'   #: ``roi_mode`` tf, and no CameraInfo that can be used
    NO_TRANSFORM = 'no_transform'       #: ``roi_mode`` tf, and TF does not tell where the palm is
    OUT_OF_VIEW = 'out_of_view'         #: ``roi_mode`` tf, and the hand is not in the picture
    CONTRADICTION = 'contradiction'     #: cameras are sure of held, the hand is closed on nothing
    INACTIVE = 'inactive'               #: the node is not active and takes no frames
    DISABLED = 'disabled'               #: the node was told to pause


#: Fused P(success) from which the verdict is SUCCESS. It is calibrated, whatever the checkpoint's
#: own threshold is; docs/hand.md shows what other values would decide.
FUSED_THRESHOLD = .6

#: Fused P(success) of the cameras from which a hand that is closed on nothing contradicts them;
#: below it, what they say is only weighed.
SURELY_HELD = .8

#: Text of the reason NO_CLOCK.
NO_CLOCK = ('use_sim_time is true, but nothing publishes /clock, so that no time is known; start '
            'what publishes it, or set use_sim_time to false')

#: Reasons for which frames show nothing.
BLIND = (Reason.TOO_DARK, Reason.SATURATED, Reason.FROZEN)


@dataclass(frozen=True)
class DecisionConfig:
    """
    Settings of :class:`WindowedDecider`.

    docs/decision.md shows how the defaults were chosen, from simulated attempts. ``hysteresis``
    and ``undecided`` are fractions of the threshold, not differences to it, so that they are valid
    with every threshold.
    """

    threshold: float = setting(
        0.5, above=0., highest=1., help='Mean P(success) from which the verdict is SUCCESS.')
    hysteresis: float = setting(
        0.2, lowest=0., below=1.,
        help='A SUCCESS lasts until the mean is below the threshold by this fraction of it.')
    undecided: float = setting(
        0.25, lowest=0., below=1., help='A mean below the threshold by less than this fraction of '
        'it is UNKNOWN (false) instead of FAILURE.')
    window_s: float = setting(
        0.5, lowest=0., help='Span of frame stamps that is averaged, in seconds.')
    min_frames: int = setting(
        3, lowest=1, help='Number of frames in the window that a verdict needs.')
    stale_after_s: float = setting(
        0.5, above=0.,
        help='Seconds without a judged frame after which the verdict is UNKNOWN (false).')
    max_bad_frames: int = setting(
        5, lowest=1, help='Number of undecodable frames in a row from which the verdict is '
        'UNKNOWN (false).')

    def __post_init__(self) -> None:
        """Raise a ConfigError that names every invalid value."""
        check_settings(self, ConfigError, 'decision:')

    @property
    def leave_threshold(self) -> float:
        """Mean P(success) below which a SUCCESS ends, because of ``hysteresis``."""
        return self.threshold * (1. - self.hysteresis)

    @property
    def failure_threshold(self) -> float:
        """Mean P(success) below which the verdict is FAILURE, not UNKNOWN."""
        return self.threshold * (1. - self.undecided)


@dataclass(frozen=True)
class Decision:
    """
    The verdict at one moment.

    :ivar verdict: SUCCESS or FAILURE when ``reason`` is DECIDED, else UNKNOWN.
    :ivar probability: mean P(success) of the window; None unless DECIDED or UNDECIDED.
    :ivar frames: number of frames in the window.
    :ivar stamp_ns: stamp of the newest frame in the window, ns; None unless DECIDED or UNDECIDED.
    :ivar seconds: time to decision by frames' stamps, from the first frame of the window after a
        start, reset, gap or undecided mean to the frame that decided; None while UNKNOWN.
    :ivar failure: why the verdict is FAILURE, where the hand tells it.
    """

    verdict: Verdict
    reason: Reason
    probability: float | None = None
    frames: int = 0
    stamp_ns: int | None = None
    seconds: float | None = None
    failure: FailureReason | None = None

    @property
    def holds_object(self) -> bool:
        """Return whether the verdict is SUCCESS, which is published as Bool (UNKNOWN: false)."""
        return self.verdict is Verdict.SUCCESS

    @property
    def confidence(self) -> float:
        """Return the published confidence: mean P(success), or 0 if the verdict is UNKNOWN."""
        return 0. if self.verdict is Verdict.UNKNOWN else self.probability or 0.


def unknown(reason: Reason) -> Decision:
    """Return a decision with verdict UNKNOWN, without a probability."""
    return Decision(Verdict.UNKNOWN, reason)


class WindowedDecider:
    """
    Average the probabilities of the last ``window_s`` and compare the mean with thresholds.

    The frames' own stamps limit the window, so that a bag gives the same verdicts at any rate.
    Staleness is judged by the times of reception, so that a camera with a wrong clock, or a
    replay, does not count as stopped.
    """

    def __init__(self, config: DecisionConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._window: deque[tuple[int, float]] = deque()   # (stamp_ns, P(success))
        self._received_ns = 0       # of the newest judged frame
        self._holds = False         # whether the window is SUCCESS, hysteresis included
        self._bad_in_a_row = 0
        self._blind: tuple[Reason, int] | None = None       # reason, and time of reception
        # Stamps of the first frame that led to the decision, and of the one that decided.
        self._run_ns: int | None = None
        self._decided_ns: int | None = None

    def configure(self, config: DecisionConfig) -> None:
        """Use another configuration from now on, for the frames in the window as well."""
        self.config = config
        if self._window:
            self._weigh()

    def observe(self, stamp_ns: int, probability: float, received_ns: int) -> None:
        """
        Add one judged frame to the window.

        A stamp before the newest one (a replay that starts again, a clock set back) empties the
        window first, and so does a gap in reception longer than ``stale_after_s``. A frame with
        the newest stamp replaces the former one and does not count as newer, so that a driver
        which repeats its last frame for ever becomes stale.

        :param received_ns: time of reception, by the same clock as ``now_ns`` of :meth:`decide`.
        :raises ValueError: ``probability`` is not a number in [0, 1].
        """
        if not 0. <= probability <= 1.:     # also refuses NaN
            raise ValueError(f'P(success) = {probability}; expected a number in [0, 1]')
        again = bool(self._window) and stamp_ns == self._window[-1][0]
        if again:
            self._window.pop()
        elif self._window and (stamp_ns < self._window[-1][0] or (
                received_ns - self._received_ns > self.config.stale_after_s * NS_PER_S)):
            self._window.clear()
            self._lose()
        self._window.append((stamp_ns, probability))
        if not again:
            self._received_ns = received_ns
        self._bad_in_a_row, self._blind = 0, None
        self._weigh()

    def observe_bad(self) -> None:
        """Count a frame that could not be judged; ``max_bad_frames`` in a row mean UNKNOWN."""
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self.config.max_bad_frames:
            self._lose()

    def observe_blind(self, reason: Reason, received_ns: int) -> None:
        """Make the verdict UNKNOWN for a frame whose content cannot be judged, for this reason."""
        self._blind = reason, received_ns
        self._lose()

    def decide(self, now_ns: int) -> Decision:
        """Return the decision at ``now_ns``, by the same clock as ``received_ns``."""
        stale_ns = self.config.stale_after_s * NS_PER_S
        if self._blind and now_ns - self._blind[1] <= stale_ns:
            return unknown(self._blind[0])
        if self._bad_in_a_row >= self.config.max_bad_frames:
            return unknown(Reason.BAD_FRAMES)
        if not self._window:
            return unknown(Reason.NO_FRAMES)
        if now_ns - self._received_ns > stale_ns:
            return unknown(Reason.STALE)
        if len(self._window) < self.config.min_frames:
            return unknown(Reason.TOO_FEW_FRAMES)
        known = self._mean(), len(self._window), self._window[-1][0]
        if self._decided_ns is None or self._run_ns is None:
            return Decision(Verdict.UNKNOWN, Reason.UNDECIDED, *known)
        return Decision(Verdict.SUCCESS if self._holds else Verdict.FAILURE, Reason.DECIDED,
                        *known, (self._decided_ns - self._run_ns) / NS_PER_S)

    def _mean(self) -> float:
        return fmean(probability for _, probability in self._window)

    def _weigh(self) -> None:
        """Drop frames that have left the window, and compare its mean with the thresholds."""
        newest_ns = self._window[-1][0]
        while newest_ns - self._window[0][0] > self.config.window_s * NS_PER_S:
            self._window.popleft()
        enough, probability = len(self._window) >= self.config.min_frames, self._mean()
        self._holds = enough and probability >= (
            self.config.leave_threshold if self._holds else self.config.threshold)
        decided = enough and (self._holds or probability < self.config.failure_threshold)
        if self._run_ns is None or (self._decided_ns is not None and not decided):
            self._run_ns, self._decided_ns = newest_ns, None
        if decided and self._decided_ns is None:
            self._decided_ns = newest_ns

    def _lose(self) -> None:
        """End a SUCCESS: the mean must reach ``threshold`` again."""
        self._holds = False
        self._run_ns = self._decided_ns = None


@dataclass(frozen=True)
class HandEvidence:
    """
    What joints and tactile sensors say at one moment.

    :ivar log_odds: of success (natural logarithm); None: they cannot tell.
    :ivar empty: whether the hand is closed to where it closes on nothing, or has opened.
    """

    log_odds: float | None
    empty: bool = False


#: Returns P(success) of the P(success) of cameras and of the hand's log-odds, None without them.
Fuse = Callable[[Sequence[float], float | None], float]


class Fuser:
    """
    Make one decision of the decisions of cameras and of what the hand says.

    A camera counts while its reason is DECIDED or UNDECIDED, the hand while it has log-odds; what
    does not count changes nothing. One camera without a hand is decided as it is alone.
    """

    def __init__(self, config: DecisionConfig, fuse: Fuse) -> None:
        """Prepare; the threshold of ``config`` is that of the fused P(success)."""
        self.config, self._fuse = config, fuse
        self.reset()

    def reset(self) -> None:
        """End a SUCCESS: P(success) must reach the threshold again."""
        self._holds = False
        self._parts = 0

    def decide(self, cameras: Sequence[Decision], hand: HandEvidence | None) -> Decision:
        """Return the decision of all parts; at least one camera, which may be unable to tell."""
        seen = [(camera, camera.probability) for camera in cameras
                if camera.probability is not None]
        log_odds = None if hand is None else hand.log_odds
        parts = len(seen) + (log_odds is not None)
        # What a part that is lost has said must not keep a SUCCESS standing.
        self._holds = self._holds and parts >= self._parts
        self._parts = parts
        if log_odds is None and len(cameras) == 1:
            self._holds = cameras[0].holds_object
            return cameras[0]
        if not parts:
            return cameras[0]
        said = [probability for _, probability in seen]
        if hand is not None and hand.empty and any(camera.holds_object for camera, _ in seen) and (
                self._fuse(said, None) >= SURELY_HELD):
            self._holds = False
            return unknown(Reason.CONTRADICTION)
        probability = self._fuse(said, log_odds)
        self._holds = probability >= (
            self.config.leave_threshold if self._holds else self.config.threshold)
        undecided = not self._holds and probability >= self.config.failure_threshold
        return Decision(
            Verdict.SUCCESS if self._holds else
            Verdict.UNKNOWN if undecided else Verdict.FAILURE,
            Reason.UNDECIDED if undecided else Reason.DECIDED, probability,
            max((camera.frames for camera, _ in seen), default=0),
            max((camera.stamp_ns for camera, _ in seen if camera.stamp_ns is not None),
                default=None))


def fused(config: DecisionConfig) -> DecisionConfig:
    """Return the settings of a Fuser, whose P(success) has another threshold than a camera's."""
    return replace(config, threshold=FUSED_THRESHOLD)


class FusedDecider(WindowedDecider):
    """A WindowedDecider of one camera, whose decisions are fused with what the hand says."""

    def __init__(self, config: DecisionConfig, fuse: Fuse,
                 hand: Callable[[int], HandEvidence | None]) -> None:
        """Prepare; ``hand`` returns what the hand says at a time of reception, in ns."""
        self._fuser, self._hand = Fuser(fused(config), fuse), hand
        super().__init__(config)

    def reset(self) -> None:
        """Forget all frames."""
        self._fuser.reset()
        super().reset()

    def configure(self, config: DecisionConfig) -> None:
        """Use another configuration from now on."""
        self._fuser.config = fused(config)
        super().configure(config)

    def decide(self, now_ns: int) -> Decision:
        """Return the fused decision at ``now_ns``, by the same clock as ``received_ns``."""
        return self._fuser.decide([super().decide(now_ns)], self._hand(now_ns))


def nearest_rank_percentiles(values: Iterable[float]) -> dict[int, float]:
    """Return ``{percent: value}`` for PERCENTILES by nearest rank; empty without values."""
    in_order = sorted(values)
    return {percent: in_order[ceil(percent / 100 * len(in_order)) - 1]
            for percent in PERCENTILES} if in_order else {}
