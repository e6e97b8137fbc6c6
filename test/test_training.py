"""Training: honest splits, what learns and what does not, the run folder, bad input."""

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grasp_success_detector import checkpoint
from grasp_success_detector.cli.train_classifier import main
from grasp_success_detector.data.recordings import LabelledFrame, read_labelled_frames
from grasp_success_detector.data.splits import outcomes, split_attempts
from grasp_success_detector.decision import DecisionConfig
from grasp_success_detector.errors import BagError, ConfigError, DatasetError
from grasp_success_detector.evaluation.calibration import fit_temperature
from grasp_success_detector.evaluation.metrics import (
    Accuracy,
    attempt_accuracy,
    attempt_verdicts,
    class_accuracy,
    frame_accuracy,
)
from grasp_success_detector.image import encode_jpeg
from grasp_success_detector.labels import Label, Verdict
from grasp_success_detector.simulation.recorder import record
from grasp_success_detector.simulation.recording import Recording
from grasp_success_detector.training.config import load_config, TrainingConfig
from grasp_success_detector.training.fit import fit, make_split


def colour_frames(attempts: int = 20, per_attempt: int = 3) -> list[LabelledFrame]:
    """Make frames that any network can tell apart: green is success, red failure."""
    rng = np.random.default_rng(0)
    frames = []
    for attempt in range(attempts):
        label = Label(attempt % 2)
        for i in range(per_attempt):
            image = rng.integers(0, 60, (40, 40, 3), np.uint8)
            image[..., int(label)] += 160
            message = SimpleNamespace(format='jpeg', data=encode_jpeg(image))
            frames.append(LabelledFrame(message, label, 'made', f'made/{attempt}', i * 10 ** 8))
    return frames


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """Record 16 small simulated attempts."""
    path = tmp_path_factory.mktemp('bags') / 'grasps'
    record(Recording(attempts=16, frames=4, seed=2, width=64, height=48), path)
    return path


