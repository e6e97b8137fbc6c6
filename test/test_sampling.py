"""As many samples of each class as asked for, however many frames there are."""

from collections import Counter
import json

import numpy as np
import pytest
import torch
import yaml

from grasp_success_detector.data.recordings import LabelledFrame
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.image import encode_jpeg
from grasp_success_detector.labels import Label
from grasp_success_detector.training.augmentation import AUGMENTATIONS, camera_augmentation
from grasp_success_detector.training.config import (
    AUGMENTATION_NAMES,
    load_config,
    TrainingConfig,
)
from grasp_success_detector.training.fit import fit, make_split
from grasp_success_detector.training.sampling import draw_per_class, PerClassSampler

LABELS = [Label.SUCCESS] * 7 + [Label.FAILURE] * 40


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('count', [3, 20, 100])
def test_each_class_is_drawn_as_often_and_each_frame_as_evenly_as_can_be(count):
    drawn = draw_per_class(LABELS, count, generator())
    assert Counter(LABELS[i] for i in drawn) == {Label.SUCCESS: count, Label.FAILURE: count}
    for label, size in ((Label.SUCCESS, 7), (Label.FAILURE, 40)):
        times = Counter(i for i in drawn if LABELS[i] is label)
        assert set(times.values()) <= {count // size, -(-count // size)}
    assert [LABELS[i] for i in drawn] != sorted(LABELS[i] for i in drawn)


def test_epochs_differ_and_the_seed_decides():
    sampler, same, other = (PerClassSampler(LABELS, 20, seed) for seed in (1, 1, 2))
    first, second = list(sampler), list(sampler)
    assert first != second
    assert [list(same), list(same)] == [first, second]
    assert list(other) != first
    assert len(sampler) == len(first) == 40


def colour_frames():
    """Make 20 attempts, three quarters of them failures, told apart by colour."""
    from types import SimpleNamespace
    rng = np.random.default_rng(0)
    frames = []
    for attempt in range(24):
        label = Label(attempt % 4 == 0)
        for i in range(2):
            image = rng.integers(0, 60, (40, 40, 3), np.uint8)
            image[..., int(label)] += 160
            frames.append(LabelledFrame(SimpleNamespace(format='jpeg', data=encode_jpeg(image)),
                                        label, 'made', f'made/{attempt}', i * 10 ** 8))
    return frames


@pytest.mark.parametrize('samples', ['each_epoch', 'once'])
def test_training_takes_that_many_of_each_class(tmp_path, samples, monkeypatch):
    from grasp_success_detector.training.module import GraspTraining
    seen = []
    step = GraspTraining.training_step

    def counting(self, batch, batch_index):
        seen.extend(batch[1].tolist())
        return step(self, batch, batch_index)

    monkeypatch.setattr(GraspTraining, 'training_step', counting)
    config = TrainingConfig(
        architecture='cifar_cnn', pretrained=False, freeze_depth=1, epochs=2, batch_size=8,
        samples=samples, samples_per_class=32, split=(.5, .25, .25),
        augmentation=('light_and_colour',))
    said = []
    metadata = fit(config, make_split(colour_frames(), config), tmp_path / 'run', said.append)
    assert Counter(seen) == {0: 64, 1: 64}
    assert ('features of 76 frames computed' in said) == (samples == 'once')
    written = yaml.safe_load((tmp_path / 'run/config.yaml').read_text())
    assert written['samples_per_class'] == 32
    assert written['augmentation'] == ['light_and_colour']
    # what was written can be used again
    assert load_config(tmp_path / 'run/config.yaml', {}) == config
    assert metadata.training['config']['samples_per_class'] == 32
    assert len((tmp_path / 'run/metrics.jsonl').read_text().splitlines()) == 2
    assert json.loads((tmp_path / 'run/test_metrics.json').read_text())


def test_the_configuration_names_the_changes_that_exist():
    assert tuple(AUGMENTATIONS) == AUGMENTATION_NAMES
    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    assert camera_augmentation(['light_and_colour'])(image).shape == (3, 8, 8)
    with pytest.raises(ConfigError, match='augmentation .*expected some of shift_turn_zoom'):
        TrainingConfig(augmentation=('mirror',))
    with pytest.raises(ConfigError, match=r'samples_per_class 0 \(expected 1 or more\)'):
        TrainingConfig(samples_per_class=0)
