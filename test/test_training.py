"""Training: which layers are trained, the run folder, resuming, bad input."""

import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

from frames import colour_frames, split_frames, write_dataset
import numpy as np
import pytest
import torch

from grasp_success_detector.cli.simulate_grasps import main as simulate_grasps
from grasp_success_detector.cli.train_classifier import main
from grasp_success_detector.datasets.dataset import read_extracted, Split
from grasp_success_detector.datasets.torch_dataset import FrameDataset
from grasp_success_detector.errors import ConfigError, DatasetError, TrainingError
from grasp_success_detector.evaluation.predictions import read_predictions
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import Precision
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.training.fit import fit
from grasp_success_detector.training.recipe import (
    Augmentation,
    load_config,
    Samples,
    TrainingConfig,
)
from grasp_success_detector.training.run_folder import RunFolder
from grasp_success_detector.training.without_hand import read_without_hand

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

PROGRAM = ('import sys; from grasp_success_detector.cli.train_classifier import main; '
           'sys.exit(main(sys.argv[1:]))')
#: As PROGRAM, but the second of two processes is killed in the second epoch.
DIES = """
import os, signal, sys
from grasp_success_detector.cli.train_classifier import main
from grasp_success_detector.training.module import GraspTraining
step = GraspTraining.training_step
def dying(self, *batch):
    if self.current_epoch == 1 and self.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *batch)
GraspTraining.training_step = dying
sys.exit(main())
"""
COMMAND = Path(__file__).resolve().parent.parent / 'libexec/train_classifier'
SMALL = {'architecture': 'cifar_cnn', 'pretrained': False, 'batch_size': 8}


def quiet(line):
    pass


