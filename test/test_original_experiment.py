"""The original experiment on two folders of pictures: its page, going on, bad input."""

import json

import numpy as np
import pytest

from grasp_success_detector.cli.original_experiment import main
from grasp_success_detector.datasets.dataset import LabelledFrame, Split
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import Label
from grasp_success_detector.training import original_experiment
from grasp_success_detector.training.original_experiment import experiment_split
from grasp_success_detector.training.run_folder import read_run

SMALL = ('--per-class', '8', '--epochs', '1')


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Let no weights be found: an empty cache, and a proxy that refuses connections."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')


def two_folders(folder, attempts, per_attempt=2):
    """Write success/ and failure/, with pictures of a running number for each attempt."""
    rng = np.random.default_rng(0)
    for label in Label:
        (folder / label.name.lower()).mkdir(parents=True)
        for attempt in range(attempts):
            for i in range(per_attempt):
                image = rng.integers(0, 60, (40, 40, 3), np.uint8)
                image[..., int(label)] += 160
                (folder / label.name.lower() / f'{label.name}{attempt}_{i:04}.jpg').write_bytes(
                    encode_jpeg(image))
    return folder


def frames(label, count, name):
    return tuple(LabelledFrame(None, label, 's', f'{name}/{i // 10}', i) for i in range(count))


def test_new_pictures_are_32_with_as_many_of_each_label_as_there_are():
    part = frames(Label.SUCCESS, 3, 'a') + frames(Label.FAILURE, 3, 'b')

    def drawn(successes, failures, seed=0):
        test = frames(Label.SUCCESS, successes, 'c') + frames(Label.FAILURE, failures, 'd')
        chosen = experiment_split(Split(part, part, test), seed).test
        assert set(chosen) <= set(test)
        return chosen

    def counts(chosen):
        return [sum(frame.label is label for frame in chosen)
                for label in (Label.SUCCESS, Label.FAILURE)]

    assert counts(drawn(100, 100)) == [16, 16]
    assert counts(drawn(5, 100)) == [5, 27]
    assert counts(drawn(4, 3)) == [4, 3]
    assert drawn(100, 100) == drawn(100, 100) != drawn(100, 100, seed=1)


@pytest.mark.slow
@pytest.mark.usefixtures('one_thread', 'offline')
def test_the_page_has_epochs_and_new_pictures_and_a_stopped_one_goes_on(
        tmp_path, capsys, monkeypatch):
    photos, out = two_folders(tmp_path / 'photos', 3), tmp_path / 'out'
    arguments = [str(photos), *SMALL, '--out', str(out)]
    really_fit = original_experiment.fit

    def stopped_before_the_second(config, *others, **more):
        if config.architecture == 'resnet34':
            raise KeyboardInterrupt
        return really_fit(config, *others, **more)

    monkeypatch.setattr(original_experiment, 'fit', stopped_before_the_second)
    assert main(arguments) == 130
    assert 'the same command goes on' in capsys.readouterr().out
    monkeypatch.setattr(original_experiment, 'fit', really_fit)
    assert main([*arguments, '--seed', '1']) == 1
    assert 'was begun with seed 0 (now 1)' in capsys.readouterr().err
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    page = (out / 'experiment.md').read_text(encoding='utf-8')
    assert page in printed and 'cifar_cnn: is finished already' in printed
    assert 'note: resnet34: its ImageNet weights are not available here' in printed
    assert "resnet34 starts from random weights, as ImageNet's were not available" in page
    assert 'cifar_cnn starts from weights trained on CIFAR-10' in page
    assert '| training | 2 | 2 | 2 |' in page and '## 4 new pictures' in page
    for name in ('cifar_cnn', 'resnet34'):
        run = read_run(out / name)
        assert (run.config['samples_per_class'], run.config['epochs']) == (8, 1)
        accuracy = json.loads((out / name / 'metrics.jsonl').read_text())['train_classes']
        assert f'| {name} | 1 (kept) | {accuracy["success"]["value"]:.1%} ' in page
        right = sum((row.probability >= .5) == (row.label is Label.SUCCESS)
                    for row in run.of('test'))
        assert f'| {name} | {right / 4:.1%} ({right}/4, 95 % interval ' in page
    assert 'pictures: ' in page and "McNemar's exact test p = " in page
    assert main(arguments) == 1
    assert 'holds a finished experiment' in capsys.readouterr().err


@pytest.mark.usefixtures('offline')
@pytest.mark.parametrize('attempts, arguments, expected', [
    (3, ['--per-class', '0'], 'options: per_class 0 (expected a whole number'),
    (3, ['--epochs', '0'], 'options: epochs 0 (expected a whole number'),
    (3, ['--seed', '-1'], 'options: seed -1 (expected a whole number'),
    (2, [], 'too few attempts (val has no failure, val has no success); expected three or more'),
    (1, [], 'too few attempts (val has no failure, val has no success, test has no failure'),
    (3, ['--resnet34-weights', 'no.pth'], 'no.pth: no such file; expected weights'),
])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, attempts, arguments, expected):
    photos = two_folders(tmp_path / 'photos', attempts, 1)
    assert main([str(photos), '--out', str(tmp_path / 'out'), *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f'error: {expected}') and len(err.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_a_folder_without_labels_and_none_at_all_are_one_line(tmp_path, capsys):
    (tmp_path / 'flat').mkdir()
    (tmp_path / 'flat/a.jpg').write_bytes(encode_jpeg(np.zeros((24, 32, 3), np.uint8)))
    for name, expected in (('flat', 'no picture has a label'), ('none', 'none: no such')):
        assert main([str(tmp_path / name), '--out', str(tmp_path / 'out')]) == 1
        err = capsys.readouterr().err
        assert expected in err and len(err.splitlines()) == 1
        assert not (tmp_path / 'out').exists()


def test_an_output_that_is_taken_is_refused(tmp_path, capsys):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/thesis.txt').write_text('mine')
    (tmp_path / 'file').write_text('mine')
    for name, expected in (('other', 'holds something else than an experiment, such as '
                            'thesis.txt'), ('file', 'exists already and is no folder')):
        assert main(['--out', str(tmp_path / name)]) == 1
        assert expected in capsys.readouterr().err
    assert (tmp_path / 'other/thesis.txt').read_text() == 'mine'
