"""What cameras and hand say together: which part counts, contradiction, attempts, reasons."""

import json

import numpy as np
import pytest

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    FusedDecider,
    Fuser,
    HandEvidence,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.hand.attempt_verdict import AttemptWatch
from grasp_success_detector.hand.logistic import log_odds_of, probability_of
from grasp_success_detector.hand.monitor import HandState
from grasp_success_detector.hand.motion import Phase
from grasp_success_detector.labels import FailureReason, Verdict

CONFIG = DecisionConfig(threshold=.75)
SUCCESS, FAILURE, UNKNOWN = Verdict.SUCCESS, Verdict.FAILURE, Verdict.UNKNOWN


def fuse(cameras, log_odds):
    """Add the log-odds of all parts."""
    parts = [log_odds_of(p) for p in cameras] + ([] if log_odds is None else [log_odds])
    return float(probability_of(np.array(sum(parts))))


def camera(probability, threshold=.75):
    return Decision(SUCCESS if probability >= threshold else FAILURE, Reason.DECIDED, probability,
                    3, 7)


@pytest.mark.parametrize('said', [camera(.9), camera(.1), unknown(Reason.STALE),
                                  Decision(UNKNOWN, Reason.UNDECIDED, .7, 3, 7)])
@pytest.mark.parametrize('hand', [None, HandEvidence(None)])
def test_one_camera_without_a_hand_that_can_tell_is_decided_as_alone(said, hand):
    assert Fuser(CONFIG, fuse).decide([said], hand) is said


def test_a_windowed_decider_without_joint_states_says_the_same_at_every_frame():
    rng = np.random.default_rng(0)
    alone, fused = WindowedDecider(CONFIG), FusedDecider(CONFIG, fuse, lambda now_ns: None)
    for number in range(500):
        at_ns = number * NS_PER_S // 15
        for decider in (alone, fused):
            if number % 97 == 50:
                decider.reset()
        value = float(np.clip(.5 + .5 * np.sin(number / 20) + rng.normal(0, .2), 0, 1))
        alone.observe(at_ns, value, at_ns)
        fused.observe(at_ns, value, at_ns)
        assert alone.decide(at_ns) == fused.decide(at_ns)


@pytest.mark.parametrize('gone', [unknown(Reason.STALE), unknown(Reason.UNFAMILIAR),
                                  unknown(Reason.TOO_DARK), unknown(Reason.NO_FRAMES)])
def test_a_part_that_cannot_tell_counts_for_nothing(gone):
    fuser = Fuser(CONFIG, fuse)
    decision = fuser.decide([gone], HandEvidence(3.))
    assert (decision.verdict, decision.probability) == (
        SUCCESS, pytest.approx(1 / (1 + np.exp(-3))))
    assert fuser.decide([gone, camera(.2)], None).verdict is FAILURE
    assert fuser.decide([gone, gone], None) is gone


def test_parts_are_weighed_together():
    fuser = Fuser(CONFIG, fuse)
    assert fuser.decide([camera(.9)], HandEvidence(-4.)).verdict is FAILURE
    assert fuser.decide([camera(.6)], HandEvidence(3.)).verdict is SUCCESS
    undecided = fuser.decide([camera(.5)], HandEvidence(.6))
    assert (undecided.verdict, undecided.reason) == (SUCCESS, Reason.DECIDED)   # hysteresis
    fuser.reset()
    undecided = fuser.decide([camera(.5)], HandEvidence(.6))
    assert (undecided.verdict, undecided.reason) == (UNKNOWN, Reason.UNDECIDED)


def test_a_camera_that_sees_a_grasp_of_an_empty_hand_is_a_contradiction():
    fuser = Fuser(CONFIG, fuse)
    assert fuser.decide([camera(.99)], HandEvidence(-3., empty=True)) == unknown(
        Reason.CONTRADICTION)
    assert fuser.decide([camera(.1)], HandEvidence(-3., empty=True)).verdict is FAILURE
    # A camera that only leans towards held is overruled, alone and beside one that sees nothing.
    assert fuser.decide([camera(.75)], HandEvidence(-3., empty=True)).verdict is FAILURE
    assert fuser.decide([camera(.8), camera(.2)], HandEvidence(-3., empty=True)).verdict is FAILURE


def test_what_a_lost_part_said_keeps_no_success_standing():
    fuser = Fuser(CONFIG, fuse)
    assert fuser.decide([camera(.95), camera(.7)], None).verdict is SUCCESS
    # .7 is above the threshold that a SUCCESS keeps by hysteresis, but reaches none anew.
    assert fuser.decide([unknown(Reason.STALE), camera(.7)], None).verdict is UNKNOWN


def state(phase=Phase.CLOSED, attempt=1, **more):
    return HandState(phase, attempt, HandEvidence(None, more.pop('empty', False)), **more)


def follow(*steps):
    """Return the last decision and all verdicts on attempts, of (seconds, decision, hand)."""
    watch, verdicts, now_ns, said = AttemptWatch(), [], NS_PER_S, None
    for seconds, decision, hand in steps:
        for _ in range(round(seconds * 20)):
            now_ns += NS_PER_S // 20
            said, over = watch.observe(now_ns, decision, hand)
            verdicts += [] if over is None else [json.loads(over.to_json())]
    return said, verdicts


NO, YES = camera(.05), camera(.95)


@pytest.mark.parametrize(('steps', 'reason'), [
    ([(1, NO, state(empty=True))], FailureReason.EMPTY),
    ([(1, NO, state(gripped=True))], FailureReason.NOT_LIFTED),
    ([(1, NO, state(gripped=True)), (1, NO, state(empty=True))], FailureReason.NOT_LIFTED),
    ([(1, NO, state(Phase.CLOSING, not_closed=True))], FailureReason.NOT_CLOSED),
    ([(1, YES, state(gripped=True)), (1, NO, state(empty=True))], FailureReason.SLIPPED),
    ([(1, NO, state())], None),
    ([(1, NO, state(Phase.OPEN, attempt=0, empty=True))], None),
], ids=['empty', 'not lifted', 'gripped before', 'not closed', 'slipped', 'no evidence',
        'no attempt'])
def test_why_an_attempt_failed(steps, reason):
    said, _ = follow(*steps)
    assert said.failure is reason
    assert follow((1, YES, steps[-1][2]))[0].failure is None


def test_an_attempt_has_one_verdict_of_the_moment_before_the_hand_opened():
    _, verdicts = follow(
        (1, NO, state(Phase.OPEN, 0)), (1, NO, state(Phase.CLOSING)), (2, YES, state()),
        # The hand opens, which the motion shows after a moment in which the verdict changes.
        (.2, NO, state()), (.5, NO, state(Phase.OPENING)), (1, NO, state(Phase.OPEN)),
        (1, NO, state(Phase.CLOSED, 2, empty=True)), (1, NO, state(Phase.CLOSING, 3)))
    assert [(v['attempt'], v['verdict'], v['reason']) for v in verdicts] == [
        (1, 'success', 'decided'), (2, 'failure', 'empty')]
    assert verdicts[0]['probability'] == .95
    assert verdicts[0]['seconds'] == pytest.approx(3.7, abs=.1)


def test_joint_states_that_are_lost_end_no_attempt():
    _, verdicts = follow((1, YES, state()), (3, YES, None), (1, YES, state()))
    assert verdicts == []
