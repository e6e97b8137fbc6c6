"""Building, freezing and splitting each architecture."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.networks.architectures import (
    ARCHITECTURES,
    build,
    check_architecture,
    default_preprocessing,
    freeze,
    head_parameters,
    split_at_freeze,
)
from grasp_success_detector.networks.efficientnet_lite0 import Conv

pytestmark = pytest.mark.slow

# A depth that ends between blocks, one that ends within a block where blocks can be split, all.
DEPTHS = [('cifar_cnn', 0), ('cifar_cnn', 1), ('cifar_cnn', 2),
          ('resnet34', 0), ('resnet34', 8), ('resnet34', 25), ('resnet34', 33),
          ('efficientnet_lite0', 0), ('efficientnet_lite0', 1), ('efficientnet_lite0', 5),
          ('efficientnet_lite0', 30), ('efficientnet_lite0', 49)]


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


def timms_lite0():
    import timm

    return timm.create_model('tf_efficientnet_lite0', num_classes=2)


def torchvisions_resnet34():
    from torchvision.models import resnet34

    return resnet34(num_classes=2)


@pytest.mark.parametrize('name, published', [
    ('efficientnet_lite0', timms_lite0), ('resnet34', torchvisions_resnet34)])
def test_computes_bit_by_bit_what_the_published_network_computes(name, published, model_of):
    torch.manual_seed(4)
    theirs, ours = published(), model_of(name)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh ones do nothing worth comparing
            module.running_mean.normal_(std=.1)
            module.running_var.uniform_(.5, 2)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 45, 64)  # odd and even: TensorFlow pads them differently
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        with torch.no_grad():
            assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize('name, published', [
    ('efficientnet_lite0', timms_lite0), ('resnet34', torchvisions_resnet34)])
def test_draws_weights_as_widely_as_the_published_network(name, published, model_of):
    theirs = published().state_dict()
    for key, weight in model_of(name).state_dict().items():
        if weight.ndim == 4 and weight.numel() > 30_000:
            torch.testing.assert_close(weight.std(), theirs[key].std(), rtol=.05, atol=0)


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
def test_frozen_statistics_stay_although_train_is_called(name, model_of):
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
    freeze(model, 'efficientnet_lite0', 49)
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


def main_path(model, name, depth):
    """Return the names of the frozen convolutions."""
    frozen = set(freeze(model, name, depth).frozen)
    return [n for n, m in model.named_modules()
            if isinstance(m, nn.Conv2d) and f'{n}.weight' in frozen]


def test_resnet34_counts_main_path_convolutions(model_of):
    model = model_of('resnet34')
    assert main_path(model, 'resnet34', 1) == ['conv1']
    assert main_path(model, 'resnet34', 2) == ['conv1', 'layer1.0.conv1']
    # The 8th is the first of layer2[0]; the projection goes with the block's last one.
    assert main_path(model, 'resnet34', 8)[-1] == 'layer2.0.conv1'
    assert main_path(model, 'resnet34', 9)[-2:] == ['layer2.0.conv2', 'layer2.0.downsample.0']
    first_25 = [n for n in main_path(model, 'resnet34', 25) if 'downsample' not in n]
    assert len(first_25) == 25
    assert first_25[-1] == 'layer3.4.conv2'
    assert len([n for n in main_path(model, 'resnet34', 33) if 'downsample' not in n]) == 33
    assert freeze(model, 'resnet34', 33).trainable == ('fc.weight', 'fc.bias')
    assert freeze(model, 'resnet34') == freeze(model, 'resnet34', 25)


def test_efficientnet_counts_main_path_convolutions(model_of):
    """Each depth freezes one more, in the order in which a forward pass meets them."""
    model = model_of('efficientnet_lite0')
    met = []
    hooks = [m.register_forward_hook(lambda *_, n=n: met.append(n))
             for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model.eval()(images('efficientnet_lite0'))
    for hook in hooks:
        hook.remove()
    assert len(met) == 49
    for depth in (1, 2, 3, 4, 5, 29, 30, 48, 49):
        assert main_path(model, 'efficientnet_lite0', depth) == met[:depth]
    assert met[29] == 'blocks.4.1.conv_pwl'  # of the 10th block
    # A BatchNorm goes with its convolution, in the middle of a block too.
    frozen = freeze(model, 'efficientnet_lite0', 4).frozen
    assert frozen[-2:] == ('blocks.1.0.bn1.weight', 'blocks.1.0.bn1.bias')
    learning = {n.rpartition('.')[0]
                for n in freeze(model, 'efficientnet_lite0', 48).trainable}
    assert learning == {'conv_head', 'bn2', 'classifier'}
    assert freeze(model, 'efficientnet_lite0') == freeze(model, 'efficientnet_lite0', 30)
    blocks = [name.split('.')[:3] for name in freeze(model, 'efficientnet_lite0', 30).frozen
              if name.startswith('blocks')]
    assert len({tuple(block) for block in blocks}) == 10


@pytest.mark.parametrize('name, text', [
    ('cifar_cnn', 'cifar_cnn: 3 convolutions to freeze; expected 0 to 2'),
    ('resnet34', 'resnet34: 34 convolutions to freeze; expected 0 to 33'),
    ('efficientnet_lite0', 'efficientnet_lite0: 50 convolutions to freeze; expected 0 to 49')])
def test_depths_that_do_not_exist(name, text, built):
    with pytest.raises(ConfigError, match=text):
        freeze(built[name], name, int(text.split()[1]))
    with pytest.raises(ConfigError, match='-1 .* to freeze'):
        freeze(built[name], name, -1)


@pytest.mark.parametrize('function', [build, default_preprocessing, check_architecture])
@pytest.mark.parametrize('name', [
    'resnet18', None, ['resnet34'], 'timm:', 'timm:hf-hub:some/model', 'timm:../x'])
def test_unknown_architecture(function, name):
    with pytest.raises(ConfigError, match='unknown architecture .*expected one of cifar_cnn, res.*'
                       'or timm:NAME$'):
        function(name)


@pytest.mark.parametrize('kernel, stride', [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients_in_bf16_are_those_of_fp32(kernel, stride):
    torch.manual_seed(4)
    layer = Conv(24, 24, kernel, stride, groups=24)
    images = torch.randn(4, 24, 13, 13).bfloat16()

    def gradients(layer, images):
        layer.zero_grad()
        images = images.clone().requires_grad_()
        y = layer(images)
        (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        return y, images.grad.float(), layer.weight.grad.float()

    with torch.autocast('cpu', torch.bfloat16):
        mixed = gradients(layer, images)
    exact = gradients(layer, images.float())
    assert (mixed[0].dtype, exact[0].dtype) == (torch.bfloat16, torch.float32)
    for ours, truth in zip(mixed, exact, strict=True):
        assert (ours.float() - truth).norm() < .01 * truth.norm()
