"""evaluate_classifier from end to end: data sets, bags, videos, with and without labels."""

from collections import Counter
import csv
from dataclasses import replace
import json
import os
import re
import shutil
import subprocess
import sys

from frames import colour_frames, split_frames, write_dataset
import numpy as np
import pytest
from recordings import (
    compressed_image,
    jpeg_messages,
    PERIOD_NS,
    write_folder,
    write_video,
)
from report_page import Page
from rig_bag import FRAMES_PER_ATTEMPT, write_rig_bag

from grasp_success_detector.cli.evaluate_classifier import main
from grasp_success_detector.console import ExitCode
from grasp_success_detector.datasets.dataset import read_extracted
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.judging import judge
from grasp_success_detector.evaluation.predictions import FrameVerdict
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Label, Verdict
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.recordings.reader import (
    ChosenFrame,
    read_frames,
    StorageFile,
    video_times,
)
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.recordings.storage import MessageLocation
from grasp_success_detector.reports.page import LABEL_COLOURS
from grasp_success_detector.reports.timeline import annotate

pytestmark = pytest.mark.slow


def run(capsys, *arguments):
    """Run the command and return exit code, output and errors."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'rig'
    return path, write_rig_bag(path)


@pytest.fixture(scope='module')
def evaluation(bag, random_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp('evaluation') / 'out'
    assert main([str(random_checkpoint), str(bag[0]), '--out', str(out)]) == ExitCode.OK
    return out


def predictions(out):
    with (out / 'predictions.csv').open(encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_every_frame_has_the_probability_that_the_classifier_gives(
        bag, evaluation, random_checkpoint):
    path, frames = bag
    rows = predictions(evaluation)
    assert [int(row['stamp_ns']) for row in rows] == [stamp for stamp, _ in frames]
    classifier = GraspClassifier.from_checkpoint(random_checkpoint)
    expected = classifier.predict([
        decode_bytes(jpeg, classifier.preprocessing.half_suffices) for _, jpeg in frames])
    np.testing.assert_allclose([float(row['probability']) for row in rows], expected, atol=1e-5)
    late = [row['label'] for row in rows[:FRAMES_PER_ATTEMPT]]
    assert late == ['failure'] * 8 + ['success'] * 7
    assert {row['source'] for row in rows} == {'rig'}
    assert {row['verdict'] for row in rows} <= {'success', 'failure', 'unknown'}
    assert rows[0]['verdict'] == 'unknown'
    assert rows[0]['reason'] == 'too_few_frames'


def test_metrics_tell_everything_once(evaluation):
    metrics = json.loads((evaluation / 'metrics.json').read_text())
    assert [attempt['attempt'] for attempt in metrics['attempts']] == ['rig/0', 'rig/1']
    assert metrics['all']['frames']['total'] == 2 * FRAMES_PER_ATTEMPT
    assert sum(metrics['all']['results'].values()) == 2
    assert metrics['sources']['rig']['metrics'] == metrics['all']
    assert metrics['checkpoint']['architecture'] == 'cifar_cnn'


def test_report_needs_nothing_else(evaluation):
    page = Page((evaluation / 'report.html').read_text())
    assert page.headings[:5] == [
        'By source', 'Times and bootstrap intervals', 'Confusion matrices',
        'Attempts over time', 'Suspicious labels']
    inside = [url for url in page.loads if not url.startswith('data:image/jpeg;base64,')]
    assert all(url.startswith(('#attempt-', 'label_errors/')) for url in inside)
    for url in inside:
        assert url.startswith('#') or any((evaluation / url).glob('*.jpg'))
    assert 'simulated data' in page.text
    assert 'rig/0' in page.text


@pytest.mark.parametrize('roi', [(0., 0., 1., 1.), (.2, .3, .5, .4)])
def test_judging_in_batches_changes_no_logit(bag, random_checkpoint, tmp_path, roi):
    given = Checkpoint.open(random_checkpoint)
    given = Checkpoint.of_model(given.model, replace(given.metadata, preprocessing=replace(
        given.metadata.preprocessing, roi=roi)))
    recording, = open_recordings([str(bag[0])], FrameSelection(), tmp_path)
    counts = []
    judged = judge(GraspClassifier(given), recording, counts.append)
    half_suffices = given.metadata.preprocessing.half_suffices
    expected = GraspClassifier(given).predict(
        [decode_bytes(jpeg, half_suffices) for _, jpeg in bag[1]])
    np.testing.assert_allclose(judged.probabilities, expected, atol=1e-5)
    assert sum(counts) == len(bag[1])


def test_engine_that_was_asked_for_judges(bag, evaluation, random_checkpoint, tmp_path, capsys,
                                          monkeypatch):
    pytest.importorskip('openvino')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    code, _, _ = run(capsys, random_checkpoint, bag[0], '--engine', 'openvino',
                     '--precision', 'fp32', '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    reference, asked = (json.loads((out / 'metrics.json').read_text())['checkpoint']['engine']
                        for out in (evaluation, tmp_path / 'out'))
    assert (reference, asked) == ('torch fp32 on cpu', 'openvino fp32 on cpu')
    assert 'judged by openvino fp32 on cpu' in (tmp_path / 'out/report.html').read_text()
    np.testing.assert_allclose(*(
        [float(row['probability']) for row in predictions(out)]
        for out in (evaluation, tmp_path / 'out')), atol=1e-4)


def test_data_set_gives_its_test_frames(random_checkpoint, tmp_path, capsys):
    folder = write_dataset(tmp_path / 'set', split_frames(colour_frames()))
    code, out, _ = run(capsys, random_checkpoint, folder, '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    rows = predictions(tmp_path / 'out')
    test = read_extracted(folder).test
    assert [row['file'] for row in rows] == [frame.file for frame in test]
    assert 'made: ' in out
    code, _, err = run(capsys, random_checkpoint, folder, '--label', 'success',
                       '--out', tmp_path / 'other')
    assert code == ExitCode.ERROR
    assert 'are for bags, videos and pictures; a data set has its labels' in err
    code, _, _ = run(capsys, random_checkpoint, folder, '--split', 'all',
                     '--out', tmp_path / 'all')
    assert len(predictions(tmp_path / 'all')) == 60


@pytest.mark.parametrize('suffix', ['.mp4', '.avi'])
def test_video_with_intervals(random_checkpoint, tmp_path, capsys, suffix):
    video = write_video(tmp_path / f'take{suffix}', count=70)
    (tmp_path / 'labels.csv').write_text(
        'source,start_s,end_s,label,attempt\ntake,0,2,failure,a\ntake,3,4,success,a\n')
    code, out, _ = run(capsys, random_checkpoint, video, '--labels', tmp_path / 'labels.csv',
                       '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    rows = predictions(tmp_path / 'out')
    # What lies between two intervals of an attempt belongs to it, what follows the last does not.
    assert [row['label'] for row in rows] == ['failure'] * 20 + [''] * 10 + ['success'] * 10
    assert '30 outside of all attempts' in out


def test_recording_without_labels_gives_predictions_and_a_timeline(
        random_checkpoint, tmp_path, capsys):
    bag = write_folder(tmp_path / 'lab', jpeg_messages(9))
    code, out, _ = run(capsys, random_checkpoint, bag, '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    assert 'no labels: predictions and timelines only' in out
    assert {row['label'] for row in predictions(tmp_path / 'out')} == {''}
    page = Page((tmp_path / 'out/report.html').read_text())
    assert page.headings == ['By source', 'Attempts over time']
    assert page.charts == 1
    assert 'said unknown' in page.text
    assert 'worst first' not in page.text
    verdicts = re.findall('said (success|failure|unknown)', page.text)
    assert verdicts[:3] == ['success', 'failure', 'unknown']
    counts = [int(count) for count in re.findall(r'\b(\d)\d+\.\d\s% of the time', page.text)]
    assert [verdict for verdict, count in zip(verdicts, counts, strict=False) if count] == [
        verdicts[3]]
    assert json.loads((tmp_path / 'out/metrics.json').read_text())['all'] is None


def test_undecodable_frames_are_counted_and_cost_only_themselves(
        random_checkpoint, tmp_path, capsys):
    messages = jpeg_messages(8)
    messages[3].data = messages[3].data[:-40]
    bag = write_folder(tmp_path / 'lab', messages)
    code, out, _ = run(capsys, random_checkpoint, bag, '--label', 'success',
                       '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    rows = predictions(tmp_path / 'out')
    assert [row['probability'] == '' for row in rows] == [i == 3 for i in range(8)]
    assert 'without P(success): 1 ' in out
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert metrics['all']['frames']['total'] == 7


@pytest.mark.filterwarnings('error')
def test_no_frame_can_be_judged(tmp_path, random_checkpoint, capsys):
    write_rig_bag(tmp_path / 'rig', readable=False)
    code, out, _ = run(capsys, random_checkpoint, tmp_path / 'rig', '--out', tmp_path / 'out')
    assert code == ExitCode.NOTHING_DONE
    assert 'no frame could be judged: rig: ' in out


def test_gate_ends_with_four(evaluation, bag, random_checkpoint, tmp_path, capsys):
    metrics = json.loads((evaluation / 'metrics.json').read_text())
    for name, worse in (('same', False), ('worse', True)):
        (tmp_path / f'{name}.json').write_text(json.dumps({'attempts': [
            # 'worse': a baseline in which every attempt of these bags is right.
            {**attempt, 'result': 'correct' if worse else attempt['result']}
            for attempt in metrics['attempts']]}))
    code, out, _ = run(capsys, random_checkpoint, bag[0], '--baseline', tmp_path / 'same.json',
                       '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    assert 'not significantly worse than the baseline: 0 attempts lost, 0 won of 2' in out
    assert 'Against the baseline' in (tmp_path / 'out/report.html').read_text()
    # Two attempts can prove nothing; twenty can.
    write_rig_bag(tmp_path / 'rig', attempts=20)
    code, _, _ = run(capsys, random_checkpoint, tmp_path / 'rig', '--out', tmp_path / 'first')
    many = json.loads((tmp_path / 'first/metrics.json').read_text())
    assert any(attempt['result'] != 'correct' for attempt in many['attempts'])
    for attempt in many['attempts']:
        attempt['result'] = 'correct'
    (tmp_path / 'right.json').write_text(json.dumps(many))
    code, out, _ = run(capsys, random_checkpoint, tmp_path / 'rig', '--baseline',
                       tmp_path / 'right.json', '--max-drop', '0.02', '--out', tmp_path / 'second')
    assert code == ExitCode.WORSE
    assert '\nsignificantly worse than the baseline: ' in out
    assert (tmp_path / 'second/report.html').is_file()


def test_nothing_is_overwritten(evaluation, bag, random_checkpoint, capsys):
    before = (evaluation / 'metrics.json').read_bytes()
    code, _, err = run(capsys, random_checkpoint, bag[0], '--out', evaluation)
    assert code == ExitCode.ERROR
    assert err == f'error: {evaluation}: exists already and is not overwritten; choose another ' \
        'name\n'
    assert (evaluation / 'metrics.json').read_bytes() == before


def test_wrong_input_is_one_line_and_leaves_nothing(bag, random_checkpoint, tmp_path, capsys):
    (tmp_path / 'labels.csv').write_text('source,start_s,end_s,label\nother,0,1,success\n')
    (tmp_path / 'none.safetensors').write_bytes(b'nothing')
    empty = write_folder(tmp_path / 'empty', [])
    late = ['--labels', tmp_path / 'late.csv']
    late[1].write_text('source,start_s,end_s,label\nrig,100,101,success\n')
    for arguments, expected in (
            ([random_checkpoint, tmp_path / 'no_bag'], 'no_bag: no such bag, video or picture'),
            ([tmp_path / 'none.safetensors', bag[0]], 'none.safetensors: '),
            ([tmp_path / 'gone.safetensors', bag[0]], 'gone.safetensors: '),
            ([random_checkpoint, empty], 'empty: '),
            ([random_checkpoint, bag[0], '--labels', tmp_path / 'labels.csv'],
             'gives no frame of rig a label (it knows other)'),
            ([random_checkpoint, bag[0], *late], 'gives no frame of rig a label (it knows rig)'),
            ([random_checkpoint, bag[0], '--label-topic', '/none'],
             '--label-topic /none: gives no frame of rig a label'),
            ([random_checkpoint, bag[0], '--topic', '/none'], 'no image topic /none'),
            ([random_checkpoint, bag[0], '--start', '1000'], 'rig: no frame to judge'),
            ([random_checkpoint, bag[0], '--split', 'val'], '--split val: expected a data set'),
            ([random_checkpoint, bag[0], '--engine', 'none'],
             "unknown engine 'none'; expected auto, "),
            ([random_checkpoint, bag[0], '--precision', 'none'],
             "unknown precision 'none'; expected auto, "),
            ([random_checkpoint, bag[0], '--threshold', '2'], 'threshold 2.0'),
            ([random_checkpoint, bag[0], '--max-drop', '0.1'], '--max-drop 0.1: expected with'),
            ([random_checkpoint, bag[0], '--baseline', 'no.json', '--max-drop', '-1'],
             'options: max_drop -1.0 (expected a number of 0 or more and below 1)'),
            ([random_checkpoint, bag[0], '--timelines', '-1'],
             'options: timelines -1 (expected a whole number of 0 or more)'),
            ([random_checkpoint, bag[0], '--videos', '-1'],
             'options: videos -1 (expected a whole number of 0 or more)'),
            ([random_checkpoint, bag[0], '--baseline', tmp_path / 'labels.csv'],
             'no metrics.json of evaluate_classifier')):
        code, out, err = run(capsys, *arguments, '--out', tmp_path / 'out')
        assert code == ExitCode.ERROR, expected
        assert expected in err
        assert err.count('\n') == 1
        assert not out
    assert not [path for path in tmp_path.iterdir() if 'out' in path.name]


@pytest.mark.parametrize('out, reason', [
    ('file/out', 'Not a directory'), ('file/deep/out', 'Not a directory'),
    ('/proc/self/out', 'No such file or directory'),    # read-only for the superuser as well
])
def test_places_that_cannot_be_written_are_one_line(
        bag, random_checkpoint, tmp_path, capsys, out, reason):
    (tmp_path / 'file').touch()
    code, printed, err = run(capsys, random_checkpoint, bag[0], '--out', tmp_path / out)
    assert code == ExitCode.ERROR
    assert err == f'error: {tmp_path / out}: cannot be written ({reason})\n'
    assert not printed


def test_text_is_utf_8_in_any_locale(bag, random_checkpoint, tmp_path):
    labels, out = tmp_path / 'labels.csv', tmp_path / 'Prüfung'
    labels.write_text('source,start_s,end_s,label,attempt\nrig,0,9,success,Würfel\n',
                      encoding='utf-8')
    done = subprocess.run(
        [sys.executable, '-c', 'from grasp_success_detector.cli.evaluate_classifier import main; '
         'raise SystemExit(main())', random_checkpoint, bag[0], '--labels', labels, '--out', out],
        env=os.environ | {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
        capture_output=True, timeout=120)
    assert done.returncode == ExitCode.OK, done.stderr
    assert f'report: {out}/report.html'.encode() in done.stdout
    assert 'rig/Würfel' in Page((out / 'report.html').read_text(encoding='utf-8')).text
    assert predictions(out)[0]['attempt'] == 'rig/Würfel'


def test_two_data_sets_of_the_same_bag_are_told_apart(random_checkpoint, tmp_path, capsys):
    folder = write_dataset(tmp_path / 'set', split_frames(colour_frames()))
    shutil.copytree(folder, tmp_path / 'copy')
    code, _, err = run(capsys, random_checkpoint, folder, tmp_path / 'copy',
                       '--out', tmp_path / 'out')
    assert code == ExitCode.ERROR
    assert 'made: more than one source has this name' in err


def test_stamps_are_the_cameras(random_checkpoint, tmp_path, capsys):
    bag = write_folder(tmp_path / 'lab', jpeg_messages(4))
    run(capsys, random_checkpoint, bag, '--out', tmp_path / 'out')
    stamps = [int(row['stamp_ns']) for row in predictions(tmp_path / 'out')]
    assert np.diff(stamps).tolist() == [PERIOD_NS] * 3


def test_a_blind_camera_is_unknown_as_in_the_node(random_checkpoint, tmp_path, capsys):
    messages = jpeg_messages(10)
    black = np.zeros((24, 32, 3), np.uint8)
    for i in (6, 7):
        messages[i].data = compressed_image(encode_jpeg(black), messages[i].stamp_ns)
    bag = write_folder(tmp_path / 'lab', messages)
    code, out, _ = run(capsys, random_checkpoint, bag, '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    rows = predictions(tmp_path / 'out')
    assert [i for i, row in enumerate(rows) if row['reason'] == 'too_dark'] == [6, 7]
    assert [i for i, row in enumerate(rows) if row['probability'] == ''] == [6, 7]
    assert rows[6]['verdict'] == 'unknown'
    assert 'without P(success): 2 too_dark' in out


def test_annotated_videos_of_the_worst_attempts(bag, random_checkpoint, tmp_path, capsys):
    code, _, _ = run(capsys, random_checkpoint, bag[0], '--videos', 1, '--out', tmp_path / 'out')
    assert code == ExitCode.OK
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    video, = (tmp_path / 'out/videos').iterdir()
    wrong = [a['attempt'] for a in metrics['attempts'] if a['result'] != 'correct']
    assert not wrong or video.stem in [name.replace('/', '_') for name in wrong]
    stamps = video_times(video, Counter())
    assert len(stamps) == FRAMES_PER_ATTEMPT
    assert np.median(np.diff(stamps)) == pytest.approx(1e9 / 15, rel=.02)
    frame = ChosenFrame(4, 0, MessageLocation(-1, 4, -1), 0, None, '', '')
    (_, picture), = read_frames([StorageFile(video)], None, [frame], np.asarray, np.asarray)
    assert picture.shape == (120 * 3 + 52, 480, 3)


def test_annotation_shows_verdict_and_probability():
    def drawn(verdict, probability):
        frame = FrameVerdict('bag', 'bag/0', 0, 0, '', Label.SUCCESS, probability, probability,
                             verdict, None, None)
        return annotate(np.full((60, 80, 3), 77, np.uint8), frame, 1.25, .5)

    success, failure = drawn(Verdict.SUCCESS, .9), drawn(Verdict.FAILURE, .1)
    assert tuple(success[17, 18]) == LABEL_COLOURS[Label.SUCCESS]
    assert tuple(failure[17, 18]) == LABEL_COLOURS[Label.FAILURE]
    blue = [(picture[39] == LABEL_COLOURS[Label.SUCCESS]).all(1).sum()
            for picture in (success, failure)]
    assert blue[0] == pytest.approx(.9 * 390, abs=3)  # the threshold's line crosses it
    assert blue[1] == pytest.approx(.1 * 390, abs=2)
    assert (success[52:] == 77).all()
    assert not (drawn(Verdict.SUCCESS, None)[39] == LABEL_COLOURS[Label.SUCCESS]).all(1).any()
