"""adapt_classifier --unlabelled: labels by joint states, and when nothing is changed."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from grasp_success_detector.cli.adapt_classifier import main
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.files import checkpoint_path, SAMPLE_BAG, share_path
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata, save
from grasp_success_detector.recordings.selection import FrameSelection
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.hand_labels import labelled_by_hand
from grasp_success_detector.training.adaptation.unlabelled import lowest_threshold, Trial

pytestmark = pytest.mark.usefixtures('one_thread')

#: Two of its four attempts succeed; it has joint states and commands.
BAG = share_path('samples/two_cameras')
TOPIC = '/camera/image_raw/compressed'


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    """Return the sample bag with its true labels."""
    opened, = open_recordings([str(BAG)], FrameSelection(topic=TOPIC),
                              tmp_path_factory.mktemp('unpacked'))
    return opened


@pytest.fixture
def says_success(tmp_path):
    """Return a checkpoint that calls everything SUCCESS, though its features tell more."""
    shipped = Checkpoint.open(checkpoint_path('cifar_cnn_rig'))
    spoilt = Backbone.of_checkpoint(shipped).copy()
    with torch.no_grad():
        spoilt.head.weight.zero_()
        spoilt.head.bias.copy_(torch.tensor([-.5, .5]))
    path = tmp_path / 'spoilt.safetensors'
    save(path, spoilt.model, CheckpointMetadata(
        'cifar_cnn', shipped.metadata.preprocessing, threshold=.6))
    return path


def adapt(*arguments, out):
    return main([*map(str, arguments), '--topic', TOPIC, '--out', str(out)])


def test_joint_states_give_labels_that_are_true_and_only_where_they_tell(recording):
    (told,), lacking = labelled_by_hand([recording], read_hand())
    assert lacking == ''
    pairs = [(one.label, true.label) for one, true in zip(
        told.frames, recording.frames, strict=True) if one.label is not None]
    assert len(told.frames) / 3 < len(pairs) < len(told.frames)
    assert {label for label, _ in pairs} == {0, 1}
    assert [pair for pair in pairs if pair[1] is not None and pair[0] is not pair[1]] == []


def test_a_recording_that_is_not_cut_is_cut_where_the_hand_begins_to_close(recording):
    whole = type(recording)(
        recording.name, recording.path, tuple(
            frame._replace(attempt='take', label=None) for frame in recording.frames),
        recording.account, recording.topic, recording.files)
    (told,), _ = labelled_by_hand([whole], read_hand())
    successes = {true.attempt: one.attempt for one, true in zip(
        told.frames, recording.frames, strict=True) if one.label == 1}
    assert len(successes) == 3      # one of them held the object until it slipped
    assert len(set(successes.values())) == 3


def test_a_checkpoint_that_errs_is_mended(
        tmp_path, recording, says_success, capsys):
    for name in 'ab':   # eight attempts: with fewer, nothing is significant
        shutil.copytree(BAG, tmp_path / name)
    out = tmp_path / 'new.safetensors'
    assert adapt(says_success, '--unlabelled', tmp_path / 'a', tmp_path / 'b', out=out) == 0
    said = capsys.readouterr().out
    gained, lost = map(int, re.search(r'\((\d+) gained, (\d+) lost', said).groups())
    assert gained >= 6 > lost
    report = json.loads(out.with_suffix('.adaptation.json').read_text())
    assert [one['name'] for one in report['candidates']] == ['unchanged', 'head']
    assert "hand's joints" in report['not_calibrated'][0]
    assert 'significantly' in out.with_suffix('.html').read_text(encoding='utf-8')
    new = Checkpoint.open(out)
    assert .5 <= new.metadata.threshold <= .6
    assert right(new, recording) > right(Checkpoint.open(says_success), recording) + .2


def right(checkpoint, recording):
    """Return the share of the frames whose true label the checkpoint gives."""
    classifier = GraspClassifier(checkpoint, 'cpu')
    frames = [frame for frame in recording.frames if frame.label is not None]
    said = classifier.predict([image for _, image in recording.read(frames, np.array)])
    return np.mean((said >= classifier.threshold) == np.array([f.label for f in frames]))


def test_frames_that_do_not_help_change_nothing(tmp_path, capsys):
    out = tmp_path / 'new.safetensors'
    assert adapt('cifar_cnn_rig', '--unlabelled', BAG, out=out) == 3
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith('nothing changed: right on attempts that were not learnt')
    assert 'gained' in line
    assert list(tmp_path.iterdir()) == []


def test_recordings_whose_joint_states_tell_too_little_change_nothing(tmp_path, capsys):
    out = tmp_path / 'new.safetensors'
    assert main(['cifar_cnn_rig', '--unlabelled', str(share_path(SAMPLE_BAG)), '--out',
                 str(out)]) == 3
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith('nothing changed: the joint states tell 0 attempts with success '
                           'frames and 8 attempts with failure frames, 2 of each are needed')
    assert '% below 0.2 and' in line
    assert line.endswith('label some 20 attempts with label_attempts instead')
    assert not out.exists()


@pytest.mark.parametrize(('more', 'said'), [
    (['--labels', 'labels.csv', '--roi', '0,0,1,1'], '--labels, --roi: for labelled data'),
    (['--ways', 'head'], '--ways: for labelled data'),
])
def test_options_about_labels_do_not_go_with_unlabelled(tmp_path, more, said, capsys):
    assert main(['cifar_cnn_rig', '--unlabelled', str(BAG), '--out',
                 str(tmp_path / 'new.safetensors'), *more]) == 1
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {said}')


def test_labelled_data_and_unlabelled_are_not_mixed(tmp_path, capsys):
    out = ['--out', str(tmp_path / 'new.safetensors')]
    assert main(['cifar_cnn_rig', 'bags/a', '--unlabelled', str(BAG), *out]) == 1
    assert 'bags/a: labelled data beside --unlabelled' in capsys.readouterr().err
    assert main(['bags/a', '--hand-model', 'hand.json', *out]) == 1
    assert '--hand-model: tells labels of --unlabelled alone' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        main(out)


@pytest.mark.parametrize(('after', 'threshold'), [
    ([.1, .2, .3, .9], .5),         # one failure was above it before, and one is allowed
    ([.1, .2, .55, .9], .55),
    ([.1, .2, .8, .9], .7),         # never above the checkpoint's own
])
def test_the_threshold_lets_no_more_failures_through_than_before(after, threshold):
    before = np.array([.1, .2, .3, .8, .9], np.float32)
    labels = np.array([0, 0, 0, 0, 1], np.float32)
    chosen = lowest_threshold(before, np.array([*after, .95], np.float32), labels, .7)
    assert chosen == pytest.approx(threshold, abs=1e-6)
    if chosen < .7:
        assert sum(said >= chosen for said in after) <= 1


def test_only_a_significant_gain_counts_as_help():
    def trial(gained, lost):
        return Trial(Accuracy(10, 40), Accuracy(10 + gained - lost, 40), gained, lost)

    assert trial(6, 0).helps
    assert not trial(5, 0).helps
    assert not trial(0, 6).helps
    assert not trial(12, 6).helps
