"""The demo: processes of its own, real DDS, a table and a picture."""

import os
import pty
import re
import signal
import subprocess
import sys
from threading import Thread

import pytest
from rich.console import Console

rclpy = pytest.importorskip('rclpy')

from rig_bag import FRAMES_PER_ATTEMPT, write_rig_bag  # noqa: E402
from ros_processes import Ears, run, wait_until  # noqa: E402
from std_msgs.msg import Bool, Float32, String  # noqa: E402

from grasp_success_detector.cli import grasp_demo  # noqa: E402
from grasp_success_detector.errors import BagError  # noqa: E402
from grasp_success_detector.evaluation.replay import NodeAnswer  # noqa: E402
from grasp_success_detector.images.decoding import decode_bytes, read_image  # noqa: E402
from grasp_success_detector.labels import Verdict  # noqa: E402
from grasp_success_detector.recordings.bags import COMPRESSED_TOPIC  # noqa: E402
from grasp_success_detector.ros.node.outputs import COLOURS  # noqa: E402
from grasp_success_detector.ros.tools.demo_bag import Attempt, read_demo_bag  # noqa: E402
from grasp_success_detector.ros.tools.demo_view import (  # noqa: E402
    CAPTION_HEIGHT,
    CELL_HEIGHT,
    chosen_answers,
    DemoResult,
    draw_demo,
    GAP,
)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'rig'
    return path, write_rig_bag(path)


@pytest.fixture(scope='module')
def ears():
    listening = Ears()
    yield listening
    listening.close()


def test_the_demo_shows_the_verdicts_received_over_dds(bag, ears, random_checkpoint, tmp_path):
    path, frames = bag
    verdicts = ears.listen(Bool, '/grasp_success')
    confidences = ears.listen(Float32, '/grasp_success/confidence')
    child = run('grasp_demo', '--bag', path, '--checkpoint', random_checkpoint,
                '--output', tmp_path / 'shown' / 'demo.png')
    assert child.returncode == 0, child.output
    lines = child.output.splitlines()
    assert lines[0].startswith('attempt 0 mug truth=success verdict=')
    assert lines[1].startswith('attempt 1 mug truth=failure verdict=')
    # How many frames come through is the machine's affair; here it is that most do.
    summary = re.search(
        r'[012] of 2 attempts correct; (\d+) frames, (\d+) answered, median latency', child.output)
    assert summary
    assert len(frames) // 2 < int(summary[2]) <= int(summary[1]) <= len(frames)
    # Who merely listens is not waited for, and discovery may take it a second.
    assert verdicts
    assert any(message.data > 0. for message in confidences)
    assert not verdicts[-1].data
    picture = read_image(tmp_path / 'shown' / 'demo.png')
    assert picture.shape[0] > 400 and picture.shape[1] > 1400
    assert [file.name for file in (tmp_path / 'shown').iterdir()] == ['demo.png']


def test_two_cameras_and_joint_states_give_one_verdict(ears, random_checkpoint, tmp_path):
    attempts = ears.listen(String, '/grasp_success/attempt')
    left, right = (ears.listen(Float32, f'/{place}/grasp_success/confidence')
                   for place in ('camera', 'camera_2'))
    child = run('grasp_demo', '--fused', '--checkpoint', random_checkpoint,
                '--output', tmp_path / 'demo.png')
    assert child.returncode == 0, child.output
    assert len(re.findall(r'attempt \d \w+ truth=\w+ verdict=\w+', child.output)) == 4
    summary = re.search(r'\d of 4 attempts correct; (\d+) frames, (\d+) answered', child.output)
    assert summary and 48 < int(summary[2]) <= int(summary[1]) <= 96
    assert left and right and attempts
    assert read_image(tmp_path / 'demo.png').shape[1] > 1400


def test_single_pictures_are_judged_by_the_default_checkpoint(capsys):
    stills = grasp_demo._stills(Console())
    said = re.search(r'^(\d+) single pictures of other simulated hands and cameras, by '
                     r'efficientnet_lite0_world: (\d+) correct, (\d+) UNKNOWN, (\d+) wrong$',
                     capsys.readouterr().out, re.MULTILINE)
    total, right, unknown, wrong = map(int, said.groups())
    assert total == len(stills) == right + unknown + wrong == 12
    assert right > wrong + unknown
    assert {still.success for still in stills} == {True, False}
    drawn, without = (draw_demo([], {}, {}, '', '', shown) for shown in (stills, []))
    assert drawn.shape[0] - without.shape[0] == 2 * (CELL_HEIGHT + CAPTION_HEIGHT + GAP)


def test_a_bag_without_joint_states_cannot_be_fused(bag, tmp_path):
    child = run('grasp_demo', '--fused', '--bag', bag[0], '--output', tmp_path / 'demo.png')
    assert child.returncode == 1
    assert child.output == (
        f'error: {bag[0]}: no joint states on /allegroHand_0/joint_states; record it with '
        'simulate_grasps --cameras 2, or leave out --fused\n')


