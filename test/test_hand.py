"""Joint states of every driver: names, order, closure, and the phases of the hand's motion."""

from dataclasses import replace

import numpy as np
import pytest

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.calibration import LabelledPose, learn_joints, out_of_fold
from grasp_success_detector.hand.closure import closure_deficit, flexion, HandReference
from grasp_success_detector.hand.drivers import (
    detect_driver,
    DriverKind,
    find_names,
    in_order,
    Side,
)
from grasp_success_detector.hand.evidence import closed_on_nothing, grasp_features
from grasp_success_detector.hand.fusion import fit_fusion
from grasp_success_detector.hand.kinematics import finger_distances, Geometry
from grasp_success_detector.hand.logistic import (
    fit_logistic,
    LARGEST_LOG_ODDS,
    log_odds_of,
    probability_of,
)
from grasp_success_detector.hand.motion import MotionTracker, NS_PER_S, Phase

OPENED = np.array([0, .1, .1, .1] * 3 + [1.2, .25, 0., 0.])
CLOSED = np.array([0, 1.3, 1.1, .8] * 3 + [1.35, .4, .75, .9])

# Names as in the maker's sources, in the order index, middle, ring, thumb (, little).
NAMES = {
    (DriverKind.V4, Side.RIGHT): [f'ah_joint{f}{j}' for f in (1, 2, 3, 0) for j in range(4)],
    (DriverKind.PLEXUS, Side.RIGHT): [f'ahr_joint{f}{j}' for f in (1, 2, 3, 0) for j in range(4)],
    (DriverKind.PLEXUS, Side.LEFT): [f'ahl_joint{f}{j}' for f in (1, 2, 3, 0) for j in range(4)],
    (DriverKind.V5, Side.RIGHT): [f'joint_{i}_0' for i in range(16)],
    (DriverKind.V5_SENSE, Side.LEFT): [f'joint_{i}_0' for i in range(16)],
    (DriverKind.V6, Side.RIGHT): [f'joint{f}{j}' for f in (1, 2, 3, 0, 4) for j in range(4)],
}


@pytest.mark.parametrize(('driver', 'side'), NAMES)
def test_joints_of_every_driver_are_matched_by_name_in_one_order(driver, side):
    expected = NAMES[driver, side]
    # Alphabetically, as ros2_control's broadcaster may publish them, and beside an arm's joints.
    published = sorted([*expected, 'iiwa_joint_1', 'elbow'])
    names = find_names(published, driver, side)
    assert list(names) == expected
    values = [expected.index(name) / 10 if name in expected else 99. for name in published]
    assert in_order(published, values, names).tolist() == [i / 10 for i in range(len(expected))]


def test_the_driver_is_told_by_the_names():
    assert detect_driver(NAMES[DriverKind.V4, Side.RIGHT]) == (DriverKind.V4, Side.RIGHT)
    assert detect_driver(NAMES[DriverKind.PLEXUS, Side.LEFT]) == (DriverKind.V4, Side.LEFT)
    assert detect_driver(NAMES[DriverKind.V5, Side.RIGHT]) == (DriverKind.V5, Side.RIGHT)
    assert detect_driver(NAMES[DriverKind.V6, Side.RIGHT]) == (DriverKind.V6, Side.RIGHT)
    assert detect_driver([f'joint_{i}.0' for i in range(16)]) == (DriverKind.V5, Side.RIGHT)
    assert detect_driver([f'iiwa_joint_{i}' for i in range(7)]) is None


def test_missing_joints_are_named():
    published = NAMES[DriverKind.V4, Side.RIGHT][2:]
    with pytest.raises(HandStateError, match='lack ah_joint10, ah_joint11 of driver v4; they have '
                       'ah_joint12, ah_joint13, ah_joint20, ah_joint21 ...'):
        find_names(published, DriverKind.V4)
    with pytest.raises(HandStateError, match='they have no names'):
        find_names([], DriverKind.V6)