def test_attempts_are_never_divided_and_the_seed_decides():
    frames = colour_frames(40)
    attempts, labels = [f.attempt for f in frames], [f.label for f in frames]
    first = split_attempts(attempts, labels, (.5, .25, .25), seed=1)
    assert first == split_attempts(attempts, labels, (.5, .25, .25), seed=1)
    assert first != split_attempts(attempts, labels, (.5, .25, .25), seed=2)
    assert [list(first.values()).count(name) for name in ('train', 'val', 'test')] == [20, 10, 10]
    split = make_split(frames, TrainingConfig(split=(.5, .25, .25)))
    groups = [{f.attempt for f in part} for part in (split.train, split.val, split.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert set.union(*groups) == set(attempts)
    for part in (split.train, split.val, split.test):
        ends = list(outcomes([f.attempt for f in part], [f.label for f in part]).values())
        assert ends.count(Label.SUCCESS) == len(ends) // 2


def test_a_test_recording_of_its_own_keeps_the_rest_for_training():
    frames = colour_frames(20)
    others = [LabelledFrame(f.message, f.label, 'other', f'other/{f.attempt}', f.stamp_ns)
              for f in colour_frames(4)]
    split = make_split(frames, TrainingConfig(), others)
    assert split.test == tuple(others)
    assert len(split.train) + len(split.val) == len(frames)
    with pytest.raises(DatasetError, match='4 attempts are in the training and the test'):
        make_split(frames, TrainingConfig(), frames[:12])


@pytest.mark.parametrize(('frames', 'text'), [
    ([f for f in colour_frames() if f.label], r'train \(0 failure, \d+ success\)'),
    (colour_frames(2), 'too few attempts: 2 leave'),
])
def test_frames_that_cannot_be_split_honestly_are_refused(frames, text):
    with pytest.raises(DatasetError, match=text):
        make_split(frames, TrainingConfig())


def test_training_learns_and_leaves_a_whole_run_folder(tmp_path):
    frames = colour_frames(40)
    config = TrainingConfig(
        architecture='cifar_cnn', pretrained=False, freeze_depth=0, epochs=8, batch_size=8,
        lr=3e-3, backbone_lr=3e-3, augment=False)
    said: list[str] = []
    metadata = fit(config, make_split(frames, config), tmp_path / 'run', said.append)
    assert metadata.metrics['test']['frames']['value'] == 1.
    assert metadata.metrics['test']['attempts']['total'] == 6
    assert 'test attempts: 100.0% (6/6, 95 % interval 61.0% to 100.0%)' in said
    epochs = [json.loads(line) for line in (tmp_path / 'run/metrics.jsonl').open()]
    assert [e['epoch'] for e in epochs] == list(range(1, 9))
    assert epochs[-1]['val_frames']['total'] == 18
    loaded = checkpoint.load(tmp_path / 'run/classifier.safetensors')
    assert loaded.metadata.training['data']['val']['attempts'] == 6
    assert not (tmp_path / 'run/best.safetensors').exists()
    rows = list(csv.DictReader((tmp_path / 'run/splits.csv').open()))
    assert len(rows) == 40 and len({row['attempt'] for row in rows}) == 40
    with pytest.raises(ConfigError, match='run: exists already; a run is never overwritten'):
        fit(config, make_split(frames, config), tmp_path / 'run', said.append)


def test_frozen_weights_stay_and_all_others_move(tmp_path):
    from grasp_success_detector.architectures import build

    frames = colour_frames(20)
    config = TrainingConfig(architecture='cifar_cnn', pretrained=False, freeze_depth=1, epochs=1,
                            batch_size=4, seed=5)
    torch.manual_seed(0)
    fit(config, make_split(frames, config), tmp_path / 'run', lambda line: None)
    import lightning
    lightning.seed_everything(5, workers=True, verbose=False)
    before = dict(build('cifar_cnn').named_parameters())
    after = dict(checkpoint.load(tmp_path / 'run/classifier.safetensors').model.named_parameters())
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {'conv1.weight', 'conv1.bias'}


@pytest.mark.parametrize('precision', ['32-true', 'bf16-mixed'])
def test_features_computed_once_give_what_the_plain_loop_gives(tmp_path, precision):
    frames = colour_frames(20)
    runs = []
    for samples in ('each_epoch', 'once'):
        config = TrainingConfig(
            architecture='cifar_cnn', pretrained=False, freeze_depth=2, epochs=3, batch_size=8,
            augment=False, samples=samples, precision=precision)
        out = tmp_path / samples
        fit(config, make_split(frames, config), out, lambda line: None)
        losses = [json.loads(line)['val_loss'] for line in (out / 'metrics.jsonl').open()]
        runs.append((losses, checkpoint.load(out / 'classifier.safetensors').model.state_dict()))
    (plain_losses, plain), (cached_losses, cached) = runs
    np.testing.assert_allclose(cached_losses, plain_losses, rtol=1e-4)
    for name, tensor in plain.items():
        torch.testing.assert_close(cached[name], tensor, rtol=1e-3, atol=1e-5)
    assert plain_losses[0] != plain_losses[-1]


def test_command_trains_on_a_simulated_bag(bag, tmp_path, capsys):
    out = tmp_path / 'run'
    assert main([str(bag), '--arch', 'cifar_cnn', '--epochs', '1', '--batch-size', '8',
                 '--split', '.5', '.25', '.25', '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r'epoch 1/1: loss \S+, validation loss', printed)
    assert re.search(r'test attempts: \S+ \(\d+/\d+, 95 % interval', printed)
    assert checkpoint.load(out / 'classifier.safetensors').metadata.architecture == 'cifar_cnn'


@pytest.mark.parametrize(('arguments', 'text'), [
    (['nowhere'], 'nowhere: no such bag'),
    (['nowhere', '--arch', 'vgg'], 'unknown architecture'),
    (['nowhere', '--epochs', '0', '--lr', '-1'], r'epochs 0 \(expected 1 or more\), lr -1.0'),
    (['nowhere', '--config', 'none.yaml'], 'none.yaml: cannot read the training configuration'),
])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, '--out', 'run']) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err) and err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_bags_without_labels_or_of_one_name_are_refused(bag, tmp_path):
    video = tmp_path / 'video'
    record(Recording(attempts=1, frames=2, width=64, height=48), video, jobs=1)
    with pytest.raises(DatasetError, match='a second bag named grasps'):
        read_labelled_frames([bag, bag])
    with pytest.raises(BagError, match='no image topic /other; image topics here: /camera/'):
        read_labelled_frames([video], '/other')


def test_config_file_gives_way_to_options_and_knows_its_fields(tmp_path):
    file = tmp_path / 'recipe.yaml'
    file.write_text('architecture: cifar_cnn\nepochs: 7\nsplit: [0.8, 0.1, 0.1]\n')
    config = load_config(file, {'epochs': 9, 'lr': None})
    assert (config.architecture, config.epochs, config.split) == ('cifar_cnn', 9, (.8, .1, .1))
    file.write_text('epoch: 7\nrate: 1\n')
    with pytest.raises(ConfigError, match='unknown training options epoch, rate; known: archi'):
        load_config(file, {})
    file.write_text('- 1\n')
    with pytest.raises(ConfigError, match='expected a YAML mapping'):
        load_config(file, {})
    file.write_text('epochs: many\n')
    with pytest.raises(ConfigError, match='a value of the wrong kind'):
        load_config(file, {})


@pytest.mark.parametrize('architecture', ['cifar_cnn', 'resnet34', 'efficientnet_lite0'])
def test_every_architecture_ships_its_recipe(architecture):
    assert load_config(None, {'architecture': architecture}).architecture == architecture


def test_temperature_undoes_overconfidence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 2, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3, labels) == pytest.approx(3., rel=.1)
    always_right = fit_temperature(torch.tensor([[2., -2.]] * 4), torch.zeros(4))
    assert .05 <= always_right < .5


def test_metrics_count_frames_classes_and_attempts():
    probabilities = np.array([.9, .2, .8, .4, .6])
    labels = [Label.SUCCESS, Label.FAILURE, Label.FAILURE, Label.SUCCESS, Label.SUCCESS]
    assert frame_accuracy(probabilities, labels, .5) == Accuracy(3, 5)
    assert class_accuracy(probabilities, labels, .5) == {
        'failure': Accuracy(1, 2), 'success': Accuracy(2, 3)}
    assert str(Accuracy(32, 32)) == '100.0% (32/32, 95 % interval 89.3% to 100.0%)'
    # An early success that is lost counts as what its last half second says.
    stamps = [i * 2 * 10 ** 8 for i in range(8)]
    lost = attempt_verdicts(np.array([.9] * 4 + [.1] * 4), stamps, ['a'] * 8,
                            DecisionConfig(min_frames=2))
    assert lost == {'a': Verdict.FAILURE}
    one = attempt_verdicts(np.array([.9]), [0], ['b'], DecisionConfig(min_frames=2))
    assert one == {'b': Verdict.UNKNOWN}
    assert attempt_accuracy(lost | one, {'a': Label.FAILURE, 'b': Label.SUCCESS}) == Accuracy(1, 2)
