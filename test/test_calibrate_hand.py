"""calibrate_hand: the references of a rig from a bag of closes on nothing, and what is refused."""

import json
import re
import shutil

import numpy as np
import pytest
from recordings import cdr_type, header, message, START_NS, write_folder

from grasp_success_detector.cli.calibrate_hand import main
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.evaluation.hand_replay import hand_stream, poses_at
from grasp_success_detector.files import FUSED_SAMPLE_BAG, share_path
from grasp_success_detector.hand.drivers import DriverKind, Side
from grasp_success_detector.hand.kinematics import Geometry
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.recordings.reader import StorageFile
from grasp_success_detector.recordings.sources import find_sources

JOINTS = 'sensor_msgs/msg/JointState'
NAMES = [f'ah_joint{f}{j}' for f in (1, 2, 3, 0) for j in range(4)]
OPENED = np.array([0, .1, .1, .1] * 3 + [1.2, .25, 0., 0.])
CLOSED = np.array([0, 1.3, 1.1, .8] * 3 + [1.35, .4, .75, .9])


def closes(path, count, names=NAMES, ends=(1.,), told=None):
    """
    Write a bag of the driver V4, in which the hand closes, by shares in turn, at 50 Hz.

    ``told``: maps a share to that which a joint command tells; None: no commands.
    """
    noise, made, share, at = np.random.default_rng(0), [], 0., START_NS
    for end, seconds in [(0., 1.)] + [step for number in range(count) for step in (
            (ends[number % len(ends)], .6), (ends[number % len(ends)], 1.), (0., .6), (0., 1.))]:
        steps = round(seconds * 50)
        for step in range(steps):
            now = share + (end - share) * (step + 1) / steps
            at += 20_000_000
            position = OPENED + now * (CLOSED - OPENED) + noise.normal(0, .004, 16)
            made.append(message('/joint_states', JOINTS, at, cdr_type(
                JOINTS, header=header(at), name=list(names)[::-1], position=position[::-1].copy(),
                velocity=np.zeros(0), effort=np.zeros(0))))
            if told is not None and not step:
                made.append(message('/joint_cmd', JOINTS, at, cdr_type(
                    JOINTS, header=header(at), name=list(names),
                    position=OPENED + told(end) * (CLOSED - OPENED), velocity=np.zeros(0),
                    effort=np.zeros(0))))
        share = end
    return write_folder(path, made)


def test_references_of_a_rig_from_closes_on_nothing(tmp_path, capsys):
    bag, out = closes(tmp_path / 'empty', 4), tmp_path / 'hand.json'
    assert main([str(bag), '--out', str(out)]) == 0
    model = read_hand(str(out))
    assert model.reference.closes == 4
    np.testing.assert_allclose(model.reference.closed, CLOSED, atol=.01)
    np.testing.assert_allclose(model.reference.opened, OPENED, atol=.01)
    assert model.joints == read_hand().joints
    said = capsys.readouterr().out
    assert '4 closes on nothing; the fingers bend by 2.90, 2.90, 2.90, 1.65 rad' in said
    assert 'they differ' not in said


