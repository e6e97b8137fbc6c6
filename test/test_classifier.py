"""From a checkpoint file to P(success): the same numbers as computed step by step."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from grasp_success_detector.errors import CheckpointError, ConfigError, ImageDecodeError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.torch_engine import select_device
from grasp_success_detector.networks.architectures import build, default_preprocessing
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata, save


def noise(count, height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp('classifier') / 'model.safetensors'
    save(path, build('cifar_cnn'), CheckpointMetadata(
        'cifar_cnn', default_preprocessing('cifar_cnn'), threshold=.7, temperature=2.5))
    return path


@pytest.fixture(scope='module')
def classifier(path):
    return GraspClassifier.from_checkpoint(path, device='cpu')


def test_equals_the_computation_by_hand(path, classifier):
    """Plain numpy and torch, from what the file holds."""
    frame = noise(1, 32, 32)[0]  # of the input's size: nothing to scale
    w = load_file(path)
    x = torch.from_numpy((frame.astype(np.float64) / 255 - .5) / .5).float()
    x = x.movedim(2, 0)[None]  # (1, 3, 32, 32)
    for layer in ('conv1', 'conv2'):
        x = torch.conv2d(x, w[f'{layer}.weight'], w[f'{layer}.bias']).relu()
        x = torch.max_pool2d(x, 2)
    x = x.flatten(1)
    for layer in ('fc1', 'fc2'):
        x = (x @ w[f'{layer}.weight'].T + w[f'{layer}.bias']).relu()
    logits = (x @ w['fc3.weight'].T + w['fc3.bias'])[0].numpy()
    np.testing.assert_allclose(classifier.logits([frame])[0], logits, atol=1e-5)

    failure, success = np.exp(logits / 2.5)
    assert classifier.predict([frame])[0] == pytest.approx(success / (failure + success), abs=1e-5)


def test_types_and_ranges(classifier):
    frames = noise(5)
    logits, probabilities = classifier.logits(frames), classifier.predict(frames)
    assert (logits.shape, logits.dtype) == ((5, 2), np.float32)
    assert (probabilities.shape, probabilities.dtype) == ((5,), np.float32)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_array_equal(probabilities > .5, logits[:, 1] > logits[:, 0])


def test_temperature_softens(path, classifier):
    checkpoint = Checkpoint.open(path)
    sharp = GraspClassifier(Checkpoint.of_model(
        checkpoint.model, replace(checkpoint.metadata, temperature=.1)), 'cpu')
    frames = noise(8)
    np.testing.assert_array_equal(sharp.logits(frames), classifier.logits(frames))
    assert (abs(sharp.predict(frames) - .5) > abs(classifier.predict(frames) - .5)).all()


def test_colour_order_matters(classifier):
    """BGR in place of RGB must change the result."""
    frames = noise(4)
    swapped = [frame[..., ::-1] for frame in frames]
    assert (abs(classifier.logits(frames) - classifier.logits(swapped)) > 1e-3).any(1).all()


def test_frames_of_different_sizes_in_one_call(classifier):
    frames = noise(1, 480, 640) + noise(1, 32, 32) + noise(1, 1, 1) + noise(1, 700, 20)
    together = classifier.logits(frames)
    for frame, logits in zip(frames, together, strict=True):
        np.testing.assert_allclose(classifier.logits([frame])[0], logits, atol=1e-5)


def test_many_frames_are_answered_in_order(classifier):
    frames = noise(71)  # three batches
    together = classifier.predict(frames)
    one_by_one = [classifier.predict([frame])[0] for frame in frames]
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)


def test_the_same_frame_gives_identical_logits(classifier):
    first = classifier.logits(noise(1))
    classifier.logits(noise(3, seed=4))
    np.testing.assert_array_equal(classifier.logits(noise(1)), first)


@pytest.mark.slow
def test_batch_norm_does_not_see_the_neighbours(tmp_path):
    """In evaluation mode, a frame's answer does not depend on what is judged with it."""
    torch.manual_seed(2)
    model = build('resnet34').train()
    preprocessing = Preprocessing(64, 64)
    # handed over in training mode, as a trainer might
    classifier = GraspClassifier(
        Checkpoint.of_model(model, CheckpointMetadata('resnet34', preprocessing)), 'cpu')
    frames = noise(3)
    together = classifier.logits(frames)
    np.testing.assert_allclose(classifier.logits(frames[:1]), together[:1], rtol=1e-3, atol=1e-3)
    assert model.bn1.num_batches_tracked == 0


def test_no_frames(classifier):
    assert classifier.predict([]).shape == (0,)
    assert classifier.predict([]).dtype == np.float32
    assert classifier.logits([]).shape == (0, 2)


@pytest.mark.parametrize('bad, text', [
    (np.zeros((4, 4), np.uint8), r'uint8 \(4, 4\)'),
    (np.zeros((4, 4, 4), np.uint8), r'uint8 \(4, 4, 4\)'),
    (np.zeros((4, 4, 3)), r'float64 \(4, 4, 3\)'),
    (torch.zeros(4, 4, 3, dtype=torch.uint8), 'Tensor')])
def test_an_array_that_is_not_a_frame_is_refused(bad, text, classifier):
    with pytest.raises(ImageDecodeError, match=f'frame: got {text}; expected an RGB array'):
        classifier.predict([*noise(2), bad])


def test_settings_of_the_checkpoint_are_used(path, classifier):
    checkpoint = Checkpoint.open(path)
    assert classifier.metadata == checkpoint.metadata
    assert classifier.threshold == .7
    assert classifier.sha256 == checkpoint.sha256
    assert classifier.engine.device == 'cpu'


def test_warm_up_changes_nothing(path):
    cold, warm = (GraspClassifier.from_checkpoint(path, 'cpu') for _ in range(2))
    warm.warm_up()
    np.testing.assert_array_equal(cold.predict(noise(2)), warm.predict(noise(2)))


def test_threads(path):
    before = torch.get_num_threads()
    try:
        GraspClassifier.from_checkpoint(path, 'cpu', threads=1)
        assert torch.get_num_threads() == 1
        GraspClassifier.from_checkpoint(path, 'cpu')
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('threads', [0, -1, 1.5, True, 'two'])
def test_thread_counts_that_do_not_exist(threads, path):
    with pytest.raises(ConfigError, match=f'threads {threads!r} .expected a whole number of 1 or'):
        GraspClassifier.from_checkpoint(path, 'cpu', threads=threads)


def test_auto_takes_the_gpu_where_there_is_one(path):
    expected = 'cuda' if torch.cuda.is_available() else 'cpu'
    assert GraspClassifier.from_checkpoint(path).engine.device == expected


@pytest.mark.parametrize('name', ['gpu', 'tpu9', '', 'cpu:x', 'meta', None])
def test_unknown_devices(name):
    with pytest.raises(ConfigError, match=f'unknown device {name!r}; expected auto, cpu, cuda'):
        select_device(name)


def test_a_gpu_that_is_not_there(path):
    name = f'cuda:{torch.cuda.device_count()}'
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used here .*use auto or"):
        GraspClassifier.from_checkpoint(path, device=name)


def test_errors_of_the_file_are_passed_on(tmp_path):
    with pytest.raises(CheckpointError, match='no such file'):
        GraspClassifier.from_checkpoint(tmp_path / 'none.safetensors')
