"""Frame probabilities over time become one verdict: SUCCESS, FAILURE or UNKNOWN, and why."""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from statistics import fmean
from typing import NamedTuple

from grasp_success_detector.errors import check_fields, ConfigError
from grasp_success_detector.labels import Verdict

NS_PER_S = 1_000_000_000


class Reason(Enum):
    """Why the verdict is what it is; every value but DECIDED goes with UNKNOWN."""

    DECIDED = 'decided'
    NO_FRAMES = 'no_frames'             #: nothing judged since the start or the last reset
    TOO_FEW_FRAMES = 'too_few_frames'   #: the window holds less than ``min_frames``
    UNDECIDED = 'undecided'             #: P(success) lies too close below the threshold
    STALE = 'stale'                     #: the newest judged frame is older than ``stale_after_s``
    BAD_FRAMES = 'bad_frames'           #: ``max_bad_frames`` in a row could not be decoded
    TOO_DARK = 'too_dark'               #: the camera is blind: its newest frame is (almost) black
    SATURATED = 'saturated'             #: the camera is blind: its newest frame is (almost) white
    FROZEN = 'frozen'                   #: the camera sends one picture again and again
    INACTIVE = 'inactive'               #: the detector takes no frames (said by its owner)
    DISABLED = 'disabled'               #: somebody told it to pause (said by its owner)


#: What a blind camera is called.
BLIND = (Reason.TOO_DARK, Reason.SATURATED, Reason.FROZEN)


@dataclass(frozen=True)
class DecisionConfig:
    """
    How frames are weighed; the defaults here are the only ones in the package.

    They were chosen from attempts that were simulated for it; docs/decision.md has the curve.

    :ivar threshold: mean P(success) from which a window becomes SUCCESS, in (0, 1].
    :ivar hysteresis: share of the threshold, in [0, 1): a SUCCESS lasts until the mean is below
        ``threshold * (1 - hysteresis)``.
    :ivar undecided: share of the threshold, in [0, 1): a mean that is no SUCCESS is UNKNOWN down
        to ``threshold * (1 - undecided)`` and FAILURE below.
    :ivar window_s: span of frame stamps, ending at the newest frame, that is averaged; seconds.
    :ivar min_frames: frames that the window must hold for a verdict.
    :ivar stale_after_s: age of the newest judged frame, counted from when it was received, above
        which nothing is known any more; seconds.
    :ivar max_bad_frames: so many frames in a row that cannot be judged mean UNKNOWN at once.
    """

    threshold: float = 0.5
    hysteresis: float = 0.2
    undecided: float = 0.25
    window_s: float = 0.5
    min_frames: int = 3
    stale_after_s: float = 0.5
    max_bad_frames: int = 5

    def __post_init__(self) -> None:
        """
        Check the values.

        :raises ConfigError: naming every value that is out of its range.
        """
        check_fields(self, ConfigError, 'decision:', (
            ('threshold', 0. < self.threshold <= 1., 'above 0, at most 1'),
            ('hysteresis', 0. <= self.hysteresis < 1., '0 or more, below 1'),
            ('undecided', 0. <= self.undecided < 1., '0 or more, below 1'),
            ('window_s', isfinite(self.window_s) and self.window_s >= 0., '0 or more seconds'),
            ('min_frames', self.min_frames >= 1, '1 or more'),
            ('stale_after_s', isfinite(self.stale_after_s) and self.stale_after_s > 0.,
             'more than 0 seconds'),
            ('max_bad_frames', self.max_bad_frames >= 1, '1 or more')))

    # Shares of the threshold and not differences: these are valid with every threshold.

    @property
    def leave_threshold(self) -> float:
        """Mean P(success) below which a SUCCESS ends."""
        return self.threshold * (1. - self.hysteresis)

    @property
    def failure_threshold(self) -> float:
        """Mean P(success) below which a window is FAILURE."""
        return self.threshold * (1. - self.undecided)


@dataclass(frozen=True)
class Decision:
    """
    What is known at one moment.

    :ivar verdict: SUCCESS or FAILURE when ``reason`` is DECIDED, else UNKNOWN.
    :ivar probability: mean P(success) of the window in [0, 1]; None where the window is not
        to be trusted.
    :ivar frames: number of frames that the answer rests on.
    :ivar stamp_ns: stamp of the newest of them in ns; None without any.
    :ivar seconds: time to decision, by the frames' stamps: from the first frame after nothing was
        known (start, reset, gap, undecided) to the one that decided; None while UNKNOWN.
    """

    verdict: Verdict
    reason: Reason
    probability: float | None = None
    frames: int = 0
    stamp_ns: int | None = None
    seconds: float | None = None

    @property
    def holds_object(self) -> bool:
        """Say what is published as Bool: true for SUCCESS only, so that UNKNOWN is false."""
        return self.verdict is Verdict.SUCCESS

    @property
    def confidence(self) -> float:
        """Say what is published as confidence: P(success), and 0 for UNKNOWN."""
        if self.verdict is Verdict.UNKNOWN or self.probability is None:
            return 0.
        return self.probability


