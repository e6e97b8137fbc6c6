"""Tactile sensors in any unit: which are pressed, and what that and opening say."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from grasp_success_detector.hand.calibration import (
    LabelledPose,
    learn_joints,
    learn_tactile,
    out_of_fold,
)
from grasp_success_detector.hand.logistic import Logistic
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.hand.monitor import HandMonitor, judge_pose, Pose
from grasp_success_detector.hand.motion import Phase
from grasp_success_detector.hand.tactile import NS_PER_S, TouchFollower

OPENED = np.array([0, .1, .1, .1] * 3 + [1.2, .25, 0., 0.])
CLOSED = np.array([0, 1.3, 1.1, .8] * 3 + [1.35, .4, .75, .9])
HELD = CLOSED - np.array([0, .2, .15, .1] * 3 + [0, 0, .2, .15])


class Sensors:
    """Sixteen sensors at 50 Hz with zero errors and noise."""

    def __init__(self, unit=1.):
        self.follower, self.unit = TouchFollower(), unit
        self.rng, self.now_ns = np.random.default_rng(0), 0
        self.zero = self.rng.uniform(0, 20, 16)

    def press(self, seconds, more=(), is_open=False):
        forces = np.zeros(16)
        forces[:len(more)] = more
        for _ in range(round(seconds * 50)):
            self.now_ns += NS_PER_S // 50
            values = self.zero + forces + self.rng.normal(0, .1, 16)
            self.follower.observe(self.now_ns, self.unit * values, is_open)
        return self.share()

    def share(self, later_s=0.):
        found = self.follower.features(self.now_ns + round(later_s * NS_PER_S), .5)
        return None if found is None else found[0] * 16


@pytest.mark.parametrize('unit', [1e-3, 1., 500.])
def test_pressed_sensors_are_told_in_any_unit(unit):
    sensors = Sensors(unit)
    assert sensors.press(1, is_open=True) == 0
    assert sensors.press(1, [5, 0, 8, 3]) == 3
    assert sensors.press(1) == 0


def test_what_is_touched_by_the_open_hand_alone_is_no_grasp():
    sensors = Sensors()
    sensors.press(1, [30], is_open=True)
    assert sensors.press(1) == 0


def test_crosstalk_of_a_hard_pressed_sensor_does_not_count():
    sensors = Sensors()
    sensors.press(1, is_open=True)
    assert sensors.press(1, [100, 2, 2]) == 1


def test_rest_is_unknown_until_the_hand_was_open_and_silence_is_stale():
    sensors = Sensors()
    assert sensors.press(1, [5, 5]) is None
    sensors.press(1, is_open=True)
    assert sensors.press(1, [5, 5]) == 2
    assert sensors.share(later_s=.6) is None


def test_zero_errors_may_drift_from_attempt_to_attempt():
    sensors = Sensors()
    for _ in range(3):
        assert sensors.press(1, is_open=True) == 0
        assert sensors.press(1, [5, 5]) == 2
        sensors.zero = sensors.zero + 10


def test_damaged_readings_and_another_array_change_nothing():
    sensors = Sensors()
    sensors.press(1, is_open=True)
    sensors.press(1, [5, 5])
    sensors.follower.observe(sensors.now_ns + 1, np.full(16, np.nan), False)
    sensors.follower.observe(sensors.now_ns + 2, np.zeros(0), False)
    assert sensors.share() == 2
    sensors.follower.observe(sensors.now_ns + 3, np.ones(20), False)
    assert sensors.share() is None


def pose(touch):
    return Pose(Phase.CLOSED, 1, CLOSED + .3 * (HELD - CLOSED), CLOSED, None, .5, False, True,
                touch)


def test_touch_adds_to_the_joints_only_where_both_are_there():
    model = replace(read_hand(), tactile=Logistic((1., 2., 0.), 0., (0.,) * 3, (1.,) * 3))
    alone = judge_pose(pose(None), model)
    felt = judge_pose(pose(np.array([.5, .5 ** .5])), model)
    assert alone.pressed is None and felt.pressed == .5
    assert -5 < alone.evidence.log_odds < 5
    assert felt.evidence.log_odds == pytest.approx(alone.evidence.log_odds + 1.)
    untaught = judge_pose(pose(np.array([.5, .5 ** .5])), replace(model, tactile=None))
    assert untaught.evidence == alone.evidence


def test_stale_sensors_leave_the_joints_alone():
    model = replace(read_hand(), tactile=Logistic((1., 2., 0.), 0., (0.,) * 3, (1.,) * 3))
    monitor, now_ns = HandMonitor(model), 0
    monitor.command(CLOSED)
    for step in range(150):
        now_ns += NS_PER_S // 50
        share = min(max(step - 50, 0) / 30, 1)
        monitor.observe(now_ns, OPENED + share * (HELD - OPENED))
        if step < 110:
            monitor.touched(now_ns, np.full(16, 50. * (share == 1)))
        if step == 110:
            assert monitor.state(now_ns).pressed == 1
    assert monitor.state(now_ns).phase is Phase.CLOSED
    assert monitor.state(now_ns).pressed is None


def test_what_touch_and_opening_say_is_learned_on_poses_that_have_it():
    rng, poses = np.random.default_rng(0), []
    for number in range(40):
        success = number % 2 == 0
        share = .4 if success else .1
        poses.append(LabelledPose(
            str(number), success, HELD + rng.normal(0, .1, 16), CLOSED, .5, cameras=(.5,),
            touch=np.array([share, share ** .5])))
    learned = learn_tactile(poses)
    touches = np.array([[0., *pose.touch] for pose in poses[:2]])
    assert learned.log_odds(touches)[0] > 1 and learned.log_odds(touches)[1] < -1
    assert learn_tactile([replace(pose, touch=None) for pose in poses]) is None

    opening = [replace(pose, success=i < 2, opening=True) for i, pose in enumerate(poses[:10])]
    joints = learn_joints(poses + opening)
    assert joints.regressions == learn_joints(poses).regressions
    assert joints.opening == pytest.approx(log(3 / 9)) and learn_joints(poses).opening == 0
    assert out_of_fold(poses + opening)[-10:] == pytest.approx(joints.opening)
    assert learn_tactile(poses + opening) == learned
    model = replace(read_hand(''), joints=joints)
    pose = Pose(Phase.OPENING, 1, HELD, CLOSED, None, .5, False, False)
    assert judge_pose(pose, model).evidence.log_odds == joints.opening