@pytest.mark.parametrize(('values', 'text'), [
    ([0.] * 15, '16 names and 15 values'),
    ([0.] * 15 + [float('nan')], 'out of range: joint_15_0 nan'),
    ([1e9] + [0.] * 15, r'out of range: joint_0_0 1e\+09'),
])
def test_damaged_joint_states_are_refused(values, text):
    names = NAMES[DriverKind.V5, Side.RIGHT]
    with pytest.raises(HandStateError, match=text):
        in_order(names, values, names)


def test_what_a_driver_does_not_measure_is_none():
    names = NAMES[DriverKind.V5, Side.RIGHT]
    assert in_order(names, [], names) is None


def test_flexion_leaves_out_spreading_and_the_turning_of_the_thumb():
    np.testing.assert_allclose(flexion(CLOSED), [3.2, 3.2, 3.2, 1.65])
    spread = CLOSED.copy()
    spread[[0, 4, 8, 12, 13]] += .2
    np.testing.assert_allclose(flexion(spread), flexion(CLOSED))
    assert flexion(np.zeros((7, 20))).shape == (7, 5)


def test_a_finger_that_an_object_stops_has_a_closure_deficit():
    measured = CLOSED.copy()
    measured[1:4] -= .2         # the index finger
    np.testing.assert_allclose(closure_deficit(measured, CLOSED), [.6, 0, 0, 0], atol=1e-12)


def reference(**changed):
    values = {'opened': tuple(OPENED), 'closed': tuple(CLOSED), 'spread': (.01,) * 16, 'closes': 3}
    return HandReference(**values | changed)


def test_share_of_closing_by_the_rigs_own_references():
    assert reference().closed_share(OPENED) == 0
    assert reference().closed_share(CLOSED) == pytest.approx(1)
    assert reference().closed_share((OPENED + CLOSED) / 2) == pytest.approx(.5)


@pytest.mark.parametrize(('changed', 'text'), [
    ({'opened': (0.,) * 12}, r'\[12, 16\] angles'),
    ({'closed': tuple(OPENED)}, 'not more bent'),
    ({'closed': (float('nan'),) * 16}, 'no angles'),
    ({'spread': (-1.,) * 16}, 'no angles'),
    ({'closes': 0}, 'no angles'),
])
def test_impossible_references_are_refused(changed, text):
    with pytest.raises(HandStateError, match=text):
        reference(**changed)


def phases(*legs, rate=50, noise=.004, tracker=None, start_s=0.):
    """Move through (seconds, closed share at the end) and return tracker and phases by second."""
    rng = np.random.default_rng(0)
    tracker = tracker or MotionTracker()
    share, t, seen = 0., start_s, []
    for seconds, end in legs:
        for step in range(round(seconds * rate)):
            now = share + (end - share) * (step + 1) / (seconds * rate)
            t += 1 / rate
            positions = OPENED + now * (CLOSED - OPENED) + rng.normal(0, noise, 16)
            seen.append((t, tracker.observe(round(t * NS_PER_S), positions)))
        share = end
    return tracker, seen


@pytest.mark.parametrize('rate', [10, 50, 300])
def test_phases_of_a_grasp(rate):
    tracker, seen = phases((1, 0), (1, .7), (1, .7), (.8, 0), (1, 0), rate=rate)
    order = [phase for i, (_, phase) in enumerate(seen) if i == 0 or phase is not seen[i - 1][1]]
    assert order == [Phase.OPEN, Phase.CLOSING, Phase.CLOSED, Phase.OPENING, Phase.OPEN]
    assert tracker.attempts == 1
    begin = next(t for t, phase in seen if phase is Phase.CLOSING)
    assert 1 <= begin <= 1.3


def test_a_hand_that_closes_further_after_a_stop_is_one_attempt():
    tracker, _ = phases((1, 0), (1, .5), (1, .5), (.5, .9), (1, .9))
    assert tracker.attempts == 1 and tracker.phase is Phase.CLOSED


