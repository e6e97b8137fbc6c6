"""The simulated hand: kinematics, ground truth, determinism, and the bags it is recorded into."""

from dataclasses import replace
import json
from pathlib import Path
import re
import resource
import signal
import sys

import mujoco
import numpy as np
from processes import interrupt, start, wait_until
import pytest

from grasp_success_detector.cli.simulate_grasps import main
from grasp_success_detector.errors import SimulationError
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.labels import FailureReason, Label
from grasp_success_detector.recordings import bags
from grasp_success_detector.recordings.bags import (
    ATTEMPT_TOPIC,
    COMPRESSED_TOPIC,
    GROUND_TRUTH_TOPIC,
    IMAGE_TOPIC,
    JOINT_COMMANDS_TOPIC,
    JOINT_STATES_TOPIC,
    open_bag,
    TACTILE_TOPIC,
)
from grasp_success_detector.simulation.attempt import (
    DURATION_S,
    failure_reason,
    label_frames,
    Motion,
    Observation,
    outcome,
    run_attempt,
    STARTS,
)
from grasp_success_detector.simulation.presets import Preset, RANGES, RecordingSettings
from grasp_success_detector.simulation.recorder import record
from grasp_success_detector.simulation.rendering import make_episode, SimulatedCamera
from grasp_success_detector.simulation.scene import build_scene, CLOSED, JOINT_NAMES, OPEN
from grasp_success_detector.training.hand_finder import read_examples

pytestmark = pytest.mark.slow

FPS = 15.


def observe(held_from: float = 9., held_to: float = 9., drift: float = 0.) -> list[Observation]:
    """Make observations of an object that is held from one time to another."""
    made = []
    for i in range(int(DURATION_S * FPS)):
        t = i / FPS
        held = held_from <= t < held_to
        still = np.zeros(16)
        made.append(Observation(t, np.zeros(0), still, still, still, still, still, touched=held,
                                supported=not held, height=.1 if held else 0.,
                                in_palm=np.array([t * drift, 0, 0])))
    return made


def test_hand_has_the_published_kinematics():
    spec = mujoco.MjSpec.from_file(
        str(Path(sys.modules[SimulatedCamera.__module__].__file__).with_name('allegro_hand.xml')))
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    # Straight index finger: its links in a row, leaning out by 5 degrees.
    length = .0164 + .054 + .0384 + .0267
    lean = np.radians(5)
    tip = [0, .0435 + length * np.sin(lean), -.001542 + length * np.cos(lean)]
    np.testing.assert_allclose(data.geom('index_tip').xpos, tip, atol=1e-6)
    assert [model.joint(name).name for name in JOINT_NAMES] == list(JOINT_NAMES)
    assert model.njnt == 16
    ranges = np.array([model.joint(name).range for name in JOINT_NAMES])
    np.testing.assert_allclose(ranges[0], [-.47, .47])
    np.testing.assert_allclose(ranges[12], [.263, 1.396])
    for pose in (OPEN, *CLOSED.values()):
        assert (pose >= ranges[:, 0]).all() and (pose <= ranges[:, 1]).all()


def test_fingers_close_and_the_arm_lifts():
    rng = np.random.default_rng(3)
    scene = build_scene(rng, RANGES[Preset.RIG])
    seen = run_attempt(scene, Motion(rng, scene, 0.), FPS)
    assert len(seen) == round(DURATION_S * FPS)
    before, after = seen[0].joints, seen[int(STARTS['lift'] * FPS)].joints
    bent = [i for i in range(12) if i % 4]
    assert (after - before)[bent].mean() > .1
    palm = [observation.qpos[scene.model.joint('mount_2').qposadr[0]] for observation in seen]
    assert palm[-1] > palm[int(STARTS['lift'] * FPS)] + .08


def test_labels_say_failure_before_lift_off_and_success_while_held():
    lift_off = STARTS['lift'] + .3
    seen = observe(held_from=lift_off, held_to=9.)
    for observation, label in zip(seen, label_frames(seen), strict=True):
        if observation.time_s < STARTS['lift'] - .1:
            assert label == Label.FAILURE
        elif observation.time_s > lift_off + .25:
            assert label == Label.SUCCESS
    assert outcome(seen) == Label.SUCCESS


