"""evaluate_replay: the node as a process, a bag over DDS, and the report of its verdicts."""

import csv
from importlib.util import find_spec
import json

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy')

from rig_bag import write_rig_bag  # noqa: E402
from ros_processes import run  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.interfaces import QosReliability  # noqa: E402
from rosbags.typesys import get_typestore, Stores  # noqa: E402

from grasp_success_detector.cli import evaluate_replay  # noqa: E402
from grasp_success_detector.console import ExitCode  # noqa: E402
from grasp_success_detector.decision import DecisionConfig  # noqa: E402
from grasp_success_detector.evaluation.attempts import decide_attempts  # noqa: E402
from grasp_success_detector.evaluation.frame_sources import open_recordings  # noqa: E402
from grasp_success_detector.evaluation.judging import judge  # noqa: E402
from grasp_success_detector.evaluation.replay import (  # noqa: E402
    bag_time_ns,
    compare_ways,
    match_by_header,
    match_by_time,
    Matched,
    NodeAnswer,
    Replay,
    replayed_attempts,
    Said,
    ShownFrame,
    without_header,
)
from grasp_success_detector.inference.classifier import GraspClassifier  # noqa: E402
from grasp_success_detector.labels import Verdict  # noqa: E402
from grasp_success_detector.recordings.selection import FrameSelection  # noqa: E402

CONFIG = DecisionConfig()

#: Whether verdicts come with the header of their frame.
STAMPED = find_spec('vision_msgs') is not None


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'rig'
    # What was said when it was recorded must not be taken for what is said now.
    return path, write_rig_bag(path, verdicts=True)


