"""How recordings are cut into attempts, on made-up signals and on the simulated sample bag."""

import numpy as np
import pytest
from recordings import cdr_type, header, jpeg_messages, message, PERIOD_NS, START_NS, write_folder

from grasp_success_detector.hand.attempts import command_times, first_component, opening_times
from grasp_success_detector.labelling.cutting import (
    cut_by_changes,
    cut_by_events,
    cut_by_labels,
    cut_by_pauses,
    cut_by_times,
    Cuts,
)
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.labelling.picture_changes import cut_by_pictures
from grasp_success_detector.recordings.ground_truth import AttemptEvent
from grasp_success_detector.recordings.hand_messages import attempts_by_motion
from grasp_success_detector.recordings.sources import find_sources

SAMPLE = 'samples/rig_attempts'
STRING, JOINTS = 'std_msgs/msg/String', 'sensor_msgs/msg/JointState'


def test_events_cut_and_what_lies_between_them_belongs_to_no_attempt():
    events = [AttemptEvent(20, True, '7'), AttemptEvent(40, False, '7'),
              AttemptEvent(60, True, '8')]
    cuts = cut_by_events([0, 10, 20, 30, 40, 50, 60, 70], events)
    assert cuts.starts == (0, 2, 5, 6)
    assert cuts.outside == {0, 5}
    assert cut_by_events([0, 10], []) is None


def test_labels_cut_where_success_ends():
    bools = list(enumerate([False, False, True, True, False, True, False]))
    assert cut_by_labels(range(7), bools).starts == (0, 4, 6)
    assert cut_by_labels(range(7), bools[:4]) is None


def test_pauses_are_long_in_comparison_with_the_usual_step():
    steps = [.1] * 9 + [3.] + [.1] * 9 + [.5] + [.1] * 9
    times = np.cumsum([0., *steps]) * 1e9
    assert cut_by_pauses(times).starts == (0, 10)
    slow = np.arange(20) * 1e9      # a frame a second: no pause
    assert cut_by_pauses(slow) is None
    assert cut_by_pauses([0]) is None


def test_a_hand_that_opens_again_begins_an_attempt_and_noise_does_not():
    times = np.arange(400)
    shape = np.clip(np.sin(times / 400 * 6 * np.pi - np.pi / 2) + .5, 0, 1)   # closes three times
    noise = np.random.default_rng(0).normal(0, .01, (400, 16))
    fingers = shape[:, None] * np.linspace(.2, 1.2, 16) + noise
    begins = opening_times(times.tolist(), first_component(fingers))
    assert len(begins) == 3
    assert all(shape[time] < .35 for time in begins)
    assert opening_times(times.tolist(), first_component(noise)) == []
    assert opening_times([], first_component(np.zeros((0, 16)))) == []


@pytest.mark.parametrize(('commands', 'begins'), [
    (['home', 'grasp_3', 'home', 'grasp_4', 'off', 'home'], [2, 4]),
    (['grasp_3', 'grasp_3', 'pinch_it'], [0, 1, 2]),
    ([], []),
], ids=['opens after each grasp', 'never opens', 'none'])
def test_commands_of_the_driver(commands, begins):
    assert command_times(list(enumerate(commands))) == begins


def test_a_new_scene_and_a_still_time_cut():
    times = np.arange(100) / 10
    differences = np.full(100, 2.)
    differences[[0, 30]] = 0., 40.      # a new scene
    differences[60:80] = .1             # two seconds in which nothing moves
    cuts = cut_by_changes(times, differences)
    assert cuts.starts[:2] == (0, 30)
    assert len(cuts.starts) == 3
    assert 60 <= cuts.starts[2] <= 80
    assert cut_by_changes(times, np.full(100, 2.)) is None


def opened(path, tmp_path):
    source, = find_sources([path])
    return open_recording(source, None, tmp_path)


def test_the_sample_bag_is_cut_by_its_messages(tmp_path):
    material = opened(SAMPLE, tmp_path)
    assert material.cuts.starts == tuple(range(0, 480, 60))
    assert 'messages' in material.cuts.how


def test_the_sample_bag_is_cut_alike_by_pauses_and_by_pictures(tmp_path):
    material = opened(SAMPLE, tmp_path)
    truth = set(material.cuts.starts)
    assert set(cut_by_pauses(material.elapsed_ns).starts) == truth
    by_pictures = set(cut_by_pictures(material, lambda: False).starts)
    assert truth <= by_pictures
    assert len(by_pictures) <= len(truth) + 2   # a hand that waits looks like a still time


def test_the_joints_of_the_sample_bag_find_most_attempts(tmp_path):
    material = opened(SAMPLE, tmp_path)
    received_ns = [frame.stamp_ns for frame in material.frames]
    times, how = attempts_by_motion(material.files)
    cuts = cut_by_times(received_ns, times, how)
    assert 'joints' in how
    assert len(set(cuts.starts) & set(material.cuts.starts)) >= 6


def joint_state(stamp_ns, closed):
    return message('/joints', JOINTS, stamp_ns, cdr_type(
        JOINTS, header=header(stamp_ns), name=[f'joint_{i}' for i in range(16)],
        position=np.full(16, closed, float), velocity=np.zeros(0), effort=np.zeros(0)))


def command(stamp_ns, text):
    return message('/allegroHand_0/lib_cmd', STRING, stamp_ns, cdr_type(STRING, data=text))


def merged(*lists):
    return sorted((m for some in lists for m in some), key=lambda m: m.stamp_ns)


def test_commands_come_before_joints_and_joints_before_pauses(tmp_path):
    frames = jpeg_messages(30)
    at = [START_NS + i * PERIOD_NS for i in range(30)]
    joints = [joint_state(time, float(i // 5 % 2)) for i, time in enumerate(at)]
    commands = [command(at[i], text) for i, text in (
        (0, 'home'), (4, 'grasp_3'), (12, 'home'), (16, 'grasp_3'))]
    by_joints = opened(write_folder(tmp_path / 'joints', merged(frames, joints)), tmp_path)
    assert by_joints.cuts.starts == (0, 10, 20)
    assert 'joints' in by_joints.cuts.how
    both = opened(write_folder(tmp_path / 'both', merged(frames, joints, commands)), tmp_path)
    assert both.cuts == Cuts((0, 12), how="the driver's commands")


def test_a_recording_in_which_nothing_separates_attempts_waits_for_its_pictures(tmp_path):
    material = opened(write_folder(tmp_path / 'plain', jpeg_messages(12)), tmp_path)
    assert material.cuts is None
    seen = []
    cut_by_pictures(material, lambda: seen.append(1))
    assert len(seen) == 12