def test_a_hand_that_loosens_its_grip_is_still_closed_and_does_not_begin_another_attempt():
    tracker, _ = phases((1, 0), (1, .9), (1, .9), (.5, .6), (1, .6), (.5, .9), (1, .9))
    assert tracker.attempts == 1 and tracker.phase is Phase.CLOSED


def test_only_a_hand_that_was_seen_to_open_is_known_to_be_open():
    tracker, _ = phases((1, 0))
    assert tracker.phase is Phase.OPEN and not tracker.has_opened
    tracker, _ = phases((1, 0), (1, .9), (1, .9), (.5, 0), (1, 0))
    assert tracker.has_opened
    phases((1, .9), (1, .9), (.5, 0), (1, 0), tracker=tracker, start_s=4.5)
    assert tracker.attempts == 2 and tracker.has_opened


def test_a_command_begins_and_ends_an_attempt_before_the_motion_shows():
    tracker, _ = phases((1, 0))
    tracker.told(closes=True)
    assert tracker.phase is Phase.CLOSING and tracker.attempts == 1
    phases((.2, 0), (1, .9), (1, .9), tracker=tracker, start_s=1.)
    assert tracker.phase is Phase.CLOSED and tracker.attempts == 1
    tracker.told(closes=False)
    assert tracker.phase is Phase.OPENING


def test_noise_alone_is_no_motion():
    tracker, seen = phases((5, 0), noise=.01)
    assert {phase for _, phase in seen} == {Phase.OPEN} and tracker.attempts == 0


def test_a_gap_in_time_begins_anew():
    tracker, _ = phases((1, 0), (1, 1), (1, 1))
    assert tracker.phase is Phase.CLOSED
    phases((1, 0), tracker=tracker, start_s=60.)
    assert tracker.phase is Phase.OPEN and tracker.attempts == 1


