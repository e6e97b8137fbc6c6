"""How long a verdict lasts, and what a reset keeps; with a simulated clock."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from grasp_success_detector.decision import DecisionConfig, NS_PER_S, Reason
from grasp_success_detector.ros.node import verdict_keeper
from grasp_success_detector.ros.node.diagnostics import FrameStatistics, StageTimes
from grasp_success_detector.ros.node.frame_judge import (
    JudgedFrame,
    ReceivedFrame,
    Stamp,
)

CONFIG = DecisionConfig(threshold=0.5, hysteresis=0., undecided=0., window_s=5., min_frames=2,
                        stale_after_s=1.)
START_S = 1000


class Kept:
    """A keeper that is open, the time, and what was published."""

    def __init__(self):
        self.now_ns = START_S * NS_PER_S
        self.published, self.repeated = [], []
        self.keeper = verdict_keeper.VerdictKeeper(SimpleNamespace(
            publish=lambda decision, header: self.published.append(decision),
            repeat=self.repeated.append), FrameStatistics(), lambda: self.now_ns)
        self.keeper.configure(CONFIG)
        self.keeper.open()

    def frame(self, seconds, probability, unfamiliar=False):
        """Receive, judge and answer a frame at a time."""
        self.now_ns = at(seconds)
        self.keeper.answer(
            ReceivedFrame(b'', self.now_ns, self.keeper.period),
            JudgedFrame(SimpleNamespace(header=None), probability, Stamp(self.now_ns, False),
                        StageTimes(0, 0, 0, 0), unfamiliar))

    def watch(self, seconds):
        self.now_ns = at(seconds)
        self.keeper.watch()
        return self.keeper.latest


def at(seconds):
    return round((START_S + seconds) * NS_PER_S)


@pytest.fixture
def kept(monkeypatch):
    made = Kept.__new__(Kept)
    monkeypatch.setattr(verdict_keeper.time, 'monotonic_ns', lambda: made.now_ns)
    made.__init__()
    return made


def test_a_success_lasts_until_it_is_stale_and_is_withdrawn_then(kept):
    kept.frame(0., 1.)
    kept.frame(0.1, 1.)
    for seconds in (0.5, 1., 1.05, 1.1):     # to the very end of stale_after_s
        assert kept.watch(seconds).holds_object
    decision = kept.watch(1.1 + kept.keeper.watch_period_s)
    assert (decision.holds_object, decision.reason) == (False, Reason.STALE)


def test_an_unfamiliar_frame_is_published_as_false_with_its_reason(kept):
    answers = []
    kept.frame(0., 1.)
    kept.frame(0.1, 1.)
    kept.keeper.verify(0.5, '/image', answers.append)
    kept.frame(0.2, 1., unfamiliar=True)
    decision = kept.published[-1]
    assert (decision.holds_object, decision.reason) == (False, Reason.UNFAMILIAR)
    kept.frame(0.3, 1., unfamiliar=True)
    kept.watch(0.8)
    assert answers[0].decision.reason is Reason.UNFAMILIAR
    assert not answers[0].decision.holds_object
    kept.frame(0.9, 1.)
    assert kept.published[-1].holds_object


def test_frames_just_within_stale_after_s_do_not_make_the_verdict_flap(kept):
    kept.frame(0., 1.)
    kept.frame(0.1, 1.)
    before = len(kept.published)
    for number in range(1, 6):
        kept.watch(0.1 + number * 0.98 - 0.01)
        kept.frame(0.1 + number * 0.98, 1.)
    assert all(decision.holds_object for decision in kept.published[before:])


def test_after_a_reset_a_waiting_call_counts_only_later_frames(kept):
    answers = []
    kept.now_ns = at(0.)
    kept.keeper.verify(5., '/image', answers.append)
    kept.frame(0.1, 1.)
    kept.now_ns = at(0.2)
    kept.keeper.reset()
    kept.frame(0.3, 0.)
    assert not answers      # two frames are needed, of after the reset
    kept.frame(0.4, 0.)
    answer, = answers
    assert (answer.decision.frames, answer.decision.probability) == (2, 0.)


def test_a_waiting_call_times_out_from_when_it_was_made_in_spite_of_a_reset(kept):
    answers = []
    kept.now_ns = at(0.)
    kept.keeper.verify(1., '/image', answers.append)
    kept.now_ns = at(0.9)
    kept.keeper.reset()
    kept.watch(1.)
    assert answers[0].seconds == 1.


def test_any_verdict_is_repeated_within_its_deadline(kept):
    kept.frame(0., 1.)
    kept.frame(0.1, 1.)
    for hundredth in range(10, 110):
        kept.watch(hundredth / 100)
    assert [decision.holds_object for decision in kept.repeated] == [True, True]


def test_while_it_is_held_no_frame_counts_and_calls_are_refused(kept):
    kept.frame(0., 1.)
    kept.frame(0.1, 1.)
    answers = []
    kept.keeper.verify(5., '/image', answers.append)
    kept.keeper.hold(Reason.NO_CLOCK)
    kept.keeper.verify(5., '/image', answers.append)
    kept.frame(0.2, 1.)
    assert [answer.decision.reason for answer in answers] == [Reason.NO_CLOCK] * 2
    assert kept.watch(0.3).reason is Reason.NO_CLOCK
    kept.keeper.hold(None)
    assert kept.watch(0.3).reason is Reason.NO_FRAMES
    kept.frame(0.4, 1.)
    kept.frame(0.5, 1.)
    assert kept.keeper.latest.holds_object


def test_frames_of_another_source_are_not_averaged_with_those_before(kept):
    kept.frame(0., 1.)
    kept.keeper.interrupt()
    kept.frame(0.1, 1.)
    assert kept.keeper.latest.reason is Reason.TOO_FEW_FRAMES