def epochs_of(run):
    return [json.loads(line) for line in (run / 'metrics.jsonl').open()]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Write a data set of 32 attempts."""
    return write_dataset(tmp_path_factory.mktemp('data') / 'set', split_frames(colour_frames(32)))


def test_training_learns_and_leaves_a_whole_run_folder(tmp_path):
    config = TrainingConfig(**SMALL, freeze_conv_layers=0, epochs=8, lr=3e-3, backbone_lr=3e-3,
                            augment=False)
    said: list[str] = []
    run = tmp_path / 'run'
    fit(config, split_frames(colour_frames(48)), run, [tmp_path], say=said.append)
    metrics = json.loads((run / 'metrics.json').read_text())
    assert metrics['test']['frames']['value'] == 1.
    assert metrics['test']['attempts']['total'] == 12
    assert ('test attempts: 12 correct, 0 wrong, 0 unknown; '
            'right 100.0% (12/12, 95 % interval 75.8% to 100.0%)') in said
    epochs = epochs_of(run)
    assert [e['epoch'] for e in epochs] == list(range(1, 9))
    assert epochs[-1]['val_frames']['total'] == 36
    assert epochs[-1]['train_classes']['success']['total'] == 36
    loaded = Checkpoint.open(run / 'classifier.safetensors')
    assert loaded.metadata.training['data']['val']['attempts'] == 12
    assert loaded.metadata.threshold == metrics['threshold']
    assert loaded.metadata.temperature == metrics['temperature']
    summary = json.loads((run / 'run.json').read_text())
    assert summary['parameters']['frozen'] == 0 and len(summary['trainable']) == 10
    predictions = read_predictions(run / 'predictions.csv')
    assert {row.split for row in predictions} == {'val', 'test'} and len(predictions) == 72
    right = [(row.probability >= metrics['threshold']) == (row.label is Label.SUCCESS)
             for row in predictions if row.split == 'test']
    assert sum(right) == metrics['test']['frames']['correct']
    assert sorted(path.name for path in run.iterdir()) == [
        'classifier.safetensors', 'config.yaml', 'metrics.json', 'metrics.jsonl',
        'predictions.csv', 'run.json', 'tensorboard']
    with pytest.raises(ConfigError, match='run: exists already; a run is never overwritten'):
        fit(config, split_frames(colour_frames(48)), run, [tmp_path], say=quiet)


def test_frozen_weights_stay_and_all_others_move(tmp_path):
    from grasp_success_detector.networks.architectures import build

    config = TrainingConfig(**SMALL, freeze_conv_layers=1, epochs=1, seed=5)
    fit(config, split_frames(colour_frames()), tmp_path / 'run', [tmp_path], say=quiet)
    import lightning
    lightning.seed_everything(5, workers=True, verbose=False)
    before = dict(build('cifar_cnn').named_parameters())
    after = dict(Checkpoint.open(tmp_path / 'run/classifier.safetensors').model.named_parameters())
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {'conv1.weight', 'conv1.bias'}


def test_validation_never_sees_what_is_trained_on(tmp_path, monkeypatch):
    split = split_frames(colour_frames(16))
    seen = {}

    def spying(frames, *arguments, **options):
        seen.setdefault(len(seen), {frame.attempt for frame in frames})
        return FrameDataset(frames, *arguments, **options)

    monkeypatch.setattr('grasp_success_detector.training.fit.FrameDataset', spying)
    fit(TrainingConfig(**SMALL, freeze_conv_layers=0, epochs=1), split, tmp_path / 'run',
        [tmp_path], say=quiet)
    train, val, test = seen.values()
    assert train == {f.attempt for f in split.train} and val == {f.attempt for f in split.val}
    assert not train & val and not (train | val) & test
    judged = {row.attempt for row in read_predictions(tmp_path / 'run/predictions.csv')}
    assert not judged & train


@pytest.mark.parametrize(('precision', 'tolerance'), [('32-true', 1e-4), ('bf16-mixed', 4e-3)])
def test_features_computed_once_give_what_the_plain_loop_gives(tmp_path, precision, tolerance):
    runs = []
    for reuse in (False, True):
        config = TrainingConfig(**SMALL, freeze_conv_layers=2, epochs=3, samples='once',
                                precision=precision, reuse_features=reuse)
        out = tmp_path / str(reuse)
        fit(config, split_frames(colour_frames()), out, [tmp_path], say=quiet)
        runs.append(([(e['train_loss'], e['val_loss']) for e in epochs_of(out)],
                     Checkpoint.open(out / 'classifier.safetensors').model.state_dict()))
    (plain_losses, plain), (reused_losses, reused) = runs
    np.testing.assert_allclose(reused_losses, plain_losses, rtol=tolerance)
    for name, tensor in plain.items():
        torch.testing.assert_close(reused[name], tensor, rtol=10 * tolerance, atol=tolerance)
    assert plain_losses[0] != plain_losses[-1]


def test_auto_is_recorded_as_the_precision_that_it_became(tmp_path):
    config = TrainingConfig(**SMALL, freeze_conv_layers=1, epochs=1, precision='auto',
                            device='cpu')
    fit(config, split_frames(colour_frames()), tmp_path / 'run', [tmp_path], say=quiet)
    expected = '32-true' if TorchEngine.unsupported(Precision.BF16, 'cpu') else 'bf16-mixed'
    about = Checkpoint.open(tmp_path / 'run/classifier.safetensors').metadata
    assert about.training['config']['precision'] == expected
    assert load_config(tmp_path / 'run/config.yaml', {}).precision.value == expected


@pytest.mark.parametrize('averaged', [(), ('--average-weights',)])
def test_a_run_killed_after_an_epoch_and_resumed_equals_an_uninterrupted_one(
        dataset, tmp_path, averaged):
    # Slow enough, by many samples, to be killed in the middle of an epoch.
    options = [str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '4',
               '--samples', 'each_epoch', '--samples-per-class', '400', '--batch-size', '8',
               '--freeze-conv-layers', '1', '--device', 'cpu', *averaged]
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    assert main([*options, '--out', str(whole)]) == 0
    process = subprocess.Popen([sys.executable, '-c', PROGRAM, *options, '--out', str(killed)],
                               stdout=subprocess.DEVNULL)
    wait_for(lambda: (killed / 'last.ckpt').is_file() and len(epochs_of(killed)) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / 'run.json').exists()
    # A metrics line of an epoch that was not saved must not stay.
    with (killed / 'metrics.jsonl').open('a') as file:
        file.write('{"epoch": 9}\n')
    assert main([*options, '--out', str(killed), '--resume']) == 0
    for epochs in zip(epochs_of(killed), epochs_of(whole), strict=True):
        assert {**epochs[0], 'seconds': 0} == {**epochs[1], 'seconds': 0}
    assert (killed / 'predictions.csv').read_text() == (whole / 'predictions.csv').read_text()
    results = [Checkpoint.open(run / 'classifier.safetensors') for run in (killed, whole)]
    assert results[0].sha256 == results[1].sha256


def test_the_mean_of_the_weights_lies_between_the_first_and_the_last_ones(tmp_path):
    weights = []
    for name, changed in {'first': {'epochs': 1, 'lr': 1e-12, 'backbone_lr': 1e-12}, 'last': {},
                          'mean': {'average_weights': True}}.items():
        config = TrainingConfig(**{**SMALL, 'freeze_conv_layers': 0, 'epochs': 4,
                                   'weight_decay': 0., 'augment': False, **changed})
        fit(config, split_frames(colour_frames()), tmp_path / name, [tmp_path], say=quiet)
        model = Checkpoint.open(tmp_path / name / 'classifier.safetensors').model
        weights.append(model.state_dict()['fc3.weight'])
    first, last, mean = weights
    way, done = last - first, mean - first
    assert 0 < float((way * done).sum()) < .9 * float((way * way).sum())


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(.02)


def test_ctrl_c_leaves_a_run_that_can_be_resumed(dataset, tmp_path):
    out = tmp_path / 'run'
    options = [str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '300',
               '--samples', 'each_epoch', '--device', 'cpu', '--out', str(out)]
    process = subprocess.Popen([sys.executable, '-c', PROGRAM, *options], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: (out / 'last.ckpt').is_file(), process)
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert f'{out}: the same command with --resume goes on' in printed
    assert err.strip() == 'interrupted'
    assert not list(out.glob('.*')) and not (out / 'run.json').exists()


def test_resume_refuses_another_configuration_and_a_foreign_folder(dataset, tmp_path):
    run = RunFolder(tmp_path / 'run')
    run.begin(TrainingConfig())
    with pytest.raises(ConfigError, match=r'was begun with epochs 4 \(now 9\), lr 0.001 \(now 1'):
        run.resume(TrainingConfig(epochs=9, lr=1.))
    run.resume(TrainingConfig(workers=2, device='cpu'))
    with pytest.raises(ConfigError, match='a run is never overwritten, .* continue it with --res'):
        run.begin(TrainingConfig())
    (tmp_path / 'other').mkdir()
    with pytest.raises(ConfigError, match='other: no run of train_classifier'):
        RunFolder(tmp_path / 'other').resume(TrainingConfig())


def test_a_finished_run_is_left_alone_by_resume(dataset, tmp_path, capsys):
    options = [str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '1',
               '--device', 'cpu', '--out', str(tmp_path / 'run'), '--resume']
    assert main(options) == 0
    assert 'no run is there yet; it begins' in capsys.readouterr().out
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'run').iterdir() if p.is_file()}
    assert main(options) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / 'run').iterdir() if p.is_file()} == before


def test_pictures_without_a_hand_become_unfamiliar_and_the_answers_of_teachers_are_learnt(
        dataset, tmp_path, capsys):
    assert simulate_grasps([str(tmp_path / 'world'), '--preset', 'world', '--attempts', '4',
                            '--frames', '2', '--width', '128', '--height', '96']) == 0
    out = tmp_path / 'run'
    arguments = [
        str(dataset), '--out', str(out), '--size', '64', '--epochs', '1', '--batch-size', '8',
        '--samples-per-class', '64', '--samples', 'each_epoch', '--no-augment',
        '--teacher', 'cifar_cnn_rig', 'cifar_cnn_world', '--without-hand', str(tmp_path / 'world')]
    assert main(arguments) == 0
    classifier = GraspClassifier.from_checkpoint(out / 'classifier.safetensors')
    assert classifier.metadata.familiarity.hand is not None
    shown = read_without_hand([str(tmp_path / 'world')], classifier.preprocessing)
    known = FrameDataset(read_extracted(dataset).train, classifier.preprocessing)
    frames = [seen.image for seen in known.views(range(len(known)))]
    means = [classifier.engine.logits(np.stack(images)).mean() for images in (frames, shown)]
    assert means[0] > means[1] + 1
    with torch.no_grad():   # the teachers know nothing of the labels of these colours
        taught = np.mean([GraspClassifier.from_checkpoint(name).predict(frames)
                          for name in ('cifar_cnn_rig', 'cifar_cnn_world')], 0)
    assert abs(classifier.predict_prepared(np.stack(frames)).mean() - taught.mean()) < .15
    capsys.readouterr()
    for change, text in ((['--samples', 'once'], 'need the samples each_epoch'),
                         (['--arch', 'cifar_cnn'], 'cannot tell what is unfamiliar'),
                         (['--augmentation', 'mirror'], '--no-augment and --augmentation'),
                         (['--teacher', 'cifar_rig'], 'cifar_rig'),
                         (['--without-hand', str(tmp_path)], 'not a readable bag')):
        assert main([*arguments, '--out', str(tmp_path / 'other'), *change]) == 1
        assert text in capsys.readouterr().err
        assert not (tmp_path / 'other').exists()


def test_two_processes_of_which_one_is_killed_get_the_metrics_of_one(dataset, tmp_path):
    options = [str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '3',
               '--samples', 'each_epoch', '--batch-size', '8', '--freeze-conv-layers', '0',
               '--device', 'cpu']
    assert main([*options, '--out', str(tmp_path / 'one')]) == 0
    dies = tmp_path / 'dies.py'
    dies.write_text(DIES, encoding='utf-8')
    printed = []
    for program, more, code in ((dies, [], 1), (COMMAND, ['--resume'], 0)):
        done = subprocess.run([sys.executable, str(program), *options, *more,
                               '--devices', '2', '--out', str(tmp_path / 'two')],
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        printed.append(done)
    assert re.fullmatch('error: another of the 2 processes of this training has ended or cannot '
                        r'be reached \(.*\); the same commands with --resume go on after .*\n',
                        printed[0].stderr)
    # One of them reports.
    assert [done.stdout.count(f'epoch {n}/3') for n, done in zip((1, 2), printed, strict=True)
            ] == [1, 1]
    assert printed[1].stdout.count('checkpoint: ') == 1
    one, two = (epochs_of(tmp_path / name) for name in ('one', 'two'))
    for key in ('train_loss', 'val_loss'):
        np.testing.assert_allclose([e[key] for e in two], [e[key] for e in one], rtol=1e-4)
    assert [e['val_frames'] for e in two] == [e['val_frames'] for e in one]
    results = [json.loads((tmp_path / name / 'metrics.json').read_text())
               for name in ('one', 'two')]
    assert results[0]['test']['frames'] == results[1]['test']['frames']


def test_torchrun_with_another_number_of_processes_is_one_line(tmp_path, capsys, monkeypatch):
    for name, value in (('TORCHELASTIC_RUN_ID', 'none'), ('LOCAL_WORLD_SIZE', '2'),
                        ('WORLD_SIZE', '4')):
        monkeypatch.setenv(name, value)
    assert main(['nowhere', '--devices', '2', '--out', str(tmp_path / 'run')]) == 1
    assert capsys.readouterr().err == (
        'error: torchrun has started 2 of 4 processes here, expected 2 of 2; give its '
        '--nproc-per-node as --devices too, and its --nnodes as --num-nodes\n')
    assert not (tmp_path / 'run').exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_epoch(tmp_path, monkeypatch):
    from grasp_success_detector.training.module import GraspTraining
    step = GraspTraining.training_step

    def poisoned(self, batch, batch_index):
        if self.current_epoch == 2:
            with torch.no_grad():
                self.model.fc3.weight.fill_(float('inf'))
        return step(self, batch, batch_index)

    monkeypatch.setattr(GraspTraining, 'training_step', poisoned)
    config = TrainingConfig(**SMALL, epochs=4)
    with pytest.raises(TrainingError, match=r'the loss is nan in epoch 3, step 1; the best epoch '
                       r'before is kept in .*best.safetensors; try a lower --lr'):
        fit(config, split_frames(colour_frames()), tmp_path / 'run', [tmp_path], say=quiet)
    assert Checkpoint.open(tmp_path / 'run/best.safetensors').metadata.architecture == 'cifar_cnn'
    assert len(epochs_of(tmp_path / 'run')) == 2


def test_weights_that_overflow_in_the_last_step_of_an_epoch_are_that_error_too(tmp_path):
    config = TrainingConfig(architecture='cifar_cnn', pretrained=False, batch_size=256, lr=1e30,
                            backbone_lr=1e30, optimizer='sgd', schedule='constant')
    with pytest.raises(TrainingError, match='^the validation loss is nan in epoch 1; no epoch'):
        fit(config, split_frames(colour_frames()), tmp_path / 'run', [tmp_path], say=quiet)


def test_too_high_a_learning_rate_really_diverges_into_that_error(dataset, tmp_path, capsys):
    assert main([str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--optimizer', 'sgd',
                 '--lr', '1e30', '--backbone-lr', '1e30', '--schedule', 'constant', '--device',
                 'cpu', '--freeze-conv-layers', '0', '--out', str(tmp_path / 'run')]) == 1
    err = capsys.readouterr().err
    assert re.search('^error: the loss is (nan|inf) in epoch 1, step .*no epoch was finished', err)


def test_early_stopping(tmp_path):
    config = TrainingConfig(**SMALL, epochs=50, patience=2, lr=1e-9, backbone_lr=1e-9,
                            schedule='constant', augment=False, label_smoothing=.2, seed=1)
    said = []
    fit(config, split_frames(colour_frames()), tmp_path / 'run', [tmp_path], say=said.append)
    assert 'stopped: no lower validation loss in 2 epochs' in said
    best = json.loads((tmp_path / 'run/run.json').read_text())['best_epoch']
    assert len(epochs_of(tmp_path / 'run')) == best + 2


def test_command_trains_and_says_what_is_frozen(dataset, tmp_path, capsys):
    out = tmp_path / 'run'
    assert main([str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '1',
                 '--device', 'cpu', '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r'parameters frozen: conv1, conv2\n.*learn: fc1, fc2, fc3\n', printed)
    assert re.search(r'epoch 1/1: loss \S+, validation loss .*; training images: fail', printed)
    assert re.search(r'test attempts: \d+ correct, \d+ wrong, \d+ unknown; right \S+ \(', printed)
    assert f'report: {out / "report.html"}\n' in printed and (out / 'report.html').is_file()
    assert Checkpoint.open(out / 'classifier.safetensors').metadata.architecture == 'cifar_cnn'


def test_a_data_set_of_another_day_can_be_the_test(dataset, tmp_path, capsys):
    other = write_dataset(tmp_path / 'other', split_frames(colour_frames(16, source='other')))
    options = [str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '1',
               '--device', 'cpu']
    assert main([*options, '--test', str(other), '--out', str(tmp_path / 'run')]) == 0
    summary = json.loads((tmp_path / 'run/run.json').read_text())
    assert summary['data']['test'] == {
        'sources': ['other'], 'frames': 48, 'attempts': 16, 'success_frames': 24}
    assert (summary['dataset'], summary['test_dataset']) == (str(dataset), str(other))
    assert main([*options, '--test', str(dataset), '--out', str(tmp_path / 'none')]) == 1
    assert re.search('of its attempts are also in', capsys.readouterr().err)
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(('arguments', 'text'), [
    (['nowhere'], 'nowhere: no such bag, video or picture'),
    (['nowhere', '--arch', 'vgg'], "unknown architecture 'vgg'; expected one of cifar_cnn, res"),
    (['nowhere', '--epochs', '0', '--lr', '-1'],
     r'epochs 0 \(expected a whole number of 1 or more\), lr -1.0 '),
    (['nowhere', '--config', 'none.yaml'], 'none.yaml: cannot read the training configuration'),
    (['nowhere', '--device', 'tpu'], r"device 'tpu' \(expected auto or cpu or gpu"),
    (['nowhere', '--devices', '3'], r'batch_size 32 \(expected a multiple of the 3 devices'),
])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, '--out', 'run']) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err) and err.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('recipe', 'text'), [
    ('lr: .inf', r'lr inf \(expected a number above 0\)'),
    ('lr: .nan', r'lr nan \(expected a number above 0\)'),
    ('backbone_lr: fast', r"backbone_lr 'fast' \(expected a number above 0\)"),
    ('weight_decay: [1, 2]', r'weight_decay \[1, 2\] \(expected a number of 0 or more\)'),
    ('architecture: [1]', r'architecture \[1\] \(expected text\)'),
    ('optimizer: {a: 1}', r"optimizer \{'a': 1\} \(expected adamw or sgd\)"),
    ('seed: 99999999999', r'seed 99999999999 \(expected a whole number from 0 to 4294967295\)'),
    ('augmentation: sensor_noise', r"augmentation 'sensor_noise' \(expected a list, each shift_")])
def test_an_impossible_value_in_a_recipe_is_one_line(dataset, tmp_path, capsys, recipe, text):
    file = tmp_path / 'recipe.yaml'
    file.write_text(recipe, encoding='utf-8')
    assert main([str(dataset), '--config', str(file), '--out', str(tmp_path / 'run')]) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: training: {text}', err) and err.count('\n') == 1
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('place', ['file/run', '/proc/run'])
def test_a_run_folder_that_cannot_be_made_is_one_line(dataset, tmp_path, capsys, place):
    (tmp_path / 'file').touch()
    out = tmp_path / place
    for more in ((), ('--resume',)):
        assert main([str(dataset), '--arch', 'cifar_cnn', '--no-pretrained', '--device', 'cpu',
                     '--out', str(out), *more]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f'error: {out}: cannot be made (') and err.count('\n') == 1


def test_everything_is_utf_8_whatever_the_locale(tmp_path):
    """Names of attempts reach predictions.csv, metrics and report under an ASCII locale."""
    folder = write_dataset(tmp_path / 'set', split_frames(colour_frames(16)))
    manifest = folder / 'manifest.csv'
    manifest.write_text(re.sub(r'\bmade\b/', 'grün/', manifest.read_text(encoding='utf-8')),
                        encoding='utf-8')
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('# grün\nepochs: 1\n', encoding='utf-8')
    done = subprocess.run(
        [sys.executable, str(COMMAND), str(folder), '--arch', 'cifar_cnn', '--no-pretrained',
         '--device', 'cpu', '--config', str(recipe), '--out', str(tmp_path / 'run')],
        env={**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'},
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = read_predictions(tmp_path / 'run/predictions.csv')
    assert {row.attempt.split('/')[0] for row in rows} == {'grün'}
    assert '·' in (tmp_path / 'run/report.html').read_text(encoding='utf-8')


def test_a_data_set_that_cannot_be_trained_on_names_all_culprits(tmp_path, capsys):
    frames = colour_frames(16)
    one_class = write_dataset(tmp_path / 'one', split_frames([f for f in frames if f.label]))
    assert fails(one_class, tmp_path, capsys).startswith(
        'error: these splits lack frames of a label: train (')
    one_attempt = write_dataset(tmp_path / 'attempt', Split(tuple(frames[:3]), (), ()))
    # Without frames of its own, val takes those of train.
    assert ('train (1 attempt: 0 failure, 3 success); val (1 attempt: 0 failure, 3 success); '
            'test (0 attempts') in fails(one_attempt, tmp_path, capsys)
    broken = write_dataset(tmp_path / 'broken', split_frames(frames))
    culprits = sorted(broken.glob('*/*.jpg'))[3:5]
    for culprit in culprits:
        culprit.write_bytes(b'no picture any more')
    err = fails(broken, tmp_path, capsys)
    assert '2 frames not what was extracted' in err
    assert all(str(culprit.relative_to(broken)) in err for culprit in culprits)
    mislabelled = write_dataset(tmp_path / 'mis', split_frames(frames))
    manifest = mislabelled / 'manifest.csv'
    manifest.write_text(re.sub(
        r'(success/\S+?),success', r'\1,failure', manifest.read_text(), count=2))
    assert '2 frames in the folder of another label' in fails(mislabelled, tmp_path, capsys)
    lost = sorted(broken.glob('*/*.jpg'))[0]
    lost.unlink()
    assert f'1 frame missing: {lost.relative_to(broken)};' in fails(broken, tmp_path, capsys)


def fails(folder: Path, tmp_path, capsys):
    assert main([str(folder), '--arch', 'cifar_cnn', '--no-pretrained',
                 '--out', str(tmp_path / 'run')]) == 1
    assert not (tmp_path / 'run').exists()
    err = capsys.readouterr().err
    assert err.count('\n') == 1
    return err


def test_frames_keep_their_files(dataset):
    split = read_extracted(dataset)
    assert {frame.file.split('/')[0] for frame in split.val} == {'failure', 'success'}
    with pytest.raises(DatasetError, match='no data set'):
        read_extracted(dataset.parent)


def test_config_file_gives_way_to_options_and_knows_its_fields(tmp_path):
    file = tmp_path / 'recipe.yaml'
    file.write_text('architecture: cifar_cnn\nepochs: 7\naugmentation: [sensor_noise]\n')
    config = load_config(file, {'epochs': 9, 'lr': None})
    assert (config.architecture, config.epochs) == ('cifar_cnn', 9)
    assert config.augmentation == (Augmentation.SENSOR_NOISE,)
    file.write_text('epoch: 7\nrate: 1\n')
    with pytest.raises(ConfigError, match='unknown training options epoch, rate; known: archi'):
        load_config(file, {})
    file.write_text('- 1\n')
    with pytest.raises(ConfigError, match='expected a YAML mapping'):
        load_config(file, {})
    file.write_text('epochs: many\nlr: true\nprecision: 8\npatience: 1.5\n')
    with pytest.raises(ConfigError, match=(
            r"epochs 'many' \(expected a whole number of 1 or more\), "
            r'patience 1.5 \(expected a whole number of 1 or more\), '
            r'lr True \(expected a number above 0\), '
            r'precision 8 \(expected auto or 32-true or bf16-mixed or 16-mixed\)')):
        load_config(file, {})


@pytest.mark.parametrize('architecture', ['cifar_cnn', 'resnet34', 'efficientnet_lite0'])
def test_every_architecture_ships_its_recipe(architecture):
    config = load_config(None, {'architecture': architecture})
    assert config.architecture == architecture
    assert (config.epochs, config.samples, config.samples_per_class) == (4, Samples.ONCE, 1000)