def unknown(reason: Reason) -> Decision:
    """Return the fail-safe answer."""
    return Decision(Verdict.UNKNOWN, reason)


class _Observation(NamedTuple):
    stamp_ns: int
    probability: float


class WindowedDecider:
    """
    Keep the frames of the last ``window_s`` and say what they add up to.

    Two clocks are kept apart: the window is cut by the frames' own stamps (so that a bag at any
    rate gives the same verdicts), staleness by when they were received (so that a camera with a
    wrong clock, or a replay, is not taken for a dead one).
    """

    def __init__(self, config: DecisionConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._window: deque[_Observation] = deque()
        self._received_ns = 0       # of the newest judged frame
        self._holds = False         # SUCCESS by the window, hysteresis included
        self._bad_in_a_row = 0
        self._blind: tuple[Reason, int] | None = None       # why, and when received
        # Stamps: of the first frame of those that lead to a decision, and of the one that decided.
        self._run_ns: int | None = None
        self._decided_ns: int | None = None

    def configure(self, config: DecisionConfig) -> None:
        """Weigh the frames that are there, and those to come, in another way."""
        self.config = config
        if self._window:
            self._weigh()

    def observe(self, stamp_ns: int, probability: float, received_ns: int) -> None:
        """
        Take one judged frame.

        A stamp before the newest one (a replay that starts again, a clock set back) empties the
        window first, and so does a gap in reception that made the detector stale. A stamp equal to
        the newest one is the same frame again: it replaces that one and makes nothing fresher, so
        that a driver which sends its last frame for ever is found to be stale.

        :param stamp_ns: the frame's own time, ns.
        :param probability: calibrated P(success) in [0, 1].
        :param received_ns: when it was received, ns of the clock that ``decide`` is asked with.
        :raises ValueError: ``probability`` is not a number in [0, 1].
        """
        if not 0. <= probability <= 1.:     # also refuses NaN
            raise ValueError(f'P(success) = {probability}; expected a number in [0, 1]')
        again = False
        if self._window:
            newest = self._window[-1].stamp_ns
            again = stamp_ns == newest
            gap_ns = received_ns - self._received_ns
            if stamp_ns < newest or (
                    not again and gap_ns > self.config.stale_after_s * NS_PER_S):
                self._window.clear()
                self._lose()
            elif again:
                self._window.pop()
        self._window.append(_Observation(stamp_ns, probability))
        if not again:
            self._received_ns = received_ns
        self._bad_in_a_row, self._blind = 0, None
        self._weigh()

    def observe_bad(self) -> None:
        """Take note of a frame that could not be judged; it says nothing about the grasp."""
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self.config.max_bad_frames:
            self._lose()

    def observe_blind(self, reason: Reason, received_ns: int) -> None:
        """
        Take note of a frame on which nothing can be seen: from now on nothing is known.

        :param reason: one of BLIND.
        :param received_ns: as of ``observe``.
        """
        self._blind = reason, received_ns
        self._lose()

    def decide(self, now_ns: int) -> Decision:
        """
        Say what is known now.

        :param now_ns: ns of the clock that ``received_ns`` was read from.
        """
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
        probability, stamp_ns = self._mean(), self._window[-1].stamp_ns
        if self._decided_ns is None or self._run_ns is None:
            return Decision(Verdict.UNKNOWN, Reason.UNDECIDED, probability, len(self._window),
                            stamp_ns)
        return Decision(
            Verdict.SUCCESS if self._holds else Verdict.FAILURE, Reason.DECIDED, probability,
            len(self._window), stamp_ns, (self._decided_ns - self._run_ns) / NS_PER_S)

    def _mean(self) -> float:
        return fmean(observation.probability for observation in self._window)

    def _weigh(self) -> None:
        """Bring what the window adds up to up to date."""
        newest_ns = self._window[-1].stamp_ns
        while newest_ns - self._window[0].stamp_ns > self.config.window_s * NS_PER_S:
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
        """Make a SUCCESS be earned anew: the frames that it rested on are not the newest ones."""
        self._holds = False
        self._run_ns = self._decided_ns = None
