"""adapt_classifier: from few labelled attempts to a checkpoint, and what it refuses."""

import json
import os
import re

import numpy as np
from processes import start
import pytest
from report_page import Page
from rig_bag import write_rig_bag
import torch

from grasp_success_detector.cli.adapt_classifier import main
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.evaluation.operating_point import least_temperature, operating_point
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import build, default_preprocessing
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.training.adaptation.backbone import Backbone
from grasp_success_detector.training.adaptation.blocks import fine_tune, FineTuning
from grasp_success_detector.training.adaptation.candidates import choose
from grasp_success_detector.training.adaptation.cross_validation import Grouping, score
from grasp_success_detector.training.adaptation.frames import check_labels, FrameOrigin
from grasp_success_detector.training.adaptation.head import fit_head, Head

pytestmark = pytest.mark.usefixtures('one_thread')


def perfect(attempts):
    """Return logits, labels and attempts of as many right attempts of each label, very sure."""
    labels = [Label(i % 2) for i in range(2 * attempts)]
    margins = np.array([6. if label else -6. for label in labels], np.float32)
    return np.stack([-margins / 2, margins / 2], 1), labels, [str(i) for i in range(len(labels))]


@pytest.mark.parametrize(('attempts', 'lowest'), [(2, 2.), (10, 2.), (20, 1.), (40, .5)])
def test_few_attempts_without_an_error_do_not_sharpen_the_probability(attempts, lowest):
    assert least_temperature(attempts) == pytest.approx(lowest)
    point = operating_point(*perfect(attempts), .01)
    assert point.temperature == pytest.approx(lowest)
    assert any('temperature' in note for note in point.notes)


def test_no_threshold_is_chosen_from_few_attempts_and_a_note_says_so():
    few, many = (operating_point(*perfect(count), .01) for count in (4, 120))
    assert few.threshold == .5
    assert any('threshold not chosen' in note for note in few.notes)
    assert not any('threshold' in note for note in many.notes)


def test_a_head_separates_what_can_be_separated_and_stays_cautious_with_few_frames():
    torch.manual_seed(0)
    labels = torch.tensor([0., 1.] * 20)
    features = torch.randn(40, 64) + labels[:, None]
    weights = torch.full((40,), 1 / 40)
    head = fit_head(features, labels, weights, .3)
    assert ((head.margins(features) > 0) == (labels > 0)).all()
    few = fit_head(features[:4], labels[:4], torch.full((4,), .25), .3)
    assert torch.isfinite(few.weight).all()
    assert few.margins(features[:4]).abs().max() < 20


@pytest.mark.parametrize('seed', range(5))
def test_every_label_stays_in_the_other_folds(seed):
    attempts = ['both', 'both', 'up', 'down', 'down 2', 'down 3']
    labels = np.array([0, 1, 1, 0, 0, 0], np.float32)
    grouping = Grouping.of(labels, attempts)
    folds = grouping.folds(5, seed)
    assert sorted(np.concatenate(folds)) == list(range(6))
    for fold in folds:
        rest = np.setdiff1d(np.arange(6), fold)
        assert set(labels[rest]) == {0., 1.}
        assert not set(grouping.attempts[rest]) & set(grouping.attempts[fold])
        assert grouping.weights(rest).sum() == pytest.approx(1)


def test_the_simplest_candidate_is_kept_unless_another_is_clearly_better():
    labels = np.array([0, 1] * 20, np.float32)
    grouping = Grouping.of(labels, [str(i) for i in range(40)])
    good = np.where(labels > 0, 3, -3).astype(np.float32)
    bad = np.random.default_rng(0).normal(size=40).astype(np.float32)
    good_score, bad_score = (score(margins, grouping) for margins in (good, bad))
    assert choose([good_score, good_score]) == 0
    assert choose([bad_score, good_score]) == 1


def test_blocks_learn_on_the_features_of_the_trunk_and_leave_it_and_the_start_alone():
    torch.manual_seed(0)
    start = Backbone('start', 'efficientnet_lite0', build('efficientnet_lite0').eval())
    preprocessing = default_preprocessing('efficientnet_lite0')
    images = np.random.default_rng(0).integers(0, 60, (8, 224, 224, 3), np.uint8)
    labels = torch.tensor([0., 1.] * 4)
    images[labels > 0, :, :112] += 160
    trunk, looks = start.trunk_features(images, preprocessing)
    assert looks.shape == (8, 80)
    pooled = start.pooled(images, preprocessing)
    np.testing.assert_allclose(start.pooled_of_trunk(trunk), pooled, atol=.01, rtol=.01)
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    tuned = fine_tune(start, Head(torch.zeros(1280), torch.zeros(())), trunk[:, None], labels,
                      torch.full((8,), 1 / 8), 0, FineTuning(steps=8))
    changed = {name for name, value in tuned.model.state_dict().items()
               if not torch.equal(value, before[name])}
    assert all(torch.equal(value, before[name])
               for name, value in start.model.state_dict().items())
    assert {name.split('.')[0] for name in changed} == {'blocks', 'conv_head', 'bn2', 'classifier'}
    assert {'.'.join(name.split('.')[:3]) for name in changed if name.startswith('blocks')} == {
        'blocks.5.3', 'blocks.6.0'}
    assert not any('running' in name for name in changed)

    with torch.no_grad():
        logits = tuned.model(preprocessing.normalize(torch.from_numpy(images)))
    assert torch.nn.functional.cross_entropy(logits, labels.long()) < .6


