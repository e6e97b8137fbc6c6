"""Attempts from the hand's driver: where its commands and joints cut a recording."""

import csv

import numpy as np
import pytest
from recordings import cdr_type, header, jpeg_messages, message, PERIOD_NS, START_NS, write_folder

from grasp_success_detector.cli import extract_frames, label_attempts
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.recordings.bags import TYPESTORE
from grasp_success_detector.recordings.ground_truth import AttemptsFrom
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.recordings.reader import StorageFile
from grasp_success_detector.recordings.sources import find_sources

JOINTS, ARRAY = 'sensor_msgs/msg/JointState', 'std_msgs/msg/Float32MultiArray'
STATES = '/allegroHand_0/joint_states'
NAMES = [f'joint_{i}_0' for i in range(16)]
AT = [START_NS + i * PERIOD_NS for i in range(30)]


def joint_state(stamp_ns, closed, names=NAMES):
    return message(STATES, JOINTS, stamp_ns, cdr_type(
        JOINTS, header=header(stamp_ns), name=list(names),
        position=np.full(len(names), closed, float), velocity=np.zeros(0), effort=np.zeros(0)))


@pytest.fixture
def bag(tmp_path):
    """Thirty frames in which the hand closes three times, and opens after five frames."""
    joints = [joint_state(time, float(i // 5 % 2)) for i, time in enumerate(AT)]
    return write_folder(tmp_path / 'bag', sorted(
        [*jpeg_messages(30), *joints], key=lambda m: m.stamp_ns))


def attempts(dataset):
    with open(dataset / 'manifest.csv', newline='', encoding='utf-8') as file:
        return [row['attempt'] for row in csv.DictReader(file)]


def test_extraction_takes_attempts_from_the_joints(bag, tmp_path, capsys):
    assert extract_frames.main([
        str(bag), '--label', 'failure', '--attempts-from', 'driver', '--out',
        str(tmp_path / 'set'), '--jobs', '1']) == 0
    assert sorted(attempts(tmp_path / 'set')) == sorted(
        ['bag/0'] * 10 + ['bag/1'] * 10 + ['bag/2'] * 10)


def test_extraction_without_a_driver_in_the_bag_is_one_line(tmp_path, capsys):
    path = write_folder(tmp_path / 'plain', jpeg_messages(5))
    assert extract_frames.main([
        str(path), '--label', 'failure', '--attempts-from', 'driver', '--out',
        str(tmp_path / 'set'), '--jobs', '1']) == 1
    assert capsys.readouterr().err == (
        f'error: {path}: no commands of a driver of the hand and no joint states in which it '
        'closes and opens; leave out --attempts-from driver\n')


def test_labelling_cuts_by_the_driver_alone(bag, tmp_path):
    source, = find_sources([bag])
    cuts = open_recording(source, None, tmp_path, AttemptsFrom.DRIVER).cuts
    assert cuts.starts == (0, 10, 20) and 'joints' in cuts.how


def test_labelling_without_a_driver_in_the_bag_is_one_line(tmp_path, capsys):
    path = write_folder(tmp_path / 'plain', jpeg_messages(5))
    assert label_attempts.main([str(path), '--attempts-from', 'driver', '--no-browser', '--out',
                                str(tmp_path / 'labels.csv')]) == 1
    assert 'no commands of a driver of the hand' in capsys.readouterr().err


def test_hand_messages_keep_what_comes_most_often_and_find_tactile_arrays(tmp_path):
    odd = joint_state(AT[0], 9., NAMES[:3])
    layout = TYPESTORE.types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
    tactile = message('/allegroHand_0/tactile_sensors', ARRAY, AT[1], cdr_type(
        ARRAY, layout=layout, data=np.arange(16, dtype=np.float32)))
    path = write_folder(tmp_path / 'bag', [
        odd, tactile, *(joint_state(time, .5) for time in AT[2:5])])
    source, = find_sources([path])
    found = read_hand_messages([StorageFile(file) for file in source.files])
    assert found.joints[STATES].names == tuple(NAMES)
    assert found.joints[STATES].times_ns.tolist() == AT[2:5]
    assert found.joints[STATES].values.tolist() == [[.5] * 16] * 3
    assert found.tactile['/allegroHand_0/tactile_sensors'].values.tolist() == [list(range(16))]