def test_a_joint_state_out_of_order_is_refused():
    tracker, _ = phases((1, 0))
    with pytest.raises(HandStateError, match='0.500 s out of order'):
        tracker.observe(NS_PER_S // 2, OPENED)


def separable(rng, attempts=200, scale=1.):
    """Make log-odds of a calibrated measurement, and labels drawn by them."""
    log_odds = rng.normal(0, 2 * scale, attempts)
    return log_odds, rng.random(attempts) < probability_of(log_odds)


def test_logistic_regression_finds_the_weights_that_made_the_data():
    log_odds, labels = separable(np.random.default_rng(1), 20_000)
    features = np.column_stack([3 + 10 * log_odds, np.random.default_rng(2).normal(size=20_000)])
    fitted = fit_logistic(features, labels)
    np.testing.assert_allclose(fitted.log_odds(features), log_odds, atol=.25)


def test_logistic_regression_of_separable_rows_stays_finite():
    features = np.arange(10.)[:, None]
    fitted = fit_logistic(features, features[:, 0] > 4.5)
    assert ((fitted.log_odds(features) > 0) == (features[:, 0] > 4.5)).all()
    assert np.abs(fitted.log_odds(features * 1e6)).max() <= LARGEST_LOG_ODDS


def test_one_label_alone_teaches_nothing():
    with pytest.raises(HandStateError, match='only one label'):
        fit_logistic(np.zeros((3, 1)), np.array([True] * 3))


def test_two_independent_parts_together_are_right_more_often():
    rng = np.random.default_rng(3)
    labels = rng.random(4000) < .5
    parts = np.where(labels, 1., -1.)[:, None] * 1.5 + rng.normal(0, 1.5, (4000, 2))
    camera = probability_of(2 * 1.5 / 1.5 ** 2 * parts[:, 0])   # calibrated by Bayes' rule
    joints = 2 * 1.5 / 1.5 ** 2 * parts[:, 1]
    fusion = fit_fusion(camera[:, None], joints, labels, np.arange(4000).astype(str))
    fused = np.array([fusion.probability([c], j) for c, j in
                      zip(camera.tolist(), joints.tolist(), strict=True)])
    right = ((fused > .5) == labels).mean()
    assert right > max(((camera > .5) == labels).mean(), ((joints > 0) == labels).mean()) + .04
    np.testing.assert_allclose(fusion.logistic.weights, np.array(fusion.logistic.scale), rtol=.15)


def test_a_missing_part_counts_for_nothing():
    log_odds, labels = separable(np.random.default_rng(4))
    fusion = fit_fusion(probability_of(log_odds)[:, None], log_odds, labels,
                        np.arange(200).astype(str))
    assert fusion.probability([.7], None) == .7
    assert fusion.probability([], 0.) == .5
    with pytest.raises(HandStateError, match='nothing to fuse'):
        fusion.probability([], None)


def test_parts_that_err_together_count_once():
    log_odds, labels = separable(np.random.default_rng(5), 5000)
    fusion = fit_fusion(probability_of(log_odds)[:, None], log_odds, labels,
                        np.arange(5000).astype(str))
    assert fusion.probability([.9], log_odds_of(.9)) == pytest.approx(.9, abs=.03)


def test_an_attempt_with_many_frames_counts_once():
    log_odds, labels = separable(np.random.default_rng(6), 400)
    attempts = np.arange(400).astype(str)
    once = fit_fusion(probability_of(log_odds)[:, None], log_odds, labels, attempts)
    # The last ten attempts had a thousand times as many frames.
    repeats = np.r_[np.ones(390, int), np.full(10, 1000)]
    often = fit_fusion(probability_of(log_odds).repeat(repeats)[:, None], log_odds.repeat(repeats),
                       labels.repeat(repeats), attempts.repeat(repeats))
    np.testing.assert_allclose(often.logistic.log_odds(np.ones((1, 2))),
                               once.logistic.log_odds(np.ones((1, 2))), atol=1e-6)


def test_a_hand_closed_on_nothing_is_told_from_one_that_holds():
    assert closed_on_nothing(CLOSED, reference())
    assert closed_on_nothing(CLOSED - .03, reference())
    holding = CLOSED.copy()
    holding[4:8] -= .1
    assert not closed_on_nothing(holding, reference())


def test_features_do_not_depend_on_which_fingers_hold():
    features = [grasp_features(CLOSED - np.repeat(lack, 4), CLOSED)['deficits']
                for lack in ([.1, 0, 0, .1], [0, .1, 0, .1])]
    np.testing.assert_allclose(features[0][4:8], features[1][4:8])


def test_distances_of_the_fingers_count_where_the_geometry_is_known():
    rng = np.random.default_rng(7)
    held = CLOSED - rng.uniform(0, .4, (200, 16))
    apart = finger_distances(held, Geometry.V4_RIGHT)[:, 0]     # of thumb and index finger
    poses = [LabelledPose(str(i), bool(success), angles, CLOSED, .3, geometry=Geometry.V4_RIGHT)
             for i, (angles, success) in enumerate(zip(held, apart > .025, strict=True))]
    unknown = [replace(pose, geometry=None) for pose in poses]
    known_right, right = (np.mean([(odds > 0) == pose.success for odds, pose in zip(
        out_of_fold(rows), rows, strict=True)]) for rows in (poses, unknown))
    assert known_right > max(right, .93) + .01
    model, five = learn_joints(poses), np.zeros(4)      # joints of a fifth finger
    assert set(model.regressions) == {'deficits', 'deficits distances'}
    assert set(learn_joints(unknown).regressions) == {'deficits'}
    doubtful = held[np.abs(apart - .025).argmin()]
    alone = model.log_odds(doubtful, CLOSED)
    assert model.log_odds(doubtful, CLOSED, None, Geometry.V4_RIGHT) != alone
    assert alone == model.log_odds(np.r_[doubtful, five], np.r_[CLOSED, five], None,
                                   Geometry.V4_RIGHT)