@pytest.mark.parametrize(('given', 'said'), [
    ([('a', None), ('b', None)], 'none of the 2 frames has a label'),
    ([('a', 0), ('b', 0), ('c', 0)], '0 attempts with success frames'),
    ([('a', 0), ('b', 0), ('c', 1)], 'expected at least 2 of each'),
])
def test_data_from_which_nothing_can_be_learnt_is_refused(given, said):
    origins = [FrameOrigin('bag', attempt, None if label is None else Label(label), 0.)
               for attempt, label in given]
    with pytest.raises(DatasetError, match=said):
        check_labels(origins)


@pytest.mark.slow
def test_it_adapts_the_shipped_small_checkpoint_twice_alike(tmp_path, capsys):
    write_rig_bag(tmp_path / 'rig', attempts=6)
    results = []
    for name in ('a', 'b'):
        out = tmp_path / f'{name}.safetensors'
        assert main(['cifar_cnn_rig', str(tmp_path / 'rig'), '--ways', 'head', '--out',
                     str(out)]) == 0
        # A run that is killed must not leave a checkpoint without them.
        assert out.stat().st_ctime_ns >= max(
            out.with_suffix(f'.{other}').stat().st_ctime_ns for other in (
                'adaptation.json', 'html'))
        results.append((Checkpoint.open(out),
                        json.loads(out.with_suffix('.adaptation.json').read_text())))
    (first, told), (second, told_again) = results
    assert told == told_again
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name])
    assert first.metadata.threshold == .5
    assert first.metadata.temperature >= 2
    assert told['accuracy'].keys() == {'right', 'total', 'low', 'high'}
    assert {'attempts', 'accuracy', 'low', 'high'} == told['learning_curve'][0].keys()
    said = capsys.readouterr().out
    assert 'threshold not chosen' in said
    for figure in (r'head alone: .*%\), at threshold 0\.5', 'learning curve .* at threshold 0.5:',
                   r'right on .*%\), at threshold 0\.5, that of the checkpoint'):
        assert re.search(f'^{figure}$', said, re.MULTILINE)
    page = Page((tmp_path / 'a.html').read_text(encoding='utf-8'))
    assert page.needs_nothing_else
    assert {'Ways of adapting', 'More labels and calibration'} <= set(page.headings)


@pytest.mark.parametrize(('arguments', 'said'), [
    (['cifar_cnn_rig', '--out', 'new.safetensors'], 'a checkpoint, but no data'),
    (['no.safetensors', 'bag', '--out', 'new.safetensors'], 'no such file'),
    (['cifar_cnn_wrold', 'bag', '--out', 'new.safetensors'],
     'no such file; expected a checkpoint of train_classifier (.safetensors), or the name of a '
     'shipped checkpoint: efficientnet_lite0_world, efficientnet_lite0_rig, cifar_cnn_world, '
     'cifar_cnn_rig; did you mean cifar_cnn_world?'),
    (['bag', '--out', 'new.pt'], 'ends with .safetensors'),
    (['there.safetensors', 'bag', '--out', 'there.safetensors'], 'exists already'),
    (['foreign.safetensors', 'bag', '--out', 'new.safetensors'], 'is no safetensors file'),
])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    for name in ('there', 'foreign'):
        (tmp_path / f'{name}.safetensors').write_text('no checkpoint of ours')
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count('\n') == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_file_that_appears_at_the_place_of_the_result_is_left_as_it_is(tmp_path):
    write_rig_bag(tmp_path / 'rig', attempts=6)
    out = tmp_path / 'new.safetensors'
    process = start('adapt_classifier', 'cifar_cnn_rig', tmp_path / 'rig', '--ways', 'head',
                    '--out', out, env=os.environ | {'PYTHONUNBUFFERED': '1'})
    assert 'frames with a label' in process.stdout.readline()   # the place was free until now
    out.write_text('precious')
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert 'new.safetensors: exists already' in error
    assert out.read_text() == 'precious'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['new.safetensors', 'rig']