def test_frames_around_a_drop_have_no_label():
    dropped = 3.
    seen = observe(held_from=STARTS['lift'] + .3, held_to=dropped)
    labels = dict(zip((s.time_s for s in seen), label_frames(seen), strict=True))
    assert {label for t, label in labels.items() if abs(t - dropped) < .15} == {None}
    assert {label for t, label in labels.items() if t > dropped + .25} == {Label.FAILURE}
    assert outcome(seen) == Label.FAILURE


def test_an_object_that_slides_in_the_hand_to_the_end_is_neither():
    assert outcome(observe(held_from=2., held_to=9., drift=.1)) is None


def test_about_half_of_the_attempts_succeed_over_all_kinds_of_objects():
    camera = SimulatedCamera(32, 24)
    episodes = [make_episode(11, i, Preset.RIG, FPS, 1, camera) for i in range(50)]
    camera.close()
    successes = sum(episode.success for episode in episodes)
    # 40 to 60 % is aimed at; 50 attempts scatter by 7 % about it.
    assert 15 <= successes <= 35
    assert {e.approach for e in episodes} == {'top', 'side'}
    assert len({e.kind for e in episodes}) >= 6


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(('encoding', 'topic'), [('jpeg', COMPRESSED_TOPIC), ('raw', IMAGE_TOPIC)])
def test_bag_holds_frames_joints_truth_and_attempts(tmp_path, storage, encoding, topic):
    bag = tmp_path / 'bag'
    done = record(RecordingSettings(attempts=2, frames=4, width=64, height=48, storage=storage,
                            encoding=encoding), bag, jobs=1)
    with open_bag(bag) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        messages = {c.topic: reader.deserialize(data, c.msgtype)
                    for c, _, data in reader.messages()}
    # Joint states come all the time, commands while they change: while the hand closes.
    assert 30 < counts.pop(JOINT_COMMANDS_TOPIC) < 240
    assert counts == {topic: 8, JOINT_STATES_TOPIC: 360, GROUND_TRUTH_TOPIC: 8, ATTEMPT_TOPIC: 4}
    for joints in (JOINT_STATES_TOPIC, JOINT_COMMANDS_TOPIC):
        # The names of the driver for the Allegro hand V5.
        assert messages[joints].name == [f'joint_{i}_0' for i in range(16)]
    assert len(messages[JOINT_STATES_TOPIC].effort) == 16
    assert decode_message(messages[topic]).shape == (48, 64, 3)
    assert [summary.labelled for summary in done] == [4, 4]
    assert messages[GROUND_TRUTH_TOPIC].data == done[-1].success  # the last frame's


def test_all_frames_of_a_video_are_recorded_and_some_have_no_label(tmp_path):
    summary, = record(RecordingSettings(attempts=1, seed=5, fps=10., width=64, height=48),
                      tmp_path / 'bag', jobs=1)
    assert summary.frames == 10 * DURATION_S
    assert 0 < summary.labelled <= summary.frames


def test_a_second_camera_sees_something_else_and_changes_nothing_for_the_first(tmp_path):
    one = RecordingSettings(attempts=1, frames=4, seed=8, width=64, height=48)
    record(one, tmp_path / 'one', jobs=1)
    record(replace(one, cameras=2, from_s=1.), tmp_path / 'two', jobs=1)
    first, both = messages_of(tmp_path / 'one'), messages_of(tmp_path / 'two')
    second = '/camera_2/image_raw/compressed'
    pictures = {stamp: data for topic, stamp, data in both if topic == COMPRESSED_TOPIC}
    others = {stamp: data for topic, stamp, data in both if topic == second}
    assert pictures.keys() == others.keys() and pictures != others
    begins = first[0][1]
    assert pictures == {stamp: data for topic, stamp, data in first
                        if topic == COMPRESSED_TOPIC and stamp - begins >= 1e9}


