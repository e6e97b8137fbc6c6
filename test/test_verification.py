"""Requests to ~/verify, answered from frames that came after them."""

from dataclasses import replace
import json
import re
from typing import NamedTuple

import pytest

from grasp_success_detector.decision import DecisionConfig, NS_PER_S, Reason
from grasp_success_detector.ros.node.verify_request import refusal, VerifyRequest

CONFIG = DecisionConfig(threshold=0.6, hysteresis=0., undecided=0., window_s=1., min_frames=2,
                        stale_after_s=0.5, max_bad_frames=3)
ASKED_NS = 1000 * NS_PER_S      # of the monotonic clock
STAMP_NS = 50 * NS_PER_S        # of the camera's


class Stamp(NamedTuple):
    ns: int
    received: bool


class Question:
    """A request at time 0, with a camera without delay."""

    def __init__(self, config=CONFIG, timeout_s=2.):
        self.answers = []
        self.asked = VerifyRequest(config, STAMP_NS, ASKED_NS, timeout_s, '/image',
                                  self.answers.append)

    def frame(self, seconds, probability, stamped=None):
        stamp_ns = STAMP_NS + int((seconds if stamped is None else stamped) * NS_PER_S)
        return self.asked.observe(Stamp(stamp_ns, False), probability, self.at(seconds),
                                  STAMP_NS + int(seconds * NS_PER_S))

    def received_frame(self, seconds, probability):
        return self.asked.observe(Stamp(self.at(seconds), True), probability, self.at(seconds), 0)

    def expired(self, seconds):
        assert self.asked.expire(self.at(seconds))
        answer, = self.answers
        return json.loads(answer.to_json())

    @staticmethod
    def at(seconds):
        return ASKED_NS + int(seconds * NS_PER_S)


def test_enough_later_frames_answer_once():
    question = Question()
    assert [question.frame(0.1, 0.9), question.frame(0.2, 0.7)] == [False, True]
    answer, = question.answers
    assert json.loads(answer.to_json()) == {
        'verdict': 'success', 'probability': pytest.approx(0.8), 'frames': 2, 'seconds': 0.2,
        'reason': 'decided', 'text': 'success: mean P(success) 0.80 of 2 frames'}


def test_frames_stamped_or_received_before_the_question_do_not_count():
    question = Question()
    for seconds, stamped in ((-0.2, 0.1), (-0.1, 0.2), (0., 0.3), (0.1, -0.1), (0.2, 0.)):
        assert not question.frame(seconds, 1., stamped)
    question.frame(0.3, 0.)
    assert question.frame(0.4, 0.)
    assert question.answers[0].decision.frames == 2
    assert json.loads(question.answers[0].to_json())['verdict'] == 'failure'


def test_with_the_time_of_reception_for_a_stamp_only_that_counts():
    question = Question()
    assert not question.received_frame(-0.1, 1.)
    assert not question.received_frame(0.1, 1.)
    assert question.received_frame(0.2, 1.)


@pytest.mark.parametrize(('frames', 'reason', 'text'), [
    ([], 'no_frames', 'no frame came on /image and was judged; is the camera running'),
    ([(0.1, 1., -3.)], 'no_frames', 'stamped 3.00 s before the request.*use_receive_time'),
    ([(0.1, 1., 60.), (0.2, 1., 60.1), (0.3, 1., 60.2)], 'no_frames',
     "stamped 59.90 s ahead of this node's clock, so that it may be older than the request"),
    ([(0.1, 1., None)], 'stale', 'no more frames came on /image'),
    ([(1.9, 1., None)], 'too_few_frames', 'fewer than min_frames = 2 frames within'),
    ([(1.8, .5, None), (1.9, .5, None)], 'undecided', '0.50 lies in the undecided band'),
])
def test_it_says_why_it_does_not_know(frames, reason, text):
    question = Question(replace(CONFIG, undecided=0.5))
    for frame in frames:
        assert not question.frame(*frame)
    assert not question.asked.expire(question.at(1.99))
    said = question.expired(2.)
    assert (said['verdict'], said['probability'], said['reason']) == ('unknown', None, reason)
    assert said['seconds'] == 2.
    assert re.search(text, said['text']), said['text']


def test_bad_and_blind_frames_are_named():
    question = Question()
    question.asked.observe_bad(question.at(-0.1), 'before', None)
    for tenth in range(1, 4):
        question.asked.observe_bad(question.at(tenth / 10), 'short_data', None)
    said = question.expired(2.)
    assert said['reason'] == 'bad_frames'
    assert 'could not be judged (short_data)' in said['text']
    question = Question()
    question.frame(1.7, 1.)
    question.asked.observe_bad(question.at(1.8), 'too_dark', Reason.TOO_DARK)
    assert question.expired(2.)['reason'] == 'too_dark'


def test_after_a_jump_of_the_clock_stamps_count_from_the_new_time():
    question = Question()
    question.frame(0.1, 1.)
    question.asked.reset(STAMP_NS - 40 * NS_PER_S, question.at(0.1))
    assert not question.frame(0.2, 0., -39.9)
    assert question.frame(0.3, 0., -39.8)
    assert question.answers[0].decision.frames == 2


@pytest.mark.parametrize(('reason', 'text'), [
    (Reason.INACTIVE, 'not active; configure and activate'),
    (Reason.DISABLED, 'call ~/enable with true'),
    (Reason.NO_CLOCK, 'use_sim_time is true, but nothing publishes /clock')])
def test_a_detector_that_takes_no_frames_refuses(reason, text):
    said = json.loads(refusal(reason).to_json())
    assert (said['verdict'], said['reason'], said['frames']) == ('unknown', reason.value, 0)
    assert text in said['text']