def test_damage_is_told(tmp_path, capsys):
    bag = closes(tmp_path / 'empty', 6)
    file, = bag.glob('*.mcap')
    with file.open('r+b') as cut:
        cut.truncate(file.stat().st_size * 6 // 10)
    assert main([str(bag), '--out', str(tmp_path / 'hand.json')]) == 0
    assert re.match(r'empty\n  damage: 1 cut off.*\n[34] closes on nothing',
                    capsys.readouterr().out)


@pytest.mark.parametrize(('told', 'text'), [
    (None, 'in some of them something was in the hand, or it was told to close otherwise; record '
     'closes on nothing alone, by one command'),
    (np.ceil, 'in some of them something was in the hand, as it was told to close alike; record '
     'closes on nothing alone'),
    (lambda share: share, 'so do the angles that it was told to reach (by up to 0.28 rad); record '
     'closes on nothing by one command'),
])
def test_closes_that_differ_are_told(tmp_path, capsys, told, text):
    bag = closes(tmp_path / 'held', 4, ends=(1., .6), told=told)    # every other time by less
    assert main([str(bag), '--out', str(tmp_path / 'hand.json')]) == 0
    assert ('they differ by up to 0.28 rad (standard deviation of a joint): ' + text + '\n'
            ) in capsys.readouterr().out


@pytest.mark.parametrize(('count', 'names', 'text'), [
    (2, NAMES, '2 closes on nothing found; expected 3 or more'),
    (3, [f'iiwa_{i}' for i in range(16)], '/joint_states: no driver of the hand has joints named '
     'iiwa_15, iiwa_14, iiwa_13 ...; expected joint states of an Allegro hand'),
])
def test_what_tells_no_reference_is_one_line(tmp_path, capsys, count, names, text):
    bag = closes(tmp_path / 'empty', count, names)
    assert main([str(bag), '--out', str(tmp_path / 'hand.json')]) == 1
    error = capsys.readouterr().err
    assert text in error and error.count('\n') == 1
    assert not (tmp_path / 'hand.json').exists()


def test_a_file_is_not_overwritten_and_something_must_be_given(tmp_path, capsys):
    (tmp_path / 'hand.json').write_text('mine')
    assert main(['x', '--out', str(tmp_path / 'hand.json')]) == 1
    assert main(['--out', str(tmp_path / 'new.json')]) == 1
    assert 'nothing to learn from' in capsys.readouterr().err
    assert (tmp_path / 'hand.json').read_text() == 'mine'


@pytest.mark.parametrize(('options', 'text'), [
    (['--joints-from', 'x', '--labels', 'y'], '--joints-from, --labels: for labelled attempts; '
     'expected --attempts too, or none of these'),
    (['--topic', '/x', '--checkpoint', 'y', '--geometry', 'v4_right'], '--topic, --checkpoint, '
     '--geometry: for labelled attempts; expected --attempts too, or none of these'),
    (['--without-reference'], 'empty: closes on nothing beside --without-reference, which keeps '
     'nothing of them; expected one of both'),
    (['--without-reference', '--attempts', 'x'], 'empty: closes on nothing beside '
     '--without-reference, which keeps nothing of them; expected one of both'),
])
def test_options_that_would_change_nothing_are_refused(tmp_path, capsys, options, text):
    assert main(['empty', *options, '--out', str(tmp_path / 'hand.json')]) == 1
    assert capsys.readouterr().err == f'error: {text}\n'


def test_attempts_of_bags_of_the_same_name_are_told_apart(tmp_path, capsys):
    bags = [str(shutil.copytree(share_path(FUSED_SAMPLE_BAG), tmp_path / day / 'rig'))
            for day in ('mon', 'tue')]
    arguments = ['--topic', '/camera/image_raw/compressed', '--attempts', *bags,
                 '--out', str(tmp_path / 'hand.json')]
    assert main(arguments) == 1     # three succeed in each
    assert '6 attempts with a closed hand of label success; expected' in capsys.readouterr().err
    (tmp_path / 'labels.csv').write_text('source,start_s,end_s,label\nrig,0,1,success\n')
    assert main([*arguments, '--labels', str(tmp_path / 'labels.csv')]) == 1
    assert f'source rig names 2 recordings ({bags[0]}, {bags[1]})' in capsys.readouterr().err


@pytest.mark.parametrize(('change', 'text'), [
    (lambda read: read | {'about': {'by': 'hand'}}, 'damaged, or changed by hand'),
    (lambda read: read | {'format_version': 9}, 'format_version 9; expected 4'),
    (lambda read: [], 'no file of calibrate_hand'),
    (lambda read: read | {'joints': {}}, 'no file of calibrate_hand'),
])
def test_a_changed_file_of_a_hand_is_refused(tmp_path, change, text):
    read_hand().write(tmp_path / 'hand.json')
    read = json.loads((tmp_path / 'hand.json').read_text())
    (tmp_path / 'hand.json').write_text(json.dumps(change(read)))
    with pytest.raises(HandStateError, match=text):
        read_hand(str(tmp_path / 'hand.json'))


def test_a_missing_file_of_a_hand_is_named(tmp_path):
    with pytest.raises(HandStateError, match='no.json: cannot be read'):
        read_hand(str(tmp_path / 'no.json'))


def test_only_a_driver_that_is_given_tells_the_geometry(tmp_path):
    # Names alone do not: plexus has those of V4, and other links.
    source, = find_sources([str(closes(tmp_path / 'empty', 1))])
    found = read_hand_messages([StorageFile(path) for path in source.files])
    for driver, side, expected in (
            (DriverKind.V4, Side.LEFT, Geometry.V4_LEFT), (DriverKind.PLEXUS, Side.RIGHT, None),
            (None, Side.RIGHT, None)):
        stream = hand_stream(found, driver, side)
        pose, = poses_at(stream, [stream.states.times_ns[-1]])
        assert pose.geometry is expected
