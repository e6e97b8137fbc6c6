"""Legacy .pth files become checkpoints that answer as the original network did."""

import os
import re

import numpy as np
import pytest
import torch
from torch import nn

from grasp_success_detector.cli.import_checkpoint import main
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.cifar_cnn import CifarCnn


@pytest.fixture(scope='module')
def resnet34():
    """Return torchvision's network with 2 outputs, with statistics as after some training."""
    from torchvision import models

    torch.manual_seed(1)
    network = models.resnet34(num_classes=2)
    for name, buffer in network.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=.1)
    return network.eval()


@pytest.fixture
def photo():
    return np.random.default_rng(2).integers(0, 256, (224, 224, 3), np.uint8)


def imported(path, tmp_path, *options):
    out = tmp_path / 'out.safetensors'
    assert main([str(path), '--out', str(out), *options]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize('classes', [CLASS_NAMES, CLASS_NAMES[::-1]])
@pytest.mark.parametrize('wrap', [
    lambda state: state,
    lambda state: {'epoch': 4, 'state_dict': {f'module.{n}': t for n, t in state.items()}}])
def test_resnet34_answers_as_the_original(classes, wrap, tmp_path, resnet34, photo, capsys):
    """The converted preprocessing of a picture equals torchvision's own."""
    from torchvision.transforms import functional

    torch.save(wrap(resnet34.state_dict()), tmp_path / 'old.pth')
    out = imported(tmp_path / 'old.pth', tmp_path, '--classes', *classes)
    x = functional.normalize(functional.to_tensor(photo), (.485, .456, .406), (.229, .224, .225))
    with torch.inference_mode():
        original = resnet34(x[None]).numpy()[0]
    ours = GraspClassifier.from_checkpoint(out, 'cpu').logits([photo])[0]
    for i, name in enumerate(classes):
        assert ours[Label[name.upper()]] == pytest.approx(original[i], abs=1e-4)
    training = Checkpoint.open(out).metadata.training
    assert training['imported_classes'] == list(classes)
    assert training['imported_from'] == 'old.pth'
    assert 'out.safetensors: resnet34, outputs of the file: ' in capsys.readouterr().out


def test_the_tutorials_network_with_its_own_normalisation(tmp_path):
    torch.manual_seed(3)
    network = CifarCnn(2).eval()
    torch.save({'model_state_dict': network.state_dict()}, tmp_path / 'old.pth')
    out = imported(tmp_path / 'old.pth', tmp_path, '--classes', 'success', 'failure',
                   '--mean', '0.4', '0.5', '0.6', '--std', '0.2', '0.25', '0.3', '--size', '32')
    frame = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    x = (torch.from_numpy(frame).permute(2, 0, 1) / 255 - torch.tensor([.4, .5, .6])[:, None, None]
         ) / torch.tensor([.2, .25, .3])[:, None, None]
    with torch.inference_mode():
        original = network(x[None]).numpy()[0]
    ours = GraspClassifier.from_checkpoint(out, 'cpu').logits([frame])[0]
    np.testing.assert_allclose(ours, original[::-1], atol=1e-5)
    size = Checkpoint.open(out).metadata.preprocessing
    assert (size.height, size.width, size.mean) == (32, 32, (.4, .5, .6))


@pytest.mark.slow
def test_other_sizes_and_named_architectures(tmp_path):
    from grasp_success_detector.networks.architectures import build

    torch.save(build('timm:test_resnet').state_dict(), tmp_path / 'old.pth')
    out = imported(tmp_path / 'old.pth', tmp_path, '--classes', 'failure', 'success',
                   '--arch', 'timm:test_resnet', '--size', '96', '128')
    size = Checkpoint.open(out).metadata.preprocessing
    assert (size.height, size.width) == (96, 128)


def faulty(state):
    state = dict(state)
    del state['fc1.bias']
    state['fc3.weight'], state['fc3.bias'] = torch.zeros(10, 84), torch.zeros(10)
    state['fc4.bias'] = torch.zeros(1)
    return state


@pytest.mark.parametrize('content, options, text', [
    (faulty, (), 'old.pth: its tensors are not those of cifar_cnn with 2 outputs; missing: '
     r'fc1.bias; unexpected: fc4.bias; of another shape or type: fc3.bias \(float32 \[10\], '
     r'expected float32 \[2\]\), fc3.weight \(float32 \[10, 84\], expected float32 \[2, 84\]\)$'),
    (lambda state: state, ('--arch', 'resnet34'), 'are not those of resnet34 .*missing: bn1.bias'),
    (lambda state: {'x': torch.zeros(1)}, (), 'old.pth: neither resnet34 nor cifar_cnn has tensors'
     r' named as here \(x'),
    (lambda state: state, ('--size', '64'), 'cifar_cnn cannot take images of 64 x 64 pixels'),
    (lambda state: state, ('--size', '1', '2', '3'), '--size has 3 values; expected HEIGHT WIDTH'),
    (lambda state: state, ('--arch', 'resnet'), "unknown architecture 'resnet'; expected one of"),
    (lambda state: state, ('--std', '0', '1', '1'), 'std .*each a number from 0.001 to 10'),
    (lambda state: state | {'fc1.bias': torch.full((120,), torch.nan)}, (),
     'out: not written: holds weights that are not finite .*fc1.bias'),
    (lambda state: nn.Linear(2, 2), (), r'holds more than tensors \(torch.nn.modules.linear.Li'
     r'near\) and could run code.*where it was made, save the weights alone: torch.save\(model')])
def test_bad_input_is_one_line_and_leaves_nothing(content, options, text, tmp_path, capsys):
    torch.save(content(CifarCnn(2).state_dict()), tmp_path / 'old.pth')
    assert main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out'),
                 '--classes', 'failure', 'success', *options]) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err) and err.count('\n') == 1
    assert os.listdir(tmp_path) == ['old.pth']


