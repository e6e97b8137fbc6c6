"""OpenCV runs a checkpoint alone: as torch does, without torch, and without its packages."""

from dataclasses import asdict, replace
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import json_text, share_path
from grasp_success_detector.inference import torch_engine
from grasp_success_detector.inference.engine import identity
from grasp_success_detector.inference.engine_selection import (
    Figure,
    Proof,
    proof_path,
    select_engine,
)
from grasp_success_detector.networks.architectures import (
    build,
    default_preprocessing,
    HAND_FINDER,
    stages,
)
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata, save
from grasp_success_detector.networks.onnx_graphs import (
    FEATURES,
    GRAPHS,
    INPUT,
    LOGITS,
    MOST_ROWS,
    onnx_model,
)


@pytest.fixture
def path(tmp_path):
    copy = tmp_path / 'model.safetensors'
    shutil.copy(share_path('models/cifar_cnn_rig.safetensors'), copy)
    return copy


def pick(path, engine='auto', precision='auto', device='cpu'):
    return select_engine(Checkpoint.open(path), engine, precision, device, None)


def random_model(name):
    """Return a model whose BatchNorms do something, and its arrays."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = build(name).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=.1)
                module.running_var.uniform_(.5, 2)
                torch.nn.init.uniform_(module.weight, .5, 1.2)
    return model, {key: value.numpy() for key, value in model.state_dict().items()}


# the graph

@pytest.mark.parametrize('name, height, width, most_rows', [
    ('cifar_cnn', 32, 32, 0), ('efficientnet_lite0', 225, 64, 0),
    ('efficientnet_lite0', 225, 64, MOST_ROWS), ('efficientnet_lite0', 224, 100, MOST_ROWS),
    ('resnet34', 65, 96, 0)])
def test_the_graph_computes_what_torch_does(name, height, width, most_rows):
    """Odd sizes show where the margins are, 29 and 28 rows whether MOST_ROWS is seamless."""
    model, arrays = random_model(name)
    size = replace(default_preprocessing(name), height=height, width=width)
    network = cv2.dnn.readNetFromONNX(
        np.frombuffer(onnx_model(name, arrays, size, [FEATURES], most_rows), np.uint8))
    planes = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    network.setInput(planes, INPUT)
    logits, features = network.forward([LOGITS, FEATURES])
    with torch.no_grad():
        x = torch.from_numpy(planes)
        before_head = torch.nn.Sequential(*(stage.module for stage in stages(model, name)[:-1]))
        np.testing.assert_allclose(logits, model(x).numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(features, before_head(x).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', GRAPHS)
def test_the_graph_is_valid_onnx(name):
    onnx = pytest.importorskip('onnx')
    _, arrays = random_model(name)
    observed = {HAND_FINDER: ['blocks.3.2'], 'efficientnet_lite0': [FEATURES, 'blocks.3.2']}.get(
        name, [FEATURES])
    model = onnx.load_from_string(onnx_model(name, arrays, default_preprocessing(name), observed))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == [LOGITS, *observed]


def test_tensors_of_another_architecture_make_no_graph():
    _, arrays = random_model('cifar_cnn')
    with pytest.raises(CheckpointError, match='its tensors are not those of resnet34'):
        onnx_model('resnet34', arrays, default_preprocessing('resnet34'))


def test_a_part_that_the_architecture_does_not_have():
    _, arrays = random_model('cifar_cnn')
    with pytest.raises(CheckpointError, match='cifar_cnn has no part blocks.3.2'):
        onnx_model('cifar_cnn', arrays, default_preprocessing('cifar_cnn'), ['blocks.3.2'])


def test_tensors_that_the_architecture_does_not_have_are_ignored():
    _, arrays = random_model('cifar_cnn')
    more = {**arrays, 'something.else': np.zeros(3, np.float32)}
    size = default_preprocessing('cifar_cnn')
    assert onnx_model('cifar_cnn', more, size) == onnx_model('cifar_cnn', arrays, size)


# the engine

def test_decides_as_torch_does(path):
    images = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    ours, theirs = (pick(path, engine, 'fp32').engine for engine in ('opencv', 'torch'))
    np.testing.assert_allclose(ours.logits(images), theirs.logits(images), atol=1e-4)
    assert str(ours) == 'opencv fp32 on cpu'


def test_a_model_in_memory_can_be_run():
    model, _ = random_model('cifar_cnn')
    checkpoint = Checkpoint.of_model(
        model, CheckpointMetadata('cifar_cnn', default_preprocessing('cifar_cnn')))
    image = np.full((1, 32, 32, 3), 90, np.uint8)
    ours, theirs = (select_engine(checkpoint, engine, 'fp32', 'cpu', 1).engine.logits(image)
                    for engine in ('opencv', 'torch'))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_network_of_timm_needs_torch(tmp_path):
    pytest.importorskip('timm')
    path = tmp_path / 'timm.safetensors'
    name = 'timm:test_efficientnet.r160_in1k'
    save(path, build(name), CheckpointMetadata(name, default_preprocessing(name)))
    with pytest.raises(ConfigError, match='opencv fp32: runs cifar_cnn, resnet34, '
                       f'efficientnet_lite0, not {name}'):
        pick(path, 'opencv')


@pytest.mark.parametrize('given, text', [
    ({'device': 'cuda'}, "opencv fp32: runs on cpu, not on 'cuda'"),
    ({'precision': 'int8'}, 'no engine fits engine=opencv, precision=int8')])
def test_what_opencv_cannot_do(given, text, path):
    with pytest.raises(ConfigError, match=text):
        pick(path, 'opencv', **given)


# where torch is not installed

@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(torch_engine, 'installed', lambda: False)
    monkeypatch.setattr(
        'grasp_success_detector.inference.openvino_engine.installed', lambda: False)


def test_auto_takes_opencv_where_torch_is_missing(path, without_torch):
    selection = pick(path, device='auto')
    assert str(selection.engine) == 'opencv fp32 on cpu'
    assert selection.skipped['torch fp32'] == 'not installed (pip install torch)'
    with pytest.raises(ConfigError, match=r'torch fp32: not installed \(pip install torch\)'):
        pick(path, 'torch', 'fp32')


def test_auto_takes_torch_where_it_is_installed(path):
    assert pick(path, precision='fp32').engine.name == 'torch'


def test_answers_are_compared_with_the_logits_in_the_proof(path, without_torch):
    """An OpenCV that answers nonsense is not taken, even if there is no torch to ask."""
    def prove(reference):
        proof = Proof(identity(Checkpoint.open(path)), 'dataset',
                      (Figure('opencv', 'fp32', 'cpu', '4.6.0', None, 1, 1, 0.),),
                      reference=reference)
        proof_path(path).write_text(json_text(asdict(proof)), encoding='utf-8')

    prove(tuple(map(tuple, torch_engine.reference_logits(Checkpoint.open(path)).tolist())))
    assert pick(path).engine.name == 'opencv'
    prove(((-30., 30.), (30., -30.)))
    with pytest.raises(ConfigError, match='from torch: something is broken'):
        pick(path)


WITHOUT_PACKAGES = """
import sys

ALLOWED = {'numpy', 'cv2', 'yaml', 'grasp_success_detector'}

class Allowed:
    #Asks a finder for what is allowed only

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        root = name.partition('.')[0]
        if root in ALLOWED | sys.stdlib_module_names or root.startswith('_'):
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Allowed, sys.meta_path)
import numpy as np
from grasp_success_detector.inference.classifier import GraspClassifier
classifier = GraspClassifier.from_checkpoint(sys.argv[1], engine='opencv')
print(classifier.predict([np.full((48, 64, 3), 90, np.uint8)])[0])
"""


def test_needs_numpy_and_opencv_only(path):
    done = subprocess.run([sys.executable, '-c', WITHOUT_PACKAGES, str(path)],
                          capture_output=True, text=True, timeout=60)
    assert not done.stderr
    from grasp_success_detector.inference.classifier import GraspClassifier

    expected = GraspClassifier.from_checkpoint(path, 'cpu').predict(
        [np.full((48, 64, 3), 90, np.uint8)])[0]
    assert float(done.stdout) == pytest.approx(float(expected), abs=1e-5)
