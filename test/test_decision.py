"""Probabilities over time: windows, thresholds, staleness, resets."""

from math import nan

from hypothesis import given, strategies as st
import pytest

from grasp_success_detector.decision import (
    Decision,
    DecisionConfig,
    NS_PER_S,
    Reason,
    unknown,
    WindowedDecider,
)
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import Verdict

CONFIG = DecisionConfig(
    threshold=0.6, window_s=1., min_frames=2, stale_after_s=0.5, max_bad_frames=3)
START_S = 1000.     # receive clock; far from the stamps on purpose


def decider_with(*frames, config=CONFIG):
    """Feed (stamp_s, probability); each is received when its stamp says, on another clock."""
    decider = WindowedDecider(config)
    for stamp_s, probability in frames:
        decider.observe(int(stamp_s * NS_PER_S), probability, at(stamp_s))
    return decider


def at(seconds):
    return int((START_S + seconds) * NS_PER_S)


def test_verdict_is_the_windows_mean_against_the_threshold():
    success = decider_with((0., 0.5), (0.1, 0.9)).decide(at(0.1))
    assert success.verdict is Verdict.SUCCESS
    assert success.reason is Reason.DECIDED
    assert success.probability == pytest.approx(0.7)
    assert (success.frames, success.stamp_ns) == (2, NS_PER_S // 10)
    failure = decider_with((0., 0.5), (0.1, 0.6)).decide(at(0.1))
    assert (failure.verdict, failure.holds_object) == (Verdict.FAILURE, False)
    assert failure.confidence == pytest.approx(0.55)


def test_the_threshold_itself_counts_as_success():
    assert decider_with((0., 0.6), (0.1, 0.6)).decide(at(0.1)).holds_object


def test_no_frames_and_too_few_are_unknown():
    assert decider_with().decide(at(0.)) == unknown(Reason.NO_FRAMES)
    assert decider_with((0., 1.)).decide(at(0.)) == unknown(Reason.TOO_FEW_FRAMES)


def test_unknown_is_published_as_false_with_confidence_0():
    for decision in (unknown(Reason.STALE), Decision(Verdict.UNKNOWN, Reason.DECIDED, 0.9)):
        assert (decision.holds_object, decision.confidence) == (False, 0.)


def test_frames_older_than_the_window_are_forgotten():
    frames = [(tenth / 10, 0.) for tenth in range(8)] + [
        (1.1 + tenth / 10, 1.) for tenth in range(8)]
    decision = decider_with(*frames).decide(at(1.8))
    assert decision.probability == 1.
    assert decision.frames == 8


def test_a_frame_as_old_as_the_window_still_counts():
    decider = decider_with((0., 1.), (0.4, 1.), (0.7, 1.), (1., 1.))
    assert decider.decide(at(1.)).frames == 4


def test_stale_camera_is_unknown_from_the_moment_after_the_limit():
    decider = decider_with((0., 1.), (0.1, 1.))
    assert decider.decide(at(0.6)).holds_object
    assert decider.decide(at(0.6) + 1) == unknown(Reason.STALE)


def test_frames_from_before_a_gap_do_not_count_after_it():
    decider = decider_with((0., 1.), (0.1, 1.))
    decider.observe(int(0.15 * NS_PER_S), 1., at(2.))    # stamps say no gap, the clock does
    assert decider.decide(at(2.)) == unknown(Reason.TOO_FEW_FRAMES)


def test_a_stamp_that_jumps_back_resets_the_window():
    decider = decider_with((10., 1.), (10.1, 1.))
    decider.observe(5 * NS_PER_S, 0., at(10.2))
    assert decider.decide(at(10.2)) == unknown(Reason.TOO_FEW_FRAMES)
    decider.observe(int(5.1 * NS_PER_S), 0., at(10.3))
    assert decider.decide(at(10.3)).verdict is Verdict.FAILURE


def test_the_same_stamp_again_does_not_count_twice():
    decider = decider_with((0., 1.), (0., 1.), (0., 0.3))
    assert decider.decide(at(0.)) == unknown(Reason.TOO_FEW_FRAMES)
    decider.observe(NS_PER_S // 10, 0.5, at(0.1))
    assert decider.decide(at(0.1)).probability == pytest.approx(0.4)


def test_bad_frames_in_a_row_are_unknown_until_a_good_one():
    decider = decider_with((0., 1.), (0.1, 1.))
    for _ in range(CONFIG.max_bad_frames - 1):
        decider.observe_bad()
        assert decider.decide(at(0.1)).holds_object
    decider.observe_bad()
    assert decider.decide(at(0.1)) == unknown(Reason.BAD_FRAMES)
    decider.observe(NS_PER_S // 5, 1., at(0.2))
    assert decider.decide(at(0.2)).holds_object


def test_reset_forgets_everything():
    decider = decider_with((0., 1.), (0.1, 1.))
    for _ in range(CONFIG.max_bad_frames):
        decider.observe_bad()
    decider.reset()
    assert decider.decide(at(0.1)) == unknown(Reason.NO_FRAMES)


@pytest.mark.parametrize('probability', [nan, -0.01, 1.01])
def test_what_is_no_probability_is_refused(probability):
    decider = decider_with((0., 1.), (0.1, 1.))
    with pytest.raises(ValueError, match=r'expected a number in \[0, 1\]'):
        decider.observe(NS_PER_S // 5, probability, at(0.2))
    assert decider.decide(at(0.2)).frames == 2


@pytest.mark.parametrize(('field', 'value'), [
    ('threshold', 0.), ('threshold', 1.01), ('threshold', nan), ('window_s', -0.1),
    ('window_s', nan), ('min_frames', 0), ('stale_after_s', 0.), ('stale_after_s', nan),
    ('max_bad_frames', 0)])
def test_config_names_what_is_out_of_range(field, value):
    with pytest.raises(ConfigError, match=f'{field} = {value} '):
        DecisionConfig(**{field: value})


def test_config_names_every_culprit_at_once():
    with pytest.raises(ConfigError, match=r'window_s = -1.0 .*, min_frames = 0 '):
        DecisionConfig(window_s=-1., min_frames=0)


@given(st.lists(st.tuples(
    st.integers(0, 3 * NS_PER_S), st.floats(0., 1.), st.integers(0, NS_PER_S), st.booleans())))
def test_success_always_rests_on_enough_fresh_frames_above_the_threshold(events):
    decider = WindowedDecider(CONFIG)
    now_ns, judged = 0, []
    for stamp_ns, probability, pause_ns, bad in events:
        now_ns += pause_ns
        if bad:
            decider.observe_bad()
        else:
            decider.observe(stamp_ns, probability, now_ns)
            judged.append((stamp_ns, probability, now_ns))
        decision = decider.decide(now_ns)
        assert 0. <= decision.confidence <= 1.
        assert (decision.verdict is Verdict.UNKNOWN) == (decision.reason is not Reason.DECIDED)
        if decision.holds_object:
            newest_stamp, _, received_ns = judged[-1]
            assert decision.frames >= CONFIG.min_frames
            assert decision.stamp_ns == newest_stamp
            assert now_ns - received_ns <= CONFIG.stale_after_s * NS_PER_S
            assert decision.probability >= CONFIG.threshold