def test_the_order_of_classes_is_asked_for(tmp_path, capsys):
    torch.save(CifarCnn(2).state_dict(), tmp_path / 'old.pth')
    arguments = [str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit, match='2'):
        main(arguments)
    assert 'the following arguments are required: --classes' in capsys.readouterr().err
    assert main([*arguments, '--classes', 'success', 'success']) == 1
    assert re.search('error: classes success success; expected failure success, or success fail',
                     capsys.readouterr().err)


def test_files_that_are_no_legacy_checkpoint(tmp_path, capsys, random_checkpoint):
    options = ['--out', str(tmp_path / 'out'), '--classes', 'failure', 'success']
    assert main([str(tmp_path / 'none.pth'), *options]) == 1
    assert 'none.pth: no such file; expected what torch.save' in capsys.readouterr().err
    assert main([str(random_checkpoint), *options]) == 1
    assert 'was not written by torch.save; expected a .pth' in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path, capsys):
    torch.save(CifarCnn(2).state_dict(), tmp_path / 'old.pth')
    (tmp_path / 'out').write_text('mine')
    assert main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out'),
                 '--classes', 'failure', 'success']) == 1
    assert 'out: exists already; choose another name' in capsys.readouterr().err
    assert (tmp_path / 'out').read_text() == 'mine'


@pytest.mark.parametrize('out, text', [
    ('none/out', r'.*none/out: cannot be written \(No such file or directory\)'),
    ('old.pth/out', r'.*old.pth/out: cannot be written \(Not a directory\)'),
    ('/proc/out', r'/proc/out: cannot be written \(.*\)')])
def test_places_that_cannot_be_written(out, text, tmp_path, capsys):
    torch.save(CifarCnn(2).state_dict(), tmp_path / 'old.pth')
    assert main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / out),
                 '--classes', 'failure', 'success']) == 1
    assert re.fullmatch(f'error: {text}\n', capsys.readouterr().err)
    assert os.listdir(tmp_path) == ['old.pth']


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_read_only_folder(tmp_path, capsys):
    torch.save(CifarCnn(2).state_dict(), tmp_path / 'old.pth')
    tmp_path.chmod(0o500)
    try:
        assert main([str(tmp_path / 'old.pth'), '--out', str(tmp_path / 'out'),
                     '--classes', 'failure', 'success']) == 1
    finally:
        tmp_path.chmod(0o700)
    assert re.fullmatch('error: .*out: cannot be written [(]Permission denied[)]\n',
                        capsys.readouterr().err)
