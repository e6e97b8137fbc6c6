"""Samples of an epoch: requested number of each class, split among processes, reproducible."""

from collections import Counter
import colorsys

from frames import colour_frames, split_frames
import numpy as np
import pytest
import torch
from torch.utils.data import Subset
import yaml

from grasp_success_detector.datasets.torch_dataset import AugmentedFrame, FrameDataset
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import Label
from grasp_success_detector.training.augmentation import AUGMENTATIONS, camera_augmentation
from grasp_success_detector.training.fit import fit
from grasp_success_detector.training.loaders import (
    draw_samples,
    EpochSampler,
    share,
    shuffled,
)
from grasp_success_detector.training.recipe import Augmentation, load_config, TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

LABELS = [Label.SUCCESS] * 7 + [Label.FAILURE] * 40


@pytest.mark.parametrize('count', [3, 20, 100])
def test_each_class_is_drawn_as_often_and_each_frame_as_evenly_as_can_be(count):
    drawn = [draw.frame for draw in draw_samples(LABELS, count, 0, 0)]
    assert Counter(LABELS[i] for i in drawn) == {Label.SUCCESS: count, Label.FAILURE: count}
    for label, size in ((Label.SUCCESS, 7), (Label.FAILURE, 40)):
        times = Counter(i for i in drawn if LABELS[i] is label)
        assert set(times.values()) <= {count // size, -(-count // size)}
    assert [LABELS[i] for i in drawn] != sorted(LABELS[i] for i in drawn)


def test_without_a_count_every_frame_is_drawn_once():
    assert sorted(d.frame for d in draw_samples(LABELS, None, 0, 0)) == list(range(47))


def test_epochs_differ_and_seed_and_epoch_decide():
    first = draw_samples(LABELS, 20, 1, 0)
    assert first == draw_samples(LABELS, 20, 1, 0)
    assert first != draw_samples(LABELS, 20, 1, 1)
    assert first != draw_samples(LABELS, 20, 2, 0)
    assert len({draw.seed for draw in first}) == 40
    assert shuffled(9, 3, 1) == shuffled(9, 3, 1) != shuffled(9, 3, 2)


@pytest.mark.parametrize('count', [5, 8, 21, 24])
def test_processes_together_take_the_batches_that_one_would(count):
    def samples_of(epoch):
        return shuffled(count, 0, epoch)

    def batches(sampler, size):
        sampler.set_epoch(3)
        taken = list(sampler)
        assert len(taken) == len(sampler)
        return [set(taken[i:i + size]) for i in range(0, len(taken), size)]

    alone = batches(EpochSampler(samples_of, 8), 8)
    two = [batches(EpochSampler(samples_of, 8, rank, 2), 4) for rank in (0, 1)]
    assert [a | b for a, b in zip(*two, strict=True)] == alone
    assert all(len(batch) == min(count, 8) for batch in alone)


def test_each_process_gets_as_many_frames_to_judge():
    assert [share(range(5), rank, 2) for rank in (0, 1)] == [[0, 2, 4], [1, 3, 0]]


def test_a_sample_is_the_same_whenever_and_with_whatever_it_is_asked_for():
    frames = colour_frames(2)
    dataset = FrameDataset(frames, Preprocessing(32, 32), camera_augmentation())
    first, label = dataset[AugmentedFrame(1, 5)]
    batch = dataset.__getitems__([AugmentedFrame(0, 5), AugmentedFrame(1, 5)])
    assert torch.equal(batch[1][0], first) and batch[1][1] == label
    assert label == frames[1].label
    assert torch.equal(dataset[AugmentedFrame(1, 5)][0], first)
    assert not torch.equal(dataset[AugmentedFrame(1, 6)][0], first)
    plain = FrameDataset(frames, Preprocessing(32, 32))
    assert torch.equal(dataset[1][0], plain[1][0])
    assert torch.equal(plain[AugmentedFrame(1, 5)][0], plain[1][0])
    fixed = Subset(dataset, [AugmentedFrame(1, 5), AugmentedFrame(0, 1)])
    assert len(fixed) == 2 and torch.equal(fixed[0][0], first)


def test_a_frame_that_cannot_be_decoded_is_named():
    frame = colour_frames(1)[0]
    frame.message.data = b'no picture'
    with pytest.raises(DatasetError, match='made/0 at 0: this frame cannot be read'):
        FrameDataset([frame], Preprocessing(32, 32))[0]


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
        architecture='cifar_cnn', pretrained=False, freeze_conv_layers=1, epochs=2, batch_size=8,
        samples=samples, samples_per_class=32, augmentation=('light_and_colour',))
    fit(config, split_frames(colour_frames(24, every=4)), tmp_path / 'run', [tmp_path],
        say=lambda line: None)
    assert Counter(seen) == {0: 64, 1: 64}
    written = yaml.safe_load((tmp_path / 'run/config.yaml').read_text())
    assert written['samples_per_class'] == 32
    assert written['augmentation'] == ['light_and_colour']
    # what was written can be used again
    assert load_config(tmp_path / 'run/config.yaml', {}) == config
    assert len((tmp_path / 'run/metrics.jsonl').read_text().splitlines()) == 2


def test_the_configuration_names_the_changes_that_exist():
    assert tuple(AUGMENTATIONS) == tuple(Augmentation)
    image = np.full((8, 10, 3), 100, np.uint8)
    for name, change in AUGMENTATIONS.items():
        changed = [change(image, np.random.default_rng(seed)) for seed in range(20)]
        assert {(each.shape, each.dtype) for each in changed} == {((8, 10, 3), np.dtype('u1'))}
        assert (name is Augmentation.MIRROR) == all((each == image).all() for each in changed)
    assert camera_augmentation([])(image, np.random.default_rng(0)) is image
    with pytest.raises(ConfigError, match='augmentation .*expected a list, each shift_turn_zoom'):
        TrainingConfig(augmentation=('rotate',))
    with pytest.raises(ConfigError, match=r'samples_per_class 0 \(expected a whole number of 1'):
        TrainingConfig(samples_per_class=0)


def test_light_and_colour_change_grey_only_in_brightness():
    grey = np.repeat(np.random.default_rng(1).integers(60, 180, (16, 16, 1), np.uint8), 3, axis=2)
    shades = []
    for seed in range(50):
        changed = AUGMENTATIONS[Augmentation.LIGHT_AND_COLOUR](grey, np.random.default_rng(seed))
        assert (changed.max(axis=2) - changed.min(axis=2)).max() <= 2      # by rounding of YIQ
        shades.append(changed.mean() / grey.mean())
    assert .7 <= min(shades) < .8 and 1.2 < max(shades) <= 1.31


def test_a_hue_turns_as_far_as_hsv_says_and_saturation_scales_colours():
    red = np.full((4, 4, 3), (150, 90, 90), np.uint8)
    hues, saturations = [], []
    for seed in range(200):
        changed = AUGMENTATIONS[Augmentation.LIGHT_AND_COLOUR](red, np.random.default_rng(seed))
        hue, saturation, _ = colorsys.rgb_to_hsv(*changed[0, 0] / 255)
        hues.append((hue + .5) % 1 - .5)
        saturations.append(saturation)
    assert -.05 < min(hues) < -.02 and .02 < max(hues) < .05
    assert min(saturations) < .33 and max(saturations) > .47    # 0.4, 30 % less and more