def test_node_and_report_through_dds(bag, random_checkpoint, tmp_path):
    path, frames = bag
    child = run('evaluate_replay', path, '--checkpoint', random_checkpoint,
                '--out', tmp_path / 'out')
    assert child.returncode == ExitCode.OK, child.output
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    replay = metrics['replay']
    # How many frames come through is the machine's affair; here it is that most do.
    assert replay['frames_played'] == len(frames)
    assert len(frames) // 2 < replay['frames_answered'] <= replay['frames_heard'] == len(frames)
    assert replay['matched_by'] == ('header' if STAMPED else 'time')
    assert replay['direct']['agree_given_the_same_frames'] == replay['frames_answered']
    assert replay['direct']['engine'] == 'torch fp32 on cpu'
    assert replay['node']['engine'].startswith('torch fp32 on cpu')
    assert replay['direct']['frames'] == replay['frames_answered']
    assert 0. < replay['latency_ms']['p50'] <= replay['latency_ms']['p99']
    assert int(replay['node']['judged']) > 0
    assert [a['attempt'] for a in metrics['attempts']] == ['rig/0', 'rig/1']
    page = (tmp_path / 'out/report.html').read_text()
    assert 'Through the running node' in page
    assert 'Attempts over time' in page
    with (tmp_path / 'out/predictions.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row['probability'] != '' for row in rows) == replay['frames_answered']

    check_verdict_bag(tmp_path / 'out/verdicts', replay, [stamp for stamp, _ in frames])


def check_verdict_bag(path, replay, stamps):
    said = {}
    typestore = get_typestore(Stores.EMPTY)     # the bag says itself what its types are
    with AnyReader([path], default_typestore=typestore) as reader:
        for connection in reader.connections:
            qos, = connection.ext.offered_qos_profiles
            assert qos.reliability is QosReliability.RELIABLE
            assert qos.depth == (10 if connection.topic == '/diagnostics' else 1)
            said[connection.topic] = [
                (at, reader.deserialize(raw, connection.msgtype))
                for _, at, raw in reader.messages([connection])]
    assert said.keys() == {'/grasp_success', '/grasp_success/confidence', '/diagnostics',
                           *(['/grasp_success/stamped'] if STAMPED else [])}
    verdicts, confidences = said['/grasp_success'], said['/grasp_success/confidence']
    # Everything that was published, also before the first frame: that nothing is known yet.
    # A Bool is repeated without its confidence, to keep its deadline.
    assert len(verdicts) >= len(confidences) > replay['frames_answered']
    assert verdicts[0][0] < stamps[0]
    assert (verdicts[0][1].data, confidences[0][1].data) == (False, 0.)
    during = [at for at, _ in verdicts if stamps[0] <= at <= stamps[-1] + 10 ** 10]
    assert len(during) >= replay['frames_answered']
    if STAMPED:
        answered = {message.header.stamp.sec * 10 ** 9 + message.header.stamp.nanosec
                    for _, message in said['/grasp_success/stamped']} - {0}
        assert answered <= set(stamps)
        assert len(answered) == replay['frames_answered']


@pytest.fixture(scope='module')
def judged(bag, random_checkpoint, tmp_path_factory):
    recording, = open_recordings([str(bag[0])], FrameSelection(),
                                 tmp_path_factory.mktemp('unpacked'))
    return judge(GraspClassifier.from_checkpoint(random_checkpoint), recording)


def answers_of(results, leave_out=()):
    """Return the messages of a node that decides like the direct evaluation."""
    frames = [frame for result in results for frame in result.frames]
    return {frame.stamp_ns: NodeAnswer(
        frame.verdict, 0. if frame.verdict is Verdict.UNKNOWN else frame.window_probability, .01)
        for i, frame in enumerate(frames) if i not in leave_out}


def replay_of(answers, meanwhile=None):
    return Replay(1., 30, 30, Matched(answers, meanwhile or {}), True, {}, 'torch fp32 on cpu')


def test_both_ways_agree_where_they_do(judged):
    direct = decide_attempts([judged], CONFIG, anew=False)
    answers = answers_of(direct)
    replay = replay_of(answers)
    difference = compare_ways(judged, replay, CONFIG)
    assert (difference.frames, difference.agree, difference.agree_same) == (30, 30, 30)
    assert difference.largest in (None, 0.)
    replayed = replayed_attempts(direct, replay, CONFIG)
    assert [[f.verdict for f in r.frames] for r in replayed] == [
        [f.verdict for f in r.frames] for r in direct]
    assert replay.latency_ms == {50: 10., 95: 10., 99: 10.}


def test_one_wrong_answer_is_counted(judged):
    direct = decide_attempts([judged], CONFIG, anew=False)
    answers = answers_of(direct)
    stamp = direct[0].frames[7].stamp_ns
    other = next(v for v in Verdict if v is not answers[stamp].verdict)
    answers[stamp] = answers[stamp]._replace(verdict=other)
    difference = compare_ways(judged, replay_of(answers), CONFIG)
    assert (difference.agree, difference.agree_same) == (29, 29)


def test_a_frame_without_answer_has_the_verdict_that_stood(judged):
    direct = decide_attempts([judged], CONFIG, anew=False)
    replay = replay_of(answers_of(direct, leave_out=(0, 9)))
    first, _ = replayed_attempts(direct, replay, CONFIG)
    assert first.frames[0].verdict is Verdict.UNKNOWN
    assert first.frames[9].verdict is first.frames[8].verdict
    assert first.frames[9].probability is None
    assert first.frames[8].probability == direct[0].frames[8].probability
    assert compare_ways(judged, replay, CONFIG).frames == 28


def test_frames_outside_of_attempts_fill_the_window_too(bag, random_checkpoint, tmp_path):
    labels = tmp_path / 'labels.csv'
    labels.write_text('source,start_s,end_s,label,attempt\nrig,1,2,success,a\n')
    (inside,), (recording,) = (
        open_recordings([str(bag[0])], FrameSelection(labels=labels), tmp_path, outside=outside)
        for outside in (False, True))
    assert len(inside.frames) < len(recording.frames) == len(bag[1])
    assert inside.frames == tuple(frame for frame in recording.frames if frame.attempt)
    judged = judge(GraspClassifier.from_checkpoint(random_checkpoint), recording)
    direct = decide_attempts([judged], CONFIG, anew=False)
    assert [attempt.name for attempt in direct] == ['', 'rig/a']
    difference = compare_ways(judged, replay_of(answers_of(direct)), CONFIG)
    assert difference.agree == len(bag[1])


def test_a_frame_without_answer_has_what_was_said_meanwhile(judged):
    direct = decide_attempts([judged], CONFIG, anew=False)
    unknown = NodeAnswer(Verdict.UNKNOWN, 0., None)
    first, _ = replayed_attempts(direct, replay_of(answers_of(direct, leave_out=(9, 10)), {
        direct[0].frames[9].stamp_ns: unknown}), CONFIG)
    assert [f.verdict for f in first.frames[9:11]] == [Verdict.UNKNOWN] * 2
    assert first.frames[11].verdict is direct[0].frames[11].verdict


FRAMES = [ShownFrame(sent_ns, stamp_ns) for sent_ns, stamp_ns in (
    (1_000, 10), (2_000, 20), (3_000, 30))]


def test_verdicts_with_header_are_matched_exactly_however_late_they_come():
    matched = match_by_header(FRAMES, [
        Said(500, Verdict.UNKNOWN, 0., 0),      # before any frame
        Said(2_100, Verdict.FAILURE, .2, 10),   # a frame late
        Said(3_100, Verdict.SUCCESS, .9, 20),
        Said(3_200, Verdict.UNKNOWN, 0., 20)])  # too old: no answer to any frame
    assert matched.answers == {10: NodeAnswer(Verdict.FAILURE, .2, 1.1e-6),
                               20: NodeAnswer(Verdict.SUCCESS, .9, 1.1e-6)}
    assert matched.meanwhile == {30: NodeAnswer(Verdict.UNKNOWN, 0., None)}


def test_a_frame_that_was_not_heard_has_an_answer_without_latency():
    matched = match_by_header(FRAMES[1:], [Said(1_100, Verdict.FAILURE, .2, 10)])
    assert matched.answers == {10: NodeAnswer(Verdict.FAILURE, .2, None)}
    assert replay_of(matched.answers).latency_ms == {}


def test_verdicts_without_header_belong_to_the_newest_frame():
    said = without_header([(500, False), (1_100, False), (2_100, True), (2_900, False)],
                          [(499, 0.), (1_099, .25), (2_099, .75), (2_899, 0.)])
    assert [verdict.verdict for verdict in said] == [
        Verdict.UNKNOWN, Verdict.FAILURE, Verdict.SUCCESS, Verdict.UNKNOWN]
    assert match_by_time(FRAMES, said) == {     # the heartbeat takes no answer back
        10: NodeAnswer(Verdict.FAILURE, .25, 1e-7), 20: NodeAnswer(Verdict.SUCCESS, .75, 1e-7)}


@pytest.mark.parametrize(('sent_ns', 'expected'), [
    (900, 0), (999, 8), (1_000, 10), (1_500, 1_010), (4_000, 2_030)])
def test_times_of_the_replay_are_converted_to_the_bags_time(sent_ns, expected):
    assert bag_time_ns(sent_ns, FRAMES, 2.) == expected


def test_attempts_are_one_stream_for_the_node(judged):
    """The window reaches back across the beginning of an attempt, unless it begins anew."""
    stream, anew = (decide_attempts([judged], CONFIG, anew=anew)[1] for anew in (False, True))
    assert anew.frames[0].verdict is Verdict.UNKNOWN
    assert anew.frames[0].reason.value == 'too_few_frames'
    assert stream.frames[0].reason.value != 'too_few_frames'
    assert np.isclose(stream.frames[-1].window_probability, anew.frames[-1].window_probability)


def test_node_that_fails_to_start_is_one_line(bag, random_checkpoint, tmp_path, capsys,
                                              monkeypatch):
    play = evaluate_replay.play_to_detector
    monkeypatch.setattr(
        evaluate_replay, 'play_to_detector', lambda recorder, bag, rate, parameters, on_step: play(
            recorder, bag, rate, parameters | {'window_s': -1.0}, on_step))
    code = evaluate_replay.main([str(bag[0]), '--checkpoint', str(random_checkpoint),
                                 '--out', str(tmp_path / 'out')])
    assert code == ExitCode.ERROR
    error = capsys.readouterr().err
    assert error.startswith('error: detector_node ended with 1: ')
    assert 'window_s' in error
    assert error.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('out', ['file/out', '/proc/out'])
def test_a_folder_that_cannot_be_written_is_said_before_the_run(
        bag, random_checkpoint, tmp_path, capsys, monkeypatch, out):
    (tmp_path / 'file').write_text('', encoding='utf-8')
    monkeypatch.setattr(evaluate_replay, 'play_to_detector', None)  # nothing is started
    code = evaluate_replay.main([
        str(bag[0]), '--checkpoint', str(random_checkpoint), '--out', str(tmp_path / out)])
    assert code == ExitCode.ERROR
    error = capsys.readouterr().err
    assert error.startswith(f'error: {tmp_path / out}: cannot be written (')
    assert error.count('\n') == 1


def test_wrong_input_is_one_line(bag, random_checkpoint, tmp_path, capsys):
    for arguments, expected in (
            ([tmp_path / 'none'], 'none: no such bag'),
            ([bag[0], '--engine', 'none'], "unknown engine 'none'; expected auto, "),
            ([bag[0], '--engine', 'torch', '--precision', 'int8'], 'no engine fits engine=torch'),
            ([bag[0], '--rate', '0'], 'rate 0.0 (expected a number above 0)'),
            ([bag[0], '--checkpoint', bag[0] / 'metadata.yaml'], 'metadata.yaml: '),
            ([bag[0], '--topic', '/none'], 'no image topic /none')):
        given = [*arguments, '--out', tmp_path / 'out']
        if '--checkpoint' not in given:
            given += ['--checkpoint', random_checkpoint]
        assert evaluate_replay.main(list(map(str, given))) == ExitCode.ERROR
        error = capsys.readouterr().err
        assert expected in error
        assert error.count('\n') == 1
