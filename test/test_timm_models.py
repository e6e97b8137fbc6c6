"""Any model of timm by its name: built, frozen, split, kept in a checkpoint, and clear errors."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.networks.architectures import (
    build,
    default_preprocessing,
    freeze,
    head_parameters,
    split_at_freeze,
)
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata, save

pytestmark = pytest.mark.slow

# Small ones of each family: with projection shortcuts, with squeeze-and-excitation, without a
# BatchNorm, with a class token, with a convolution in the head.
NAMES = ['timm:test_resnet', 'timm:test_efficientnet', 'timm:test_convnext', 'timm:test_vit',
         'timm:test_maxvit', 'timm:mobilenetv3_small_050']


def images(name, count=2):
    size = default_preprocessing(name)
    return torch.randn(count, 3, size.height, size.width,
                       generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize('name', NAMES)
def test_trunk_and_rest_compute_what_the_model_computes(name):
    model = build(name).eval()
    x = images(name)
    whole = len(freeze(model, name).frozen)
    for depth, stages in ((None, 1), (0, 0), (1, 1 if name == 'timm:test_vit' else 0)):
        freezing = freeze(model, name, depth)
        trunk, rest = split_at_freeze(model, name)
        assert len(trunk) == stages
        with torch.no_grad():
            assert torch.equal(rest(trunk(x)), model(x))
        assert model(x).shape == (2, 2)
        assert not any(p.requires_grad for p in trunk.parameters())
        assert sum(1 for _ in trunk.parameters()) == whole * stages
        assert set(head_parameters(model, name)) <= set(freezing.trainable)


@pytest.mark.parametrize('name', NAMES)
def test_a_step_changes_all_that_learns_and_nothing_frozen(name):
    torch.manual_seed(0)
    model = build(name)
    convolutions = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    freezing = freeze(model, name, 1 if name == 'timm:test_vit' else 4)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=.1)
    model.train()
    nn.functional.cross_entropy(model(images(name, 4)), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items()
               if not torch.equal(value, before[key])}
    assert changed.isdisjoint(freezing.frozen)
    assert set(head_parameters(model, name)) <= changed
    frozen = {layer for n in freezing.frozen if (layer := n.rpartition('.')[0]) in convolutions
              and 'downsample' not in n and '.se.' not in n}
    assert len(frozen) == (1 if name == 'timm:test_vit' else 4)
    for key in before:  # statistics move exactly where the BatchNorm learns
        layer, _, kind = key.rpartition('.')
        if kind in ('running_mean', 'running_var'):
            assert (key in changed) == (f'{layer}.weight' in freezing.trainable), key


def test_convolutions_are_counted_as_in_resnet34():
    model = build('timm:resnet18')
    assert freeze(model, 'timm:resnet18') == freeze(model, 'timm:resnet18', 17)
    assert freeze(model, 'timm:resnet18').trainable == ('fc.weight', 'fc.bias')
    assert freeze(model, 'timm:resnet18', 6).frozen[-1] == 'layer2.0.bn1.bias'
    # The projection goes with the block's last convolution.
    assert freeze(model, 'timm:resnet18', 7).frozen[-1] == 'layer2.0.downsample.1.bias'
    with pytest.raises(ConfigError, match='timm:resnet18: 18 convolutions .*expected 0 to 17'):
        freeze(model, 'timm:resnet18', 18)


def test_freezing_leaves_modes_statistics_and_random_numbers_alone():
    model = build('timm:test_resnet')
    model.layer1.eval()
    modes = [m.training for m in model.modules()]
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    freeze(model, 'timm:test_resnet', 3)
    split_at_freeze(model, 'timm:test_resnet')
    assert torch.equal(torch.rand(3), expected)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_preprocessing_is_that_of_the_published_weights():
    size = default_preprocessing('timm:test_vit')
    assert (size.height, size.width, size.mean) == (160, 160, (.5, .5, .5))
    size = default_preprocessing('timm:resnet18')
    assert (size.height, size.width) == (224, 224)
    assert size.mean == pytest.approx((.485, .456, .406))
    assert size.std == pytest.approx((.229, .224, .225))


def test_checkpoints_of_timm_models(tmp_path):
    name = 'timm:test_efficientnet'
    model = build(name)
    sha256 = save(tmp_path / 'a', model, CheckpointMetadata(name, default_preprocessing(name)))
    loaded = Checkpoint.open(tmp_path / 'a')
    assert (loaded.metadata.architecture, loaded.sha256) == (name, sha256)
    x = images(name)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), model.eval()(x))
    with pytest.raises(CheckpointError, match='not written: its tensors are not those of timm:te'):
        save(tmp_path / 'b', model, CheckpointMetadata(
            'timm:test_resnet', default_preprocessing('timm:test_resnet')))
    # What another version of timm may have: a name that this one does not know.
    with pytest.raises(CheckpointError, match="not written: timm .* has no model 'test_efficie"):
        save(tmp_path / 'b', model, CheckpointMetadata(
            'timm:test_efficientnet99', default_preprocessing(name)))


@pytest.mark.parametrize('name, text', [
    ('timm:resnet81', r"timm \S+ has no model 'resnet81'; did you mean timm:resnet\d+\w*, timm:"),
    ('timm:qqqqqqqq', r"timm \S+ has no model 'qqqqqqqq'$"),
    ('timm:resnet18.mine', "has no weights 'mine' of resnet18; it knows .*a1_in1k"),
    ('timm:test_mambaout.x', "has no weights 'x' of test_mambaout; it knows none")])
def test_names_that_timm_does_not_know(name, text):
    for function in (build, default_preprocessing):
        with pytest.raises(ConfigError, match=text) as info:
            function(name)
        assert '\n' not in str(info.value)


def test_metadata_checks_a_name_without_asking_timm():
    done = subprocess.run([sys.executable, '-c', """
import sys
from grasp_success_detector.networks.checkpoint import CheckpointMetadata
from grasp_success_detector.images.preprocessing import Preprocessing
CheckpointMetadata('timm:any_name', Preprocessing(32, 32))
assert 'timm' not in sys.modules and 'torchvision' not in sys.modules
"""], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_weights_that_cannot_be_downloaded(tmp_path):
    """In a process of its own, since offline mode is read at the import."""
    done = subprocess.run([sys.executable, '-c', """
from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.networks.weights import build_pretrained
for name in ('timm:test_resnet', 'timm:test_mambaout'):
    try:
        build_pretrained(name)
    except CheckpointError as error:
        print(error)
"""], capture_output=True, text=True, timeout=120,
        env=os.environ | {'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    one, two = done.stdout.splitlines()
    assert one.startswith('timm:test_resnet: its pre-trained weights are not available here (')
    assert 'https://huggingface.co/timm/test_resnet.r160_in1k) and give it with --weights' in one
    assert two.startswith(
        'timm:test_mambaout: its pre-trained weights are not available here (No pre')