def test_the_view_on_a_terminal_and_ctrl_c(bag, ears, random_checkpoint, tmp_path):
    terminal, inner = pty.openpty()
    shown = bytearray()

    def read():
        try:
            while data := os.read(terminal, 65536):
                shown.extend(data)
        except OSError:     # the other end is closed
            pass

    child = subprocess.Popen(
        [sys.executable, '-m', 'grasp_success_detector.cli.grasp_demo', '--bag', bag[0],
         '--rate', '0.2', '--checkpoint', random_checkpoint, '--output', tmp_path / 'demo.png'],
        stdout=inner, stderr=inner, env={**os.environ, 'COLUMNS': '100', 'TERM': 'xterm'})
    os.close(inner)
    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_until(lambda: b'ms from frame to verdict (median)' in shown
                   and (b'SUCCESS' in shown or b'FAILURE' in shown))
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20.) == 130
    finally:
        child.kill()
        child.wait()
    reader.join(timeout=10.)
    os.close(terminal)
    assert b'Traceback' not in shown
    assert not (tmp_path / 'demo.png').exists()
    # Neither the detector nor the player outlives it.
    wait_until(lambda: ears.node.count_publishers('/grasp_success') == 0)
    wait_until(lambda: ears.node.count_publishers(COMPRESSED_TOPIC) == 0)


def test_without_a_verdict_it_ends_with_3(random_checkpoint, tmp_path):
    write_rig_bag(tmp_path / 'bad', attempts=1, readable=False)
    child = run('grasp_demo', '--bag', tmp_path / 'bad', '--checkpoint', random_checkpoint,
                '--output', tmp_path / 'demo.png')
    assert child.returncode == 3, child.output
    summary = re.search(r'no verdict came through: (\d+) frames seen', child.output)
    assert summary
    assert int(summary[1]) <= FRAMES_PER_ATTEMPT
    assert not (tmp_path / 'demo.png').exists()


def test_reasons_why_the_demo_cannot_start(bag, tmp_path):
    child = run('grasp_demo', '--bag', bag[0], '--checkpoint', '/no/such.safetensors',
                '--output', tmp_path / 'demo.png')
    assert child.returncode == 1
    assert child.output.startswith('error: /no/such.safetensors: no such file')
    assert len(child.output.strip().splitlines()) == 1
    child = run('grasp_demo', '--bag', '/no/such')
    assert child.returncode == 1
    assert 'error: /no/such: no such bag' in child.output


@pytest.mark.parametrize('output', ['file/demo.png', 'folder', '/proc/demo.png'])
def test_an_output_that_cannot_be_written_is_said_before_the_run(
        bag, tmp_path, capsys, monkeypatch, output):
    (tmp_path / 'file').write_text('', encoding='utf-8')
    (tmp_path / 'folder').mkdir()
    # Nothing is started.
    monkeypatch.setattr(grasp_demo.verdict_recorder, 'play_to_detector', None)
    code = grasp_demo.main(['--bag', str(bag[0]), '--output', str(tmp_path / output)])
    assert code == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: --output {tmp_path / output}: cannot be written (')
    assert error.count('\n') == 1


def test_the_bag_tells_attempts_and_truth(bag):
    path, frames = bag
    shown = read_demo_bag(path)
    assert (shown.topic, shown.compressed, shown.simulated) == (COMPRESSED_TOPIC, True, True)
    assert [(a.number, a.object_name, a.success) for a in shown.attempts] == [
        (0, 'mug', True), (1, 'mug', False)]
    assert set(shown.truth) == {stamp for stamp, _ in frames}
    assert shown.attempt_at(frames[-1][0]) == shown.attempts[1]
    assert shown.attempt_at(frames[-1][0] + 10) is None
    picked = shown.frames([frames[3][0]])
    assert (picked[frames[3][0]] == decode_bytes(frames[3][1])).all()


def test_attempts_that_cannot_be_read_are_named(tmp_path):
    from rig_bag import TYPES, TYPESTORE
    from rosbags.rosbag2 import Writer

    with Writer(tmp_path / 'bag', version=9) as writer:
        for topic, name, message in (
                (COMPRESSED_TOPIC, 'sensor_msgs/msg/CompressedImage', None),
                ('/attempt', 'std_msgs/msg/String', TYPES['std_msgs/msg/String'](data='begin'))):
            connection = writer.add_connection(topic, name, typestore=TYPESTORE)
            if message is not None:
                writer.write(connection, 1, TYPESTORE.serialize_cdr(message, name))
    with pytest.raises(BagError, match='/attempt holds \'begin\'; expected JSON with "attempt"'):
        read_demo_bag(tmp_path / 'bag')


def test_the_picture_shows_verdicts_in_their_colours(bag):
    path, frames = bag
    answers = {stamp: NodeAnswer(verdict, 0.7, 0.01) for (stamp, _), verdict in zip(
        frames, [Verdict.UNKNOWN, *[Verdict.SUCCESS] * (FRAMES_PER_ATTEMPT - 1)], strict=False)}
    result = DemoResult(Attempt(0, 'mug', False, frames[0][0], frames[-1][0]), answers)
    assert (result.verdict, result.probability, result.correct) == (Verdict.SUCCESS, 0.7, False)
    chosen = chosen_answers(result)
    in_order, all_in_order = list(chosen.items()), list(answers.items())
    assert (in_order[0], in_order[-1], len(chosen)) == (all_in_order[0], all_in_order[-1], 6)
    shown = read_demo_bag(path)
    picture = draw_demo([result], shown.frames(chosen), {}, 'title', 'sub')
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert COLOURS[Verdict.UNKNOWN] in colours and COLOURS[Verdict.SUCCESS] in colours


def test_an_attempt_without_answers_is_unknown():
    result = DemoResult(Attempt(3, '', None, 0, 1), {})
    assert (result.verdict, result.probability, result.correct) == (Verdict.UNKNOWN, None, None)
    assert chosen_answers(result) == {}


def test_help_names_an_example():
    child = run('grasp_demo', '--help')
    assert (child.returncode, 'examples:' in child.output) == (0, True)
