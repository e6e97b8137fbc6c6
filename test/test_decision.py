"""Probabilities over time: windows, thresholds, staleness, resets."""

from dataclasses import replace
from math import nan

from hypothesis import given, strategies as st
import pytest

from grasp_success_detector.decision import (
    BLIND,
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
    threshold=0.6, hysteresis=0., undecided=0., window_s=1., min_frames=2, stale_after_s=0.5,
    max_bad_frames=3)
SINGLE = replace(CONFIG, window_s=0., min_frames=1)    # each frame for itself
START_S = 1000.     # receive clock; far from the stamps on purpose


def decider_with(*frames, config=CONFIG):
    """Feed (stamp_s, probability); each is received at its stamp, on another clock."""
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


def verdicts(config, *probabilities):
    """Return the verdict after each of some frames, a tenth of a second apart."""
    decider, said = WindowedDecider(config), []
    for tenth, probability in enumerate(probabilities):
        decider.observe(tenth * NS_PER_S // 10, probability, at(tenth / 10))
        said.append(decider.decide(at(tenth / 10)).verdict.value[0])
    return ''.join(said)


def test_hysteresis_holds_a_success_that_was_earned_and_no_other():
    config = replace(SINGLE, hysteresis=0.5)    # enter at 0.6, leave below 0.3
    assert verdicts(config, .4, .59, .6, .4, .3, .29, .4, .59, .7) == 'ffsssfffs'


def test_the_undecided_band_is_unknown():
    config = replace(SINGLE, undecided=0.5)     # FAILURE below 0.3
    assert verdicts(config, .29, .3, .59, .6, .59, .1) == 'fuusuf'
    both = replace(config, hysteresis=0.25)     # a SUCCESS lasts down to 0.45
    assert verdicts(both, .5, .6, .5, .44, .5, .2) == 'ussuuf'


def test_undecided_is_said_with_its_probability_and_published_as_false_and_0():
    decider = WindowedDecider(replace(SINGLE, undecided=0.5))
    decider.observe(0, 0.4, at(0))
    decision = decider.decide(at(0))
    assert (decision.reason, decision.probability) == (Reason.UNDECIDED, 0.4)
    assert (decision.holds_object, decision.confidence, decision.seconds) == (False, 0., None)


@pytest.mark.parametrize('loss', ['stale', 'reset', 'back', 'bad', *BLIND])
def test_an_interruption_ends_a_success_kept_by_hysteresis(loss):
    decider = WindowedDecider(replace(SINGLE, hysteresis=0.5))
    decider.observe(0, 0.7, at(0))
    stamp_ns, now_ns = NS_PER_S // 10, at(0.1)
    if loss == 'stale':
        now_ns = at(1.)
    elif loss == 'reset':
        decider.reset()
    elif loss == 'back':
        stamp_ns = -1
    elif loss == 'bad':
        for _ in range(CONFIG.max_bad_frames):
            decider.observe_bad()
    else:
        decider.observe_blind(loss, at(0.05))
    decider.observe(stamp_ns, 0.5, now_ns)      # would have been held
    assert decider.decide(now_ns).verdict is Verdict.FAILURE


@pytest.mark.parametrize('reason', BLIND)
def test_a_blind_camera_is_unknown_at_once_until_it_sees_again(reason):
    decider = decider_with((0., 1.), (0.1, 1.))
    decider.observe_blind(reason, at(0.2))
    assert decider.decide(at(0.2)) == unknown(reason)
    assert decider.decide(at(0.7) + 1) == unknown(Reason.STALE)     # no longer blind, but gone
    decider = decider_with((0., 1.), (0.1, 1.))
    decider.observe_blind(reason, at(0.2))
    decider.observe(int(0.3 * NS_PER_S), 1., at(0.3))
    assert decider.decide(at(0.3)).holds_object


def test_a_driver_that_repeats_its_last_frame_for_ever_is_stale():
    decider = decider_with((0., 1.), (0.1, 1.))
    for tenth in range(2, 10):
        decider.observe(NS_PER_S // 10, 1., at(tenth / 10))
    assert decider.decide(at(0.9)) == unknown(Reason.STALE)


def test_time_to_decision_counts_from_the_first_frame_after_unknown():
    config = replace(CONFIG, min_frames=3, undecided=0.5)
    decider = decider_with((0., 1.), (0.1, 1.), config=config)
    assert decider.decide(at(0.1)).seconds is None
    for tenth in (2, 3):    # it does not grow while the verdict lasts
        decider.observe(tenth * NS_PER_S // 10, 1., at(tenth / 10))
        assert decider.decide(at(tenth / 10)).seconds == pytest.approx(0.2)
    decider.reset()
    for tenth, probability in ((5, 0.4), (6, 0.4), (7, 0.4), (8, 0.4), (9, 1.), (10, 1.)):
        decider.observe(tenth * NS_PER_S // 10, probability, at(tenth / 10))
    decision = decider.decide(at(1.))
    assert (decision.verdict, decision.seconds) == (Verdict.SUCCESS, pytest.approx(0.5))
    decider.observe(NS_PER_S * 30, 1., at(1.1))      # too few again
    for tenth in (301, 302):
        decider.observe(tenth * NS_PER_S // 10, 1., at(1.2))
    assert decider.decide(at(1.2)).seconds == pytest.approx(0.2)


def test_new_thresholds_act_on_the_frames_that_are_there():
    decider = decider_with((0., 0.7), (0.1, 0.7), config=replace(CONFIG, hysteresis=0.5))
    assert decider.decide(at(0.1)).holds_object
    decider.configure(replace(CONFIG, threshold=0.8))
    assert decider.decide(at(0.1)).verdict is Verdict.FAILURE
    decider.configure(CONFIG)
    assert decider.decide(at(0.1)).holds_object
    decider.configure(replace(CONFIG, min_frames=3))
    assert decider.decide(at(0.1)) == unknown(Reason.TOO_FEW_FRAMES)
    decider.configure(replace(CONFIG, window_s=0.05, min_frames=1))
    assert decider.decide(at(0.1)).frames == 1


@pytest.mark.parametrize('probability', [nan, -0.01, 1.01])
def test_a_value_that_is_not_a_probability_is_refused(probability):
    decider = decider_with((0., 1.), (0.1, 1.))
    with pytest.raises(ValueError, match=r'expected a number in \[0, 1\]'):
        decider.observe(NS_PER_S // 5, probability, at(0.2))
    assert decider.decide(at(0.2)).frames == 2


@pytest.mark.parametrize(('field', 'value'), [
    ('threshold', 0.), ('threshold', 1.01), ('threshold', nan), ('window_s', -0.1),
    ('window_s', nan), ('hysteresis', -0.1), ('hysteresis', 1.), ('undecided', nan),
    ('undecided', 1.), ('min_frames', 0), ('stale_after_s', 0.), ('stale_after_s', nan),
    ('max_bad_frames', 0)])
def test_config_names_what_is_out_of_range(field, value):
    with pytest.raises(ConfigError, match=f'{field} {value} '):
        DecisionConfig(**{field: value})


def test_config_names_every_culprit_at_once():
    with pytest.raises(ConfigError, match=r'window_s -1.0 .*, min_frames 0 '):
        DecisionConfig(window_s=-1., min_frames=0)


@given(
    st.lists(st.tuples(st.integers(0, 3 * NS_PER_S), st.floats(0., 1.), st.integers(0, NS_PER_S),
                       st.sampled_from(['frame', 'frame', 'frame', 'bad', *BLIND]))),
    st.sampled_from([0., 0.5]), st.sampled_from([0., 0.2]))
def test_success_always_rests_on_enough_fresh_frames_above_the_threshold(
        events, hysteresis, undecided):
    config = replace(CONFIG, hysteresis=hysteresis, undecided=undecided)
    decider = WindowedDecider(config)
    now_ns, judged, last, held = 0, [], None, False
    for stamp_ns, probability, pause_ns, kind in events:
        now_ns += pause_ns
        if kind == 'bad':
            decider.observe_bad()
        elif kind == 'frame':
            decider.observe(stamp_ns, probability, now_ns)
            judged.append((stamp_ns, probability, now_ns))
        else:
            decider.observe_blind(kind, now_ns)
        last = kind
        decision = decider.decide(now_ns)
        assert 0. <= decision.confidence <= 1.
        assert (decision.verdict is Verdict.UNKNOWN) == (decision.reason is not Reason.DECIDED)
        assert (decision.seconds is None) == (decision.verdict is Verdict.UNKNOWN)
        if decision.holds_object:
            assert last not in BLIND
            assert decision.frames >= config.min_frames
            assert decision.stamp_ns == judged[-1][0]
            assert now_ns - max(
                received for stamp, _, received in judged if stamp == decision.stamp_ns
            ) <= config.stale_after_s * NS_PER_S
            assert decision.probability >= (
                config.leave_threshold if held else config.threshold)
        if decision.verdict is Verdict.FAILURE:
            assert decision.probability < config.failure_threshold
        held = decision.holds_object
