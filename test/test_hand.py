"""Joint states of every driver: names, order, closure, and the phases of the hand's motion."""

import numpy as np
import pytest

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import closure_deficit, flexion, HandReference
from grasp_success_detector.hand.drivers import (
    detect_driver,
    DriverKind,
    find_names,
    in_order,
    Side,
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
    ([0.] * 15 + [float('nan')], 'no angles: joint_15_0 nan'),
    ([1e9] + [0.] * 15, r'no angles: joint_0_0 1e\+09'),
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