def test_tactile_sensors_feel_the_grasp_and_change_nothing_else(tmp_path):
    one = RecordingSettings(attempts=1, frames=4, seed=8, width=64, height=48)
    record(one, tmp_path / 'one', jobs=1)
    record(replace(one, tactile=True), tmp_path / 'felt', jobs=1)
    assert messages_of(tmp_path / 'one') == [
        row for row in messages_of(tmp_path / 'felt') if row[0] != TACTILE_TOPIC]
    with open_bag(tmp_path / 'felt') as reader:
        readings = np.array([reader.deserialize(data, c.msgtype).data for c, _, data in
                             reader.messages() if c.topic == TACTILE_TOPIC])
    assert readings.shape == (180, 16)
    assert readings[-1].max() > readings[:20].mean(0).max() + .5


def test_a_hand_that_closes_on_nothing_fails_as_empty(tmp_path):
    record(RecordingSettings(attempts=2, frames=1, empty=True, width=64, height=48),
           tmp_path / 'bag', jobs=1)
    events = [json.loads(bags.TYPESTORE.deserialize_cdr(data, 'std_msgs/msg/String').data)
              for topic, _, data in messages_of(tmp_path / 'bag') if topic == ATTEMPT_TOPIC]
    assert [event.get('reason') for event in events if event['event'] == 'end'] == ['empty'] * 2
    commands = np.array([
        bags.TYPESTORE.deserialize_cdr(data, 'sensor_msgs/msg/JointState').position
        for topic, _, data in messages_of(tmp_path / 'bag') if topic.endswith('/joint_cmd')])
    closed = commands.sum(1) > commands.sum(1).max() - 1e-6
    assert closed.sum() == 2 and np.ptp(commands[closed], axis=0).max() < 1e-6


def test_without_hand_only_the_hand_is_another(tmp_path):
    settings = RecordingSettings(attempts=3, frames=2, width=64, height=48)
    record(settings, tmp_path / 'hand', jobs=1)
    record(replace(settings, without_hand=True), tmp_path / 'none', jobs=1)
    assert {topic for topic, _, _ in messages_of(tmp_path / 'none')} == {
        COMPRESSED_TOPIC, ATTEMPT_TOPIC}
    examples = list(read_examples(tmp_path / 'none', None))
    assert len(examples) == 6 and all(example.box is None for example in examples)
    shown = [decode_message(bags.TYPESTORE.deserialize_cdr(
        data, 'sensor_msgs/msg/CompressedImage')) for topic, _, data
        in messages_of(tmp_path / 'hand') if topic == COMPRESSED_TOPIC]
    for example, image in zip(examples, shown, strict=True):
        changed = np.abs(example.image.astype(int) - image).max(-1) > 30
        assert .005 < changed.mean() < .5


@pytest.mark.parametrize(('seen', 'share', 'reason'), [
    (observe(held_from=2., held_to=3.), 1., FailureReason.SLIPPED),
    (observe(), .3, FailureReason.NOT_CLOSED),
    (observe(), 1., FailureReason.EMPTY),
    ([replace(seen, touched=True) for seen in observe()], 1., FailureReason.NOT_LIFTED),
], ids=lambda value: value.value if isinstance(value, FailureReason) else '')
def test_why_an_attempt_failed(seen, share, reason):
    full = CLOSED['top']
    assert failure_reason(seen, OPEN + share * (full - OPEN), full) is reason


def messages_of(bag):
    with open_bag(bag) as reader:
        return [(c.topic, stamp, data) for c, stamp, data in reader.messages()]


def test_same_seed_same_bag_whatever_the_number_of_processes(tmp_path):
    recording = RecordingSettings(attempts=4, frames=2, seed=8, width=64, height=48)
    record(recording, tmp_path / 'one', jobs=1)
    record(recording, tmp_path / 'two', jobs=2)
    assert messages_of(tmp_path / 'one') == messages_of(tmp_path / 'two')
    record(RecordingSettings(attempts=1, frames=2, seed=8, width=64, height=48, first_attempt=3),
           tmp_path / 'last', jobs=1)
    last = messages_of(tmp_path / 'last')
    assert last == messages_of(tmp_path / 'one')[-len(last):]
    assert len([topic for topic, *_ in last if topic == ATTEMPT_TOPIC]) == 2
    record(RecordingSettings(attempts=4, frames=2, seed=9, width=64, height=48),
           tmp_path / 'other', jobs=1)
    assert messages_of(tmp_path / 'other') != messages_of(tmp_path / 'one')


def test_an_existing_bag_is_not_overwritten(tmp_path):
    (tmp_path / 'precious').write_text('data')
    with pytest.raises(SimulationError, match='precious: exists already and is not overwritten'):
        record(RecordingSettings(attempts=1), tmp_path / 'precious')
    assert (tmp_path / 'precious').read_text() == 'data'


@pytest.mark.parametrize(('option', 'text'), [
    (['--attempts', '0'], r'attempts 0 \(expected a whole number from 1 to 1000000\)'),
    (['--jobs', '0'], '--jobs 0: expected 1 or more processes'),
    (['--jobs', '-3'], '--jobs -3: expected 1 or more processes'),
    (['--width', '99999'], r'width 99999 \(expected a whole number from 16 to 4096\)'),
    (['--fps', 'inf'], r'fps inf \(expected a number from 1 to 200\)'),
    (['--first-attempt', '500000000'], r'first_attempt 500000000 \(expected .* to 80000000\)'),
    (['--preset', 'moon'], r"preset 'moon' \(expected .*random.* or world\)"),
    (['--storage', 'tape', '--fps', '0'], r"fps 0.0 .*storage 'tape' \(expected mcap or"),
])
def test_wrong_options_are_one_line_and_leave_nothing(tmp_path, capsys, option, text):
    assert main([str(tmp_path / 'bag'), *option]) == 1
    err = capsys.readouterr().err
    assert err.count('\n') == 1
    assert re.search(text, err)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_one_line(capsys, unwritable_folders):
    for out in (folder / 'bag' for folder in unwritable_folders):
        assert main([str(out), '--attempts', '1', '--jobs', '1']) == 1
        err = capsys.readouterr().err
        assert err.startswith(f'error: {out}: cannot be written (')
        assert err.count('\n') == 1


OPTIONS = ('--attempts', '12', '--frames', '2', '--jobs', '1', '--width', '64', '--height', '48')


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_recording_goes_on_and_gives_the_same_bag(tmp_path, number, code):
    process = start('simulate_grasps', tmp_path / 'bag', *OPTIONS)
    kept = tmp_path / '.bag.attempts'
    wait_until(lambda: (kept / '4').exists(), process)
    returned, out, err = interrupt(process, number)
    assert returned == code
    assert number == signal.SIGKILL or err == 'interrupted\n'
    assert number == signal.SIGKILL or 'the same command goes on after the attempts' in out
    assert [path.name for path in tmp_path.iterdir()] == ['.bag.attempts']
    done = {path: path.stat().st_mtime_ns for path in kept.iterdir() if path.name.isdecimal()}
    assert len(done) >= 5
    with pytest.raises(SimulationError, match=r'was begun with seed 0 \(now 1\); run that'):
        record(RecordingSettings(attempts=12, frames=2, width=64, height=48, seed=1),
               tmp_path / 'bag', 1)
    (kept / '2').write_bytes((kept / '2').read_bytes()[:-1])    # by a loss of power
    again = start('simulate_grasps', tmp_path / 'bag', *OPTIONS)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert '12 simulated attempts' in out
    assert [path.name for path in tmp_path.iterdir()] == ['bag']
    record(RecordingSettings(attempts=12, frames=2, width=64, height=48), tmp_path / 'whole', 1)
    assert messages_of(tmp_path / 'bag') == messages_of(tmp_path / 'whole')


def test_ctrl_c_before_the_first_attempt_leaves_nothing_behind(tmp_path):
    process = start('simulate_grasps', tmp_path / 'bag', *OPTIONS)
    wait_until(lambda: (tmp_path / '.bag.attempts' / 'settings.json').exists(), process)
    assert interrupt(process)[::2] == (130, 'interrupted\n')
    assert not [path for path in tmp_path.rglob('*') if path.name.isdecimal()]


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = start('simulate_grasps', tmp_path / 'bag', *OPTIONS, preexec_fn=small_files)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith(f'error: {tmp_path / "bag"}: cannot be written (File too large')
    assert err.count('\n') == 1
    assert main([str(tmp_path / 'bag'), *OPTIONS]) == 0
