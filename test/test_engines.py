"""Every engine and precision decides like torch in fp32, and auto takes no unproven one."""

from dataclasses import asdict, replace
from importlib import metadata
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.export.agreement import bag_images
from grasp_success_detector.export.formats import quantized
from grasp_success_detector.files import (
    DEFAULT_CHECKPOINT,
    json_text,
    SAMPLE_BAG,
    share_path,
)
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import identity, int8_path, Precision
from grasp_success_detector.inference.engine_selection import (
    ENGINES,
    Figure,
    MIN_AGREEMENT,
    Proof,
    proof_path,
    read_proof,
    select_engine,
)
from grasp_success_detector.inference.openvino_engine import read_model, write_model
from grasp_success_detector.inference.torch_network import fold_batch_norm
from grasp_success_detector.networks.architectures import build
from grasp_success_detector.networks.checkpoint import Checkpoint, save

pytestmark = pytest.mark.slow

MODELS = sorted(share_path('models').glob('*_rig.safetensors'))
PAIRS = [(kind.name, precision.value) for kind in ENGINES.values() for precision in kind.speed
         if (kind.name, precision) != ('torch', Precision.FP32)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'grasp_success_detector' / 'openvino'


@pytest.fixture
def checkpoint(tmp_path):
    """Return a copy of the small shipped checkpoint, with nothing beside it."""
    path = tmp_path / 'model.safetensors'
    shutil.copy(share_path('models/cifar_cnn_rig.safetensors'), path)
    return path


def prove(path, *pairs, agreeing=1000, artifact=None, version=None, **changes):
    """Write a proof, by default of the installed libraries' versions."""
    figures = tuple(Figure(engine, precision, 'cpu', version or installed(engine), artifact, 1000,
                           agreeing, .01) for engine, precision in pairs)
    proof = replace(Proof(identity(Checkpoint.open(path)), 'dataset', figures), **changes)
    proof_path(path).write_text(json_text(asdict(proof)), encoding='utf-8')


def installed(engine):
    try:
        return cv2.__version__ if engine == 'opencv' else metadata.version(engine)
    except metadata.PackageNotFoundError:
        return '1'


def pick(path, engine='auto', precision='auto', device='cpu'):
    return select_engine(Checkpoint.open(path), engine, precision, device, None)


def name(selection):
    return f'{selection.engine.name} {selection.engine.precision.value}'


# the same answers

@pytest.mark.parametrize('engine, precision', PAIRS)
@pytest.mark.parametrize('path', MODELS, ids=lambda path: path.stem)
def test_agrees_with_fp32_torch_on_shipped_frames(path, engine, precision, tmp_path):
    kind = ENGINES[engine]
    if fault := kind.unsupported(Precision(precision), 'cpu'):
        pytest.skip(fault)
    checkpoint = Checkpoint.open(path)
    images = list(bag_images(share_path(SAMPLE_BAG), checkpoint.metadata.preprocessing, 64))
    if precision == 'int8' and not int8_path(path).exists():
        pytest.importorskip('nncf')
        path = shutil.copy(path, tmp_path / path.name)
        write_model(int8_path(path), quantized(checkpoint, [image[None] for image in images]),
                    checkpoint, overwrite=False)
    exact = GraspClassifier.from_checkpoint(path, 'cpu').predict(images)
    given = GraspClassifier.from_checkpoint(
        path, 'cpu', engine=engine, precision=precision).predict(images)
    threshold = checkpoint.metadata.threshold
    assert ((given >= threshold) == (exact >= threshold)).mean() >= .96  # all but two
    limit = {'fp32': 1e-4, 'bf16': .15, 'fp16': .05, 'int8': .3}[precision]
    assert abs(given - exact).max() < limit
    assert abs(given - exact).mean() < limit / 5
    if precision != 'fp32':
        assert abs(given - exact).max() > 0, 'it is fp32 under another name'


@pytest.mark.parametrize('name, norms', [
    ('resnet34', 36), ('efficientnet_lite0', 49), ('cifar_cnn', 0)])
def test_fusing_leaves_the_function_as_it_is(name, norms):
    torch.manual_seed(0)
    model = build(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # fresh ones do nothing worth checking
            module.running_mean.normal_(std=.1)
            module.running_var.uniform_(.5, 2)
            torch.nn.init.uniform_(module.weight, .5, 2)
    x = torch.rand(2, 3, 64, 64) if name != 'cifar_cnn' else torch.rand(2, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lean = fold_batch_norm(model)
    count = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert count == norms
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lean.modules())
    with torch.inference_mode():
        torch.testing.assert_close(lean(x), model(x), rtol=1e-3, atol=1e-4)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


# what auto may take

def test_no_unproven_engine_is_taken(checkpoint):
    selection = pick(checkpoint)
    assert name(selection) == 'torch fp32'
    assert 'not proven; export_classifier CHECKPOINT --verify DATASET does it' in str(selection)
    if ENGINES['openvino'].unsupported(Precision.INT8, 'cpu') is None:
        assert 'openvino int8: there is no int8 model beside the checkpoint' in str(selection)


def test_the_fastest_proven_engine_is_taken(checkpoint):
    pytest.importorskip('openvino')
    prove(checkpoint, ('openvino', 'fp32'), ('openvino', 'int8'), ('torch', 'bf16'))
    selection = pick(checkpoint)
    assert name(selection) == 'openvino fp32'
    assert 'openvino int8: there is no int8 model beside the checkpoint' in str(selection)


@pytest.mark.parametrize('shipped, lower', [
    (DEFAULT_CHECKPOINT, set()),
    ('models/efficientnet_lite0_rig.safetensors', {('openvino', 'bf16'), ('openvino', 'int8')})])
def test_a_shipped_checkpoint_brings_its_proof(shipped, lower):
    path = share_path(shipped)
    proof = read_proof(Checkpoint.open(path))  # of another checkpoint it would be an error
    proven = {(figure.engine, figure.precision) for figure in proof.figures
              if figure.agreement >= MIN_AGREEMENT}
    assert proven >= {('openvino', 'fp32'), ('opencv', 'fp32')} | lower
    assert proof.reference      # OpenCV is compared with torch where torch is missing
    versions = {figure.version for figure in proof.figures if figure.engine == 'openvino'}
    constraints = share_path('constraints.txt').read_text(encoding='utf-8')
    assert versions == set(re.findall(r'^openvino==(.*)$', constraints, re.MULTILINE))
    if ENGINES['openvino'].unsupported(Precision.FP32, 'cpu') is None:
        assert (pick(path).engine.name == 'openvino') == (versions == {installed('openvino')})


def test_a_proof_made_with_another_version_of_the_library_does_not_count(checkpoint):
    pytest.importorskip('openvino')
    prove(checkpoint, ('openvino', 'fp32'), version='2024.4.0')
    selection = pick(checkpoint, precision='fp32')
    assert name(selection) == 'torch fp32'
    assert (f'openvino fp32: proven with openvino 2024.4.0, not with {installed("openvino")}, '
            'which is installed; prove it again') in str(selection)


@pytest.mark.parametrize('agreeing, taken', [(995, 'openvino fp32'), (994, 'torch fp32')])
def test_almost_alike_is_not_enough(agreeing, taken, checkpoint):
    pytest.importorskip('openvino')
    prove(checkpoint, ('openvino', 'fp32'), agreeing=agreeing)
    selection = pick(checkpoint, precision='fp32')
    assert name(selection) == taken
    assert taken != 'torch fp32' or 'as fp32 torch on 99.40% of the frames only' in str(selection)


@pytest.mark.parametrize('text, reason', [
    ('{}', 'cannot be read; make it again'),
    ('[1', 'cannot be read; make it again'),
    ('{"format_version": 1, "identity": "", "dataset": "", "figures": [{"frames": 0}]}',
     'cannot be read; make it again'),
    (None, 'is of another checkpoint; make it again')])
def test_proofs_that_prove_nothing(text, reason, checkpoint):
    prove(checkpoint, ('torch', 'bf16'), identity='f' * 64)
    if text is not None:
        proof_path(checkpoint).write_text(text, encoding='utf-8')
    selection = pick(checkpoint, engine='torch')
    assert name(selection) == 'torch fp32'
    if not ENGINES['torch'].unsupported(Precision.BF16, 'cpu'):
        assert f'model.engines.json {reason}' in str(selection)


def test_another_threshold_needs_another_proof(checkpoint):
    """The tensors are the same, the decisions are not."""
    loaded = Checkpoint.open(checkpoint)
    moved = Checkpoint.of_model(loaded.model, replace(loaded.metadata, threshold=.123))
    assert identity(moved) != identity(loaded)


def test_engines_asked_for_by_name_may_compute_in_fp32_without_proof(checkpoint):
    pytest.importorskip('openvino')
    assert name(pick(checkpoint, engine='openvino')) == 'openvino fp32'


# what is not there

@pytest.mark.parametrize('given, text', [
    ({'engine': 'tensorrt'}, "unknown engine 'tensorrt'; expected auto, openvino, torch, opencv"),
    ({'precision': 'fp8'}, "unknown precision 'fp8'; expected auto, fp32, bf16, fp16, int8"),
    ({'device': 'tpu9'}, "unknown device 'tpu9'"),
    ({'engine': 'torch', 'precision': 'int8'}, 'no engine fits engine=torch, precision=int8'),
    ({'engine': 'torch', 'precision': 'fp16'}, 'torch fp16: fp16 is for GPUs'),
    ({'engine': 'openvino', 'device': 'cuda'}, "runs on cpu, gpu, npu, not on 'cuda'")])
def test_engines_that_do_not_exist(given, text, checkpoint):
    with pytest.raises(ConfigError, match=text):
        pick(checkpoint, **given)


def test_an_openvino_device_that_is_not_there(checkpoint):
    pytest.importorskip('openvino')
    with pytest.raises(ConfigError, match="openvino fp32: finds no 'npu' here, only cpu"):
        pick(checkpoint, engine='openvino', precision='fp32', device='npu')


def test_without_openvino(checkpoint, monkeypatch):
    monkeypatch.setattr(
        'grasp_success_detector.inference.openvino_engine.installed', lambda: False)
    prove(checkpoint, ('openvino', 'fp32'))
    selection = pick(checkpoint, precision='fp32')
    assert name(selection) == 'torch fp32'
    assert 'openvino fp32: not installed (pip install openvino)' in str(selection)
    with pytest.raises(ConfigError, match=r'not installed \(pip install openvino\)'):
        pick(checkpoint, engine='openvino')


@pytest.mark.skipif(find_spec('openvino') is None, reason='needs openvino')
def test_openvino_does_not_report_to_its_makers(tmp_path):
    """In processes of their own: another test may have loaded it, and not every pip brings it."""
    (tmp_path / 'openvino_telemetry.py').write_text('print("loaded")\n')

    def printed(program):
        return subprocess.run(
            [sys.executable, '-c', program], capture_output=True, text=True, check=True,
            env=os.environ | {'PYTHONPATH': f'{tmp_path}:{os.environ["PYTHONPATH"]}'}).stdout

    assert 'loaded' in printed('import openvino')
    assert printed('from grasp_success_detector.inference.openvino_engine import load_openvino\n'
                   'load_openvino()') == ''


@pytest.mark.parametrize('answer', [
    lambda logits: logits[:, ::-1], lambda logits: np.full_like(logits, np.nan)])
def test_an_engine_that_answers_nonsense_is_not_taken(answer, checkpoint, monkeypatch):
    """As with a broken driver."""
    pytest.importorskip('openvino')
    prove(checkpoint, ('openvino', 'fp32'))
    kind = ENGINES['openvino']
    right = kind.logits
    monkeypatch.setattr(kind, 'logits', lambda self, images: answer(right(self, images)))
    selection = pick(checkpoint, precision='fp32')
    assert name(selection) == 'torch fp32'
    assert 'from torch: something is broken' in str(selection)


# the cache of converted networks

def test_the_cache_is_used(cache, checkpoint, monkeypatch):
    pytest.importorskip('openvino')
    first = pick(checkpoint, 'openvino', 'fp32').engine
    monkeypatch.setattr('grasp_success_detector.inference.openvino_engine.convert', None)
    second = pick(checkpoint, 'openvino', 'fp32').engine
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(first.logits(image), second.logits(image))
    assert len(list(cache.iterdir())) == 1


WITHOUT_TORCH = """
import sys
import numpy as np
from grasp_success_detector.inference.classifier import GraspClassifier
classifier = GraspClassifier.from_checkpoint(
    sys.argv[1], 'cpu', engine='openvino', precision='fp32')
print(classifier.predict([np.full((48, 64, 3), 90, np.uint8)])[0])
assert 'torch' not in sys.modules
"""


def test_a_start_from_the_cache_needs_no_torch(checkpoint):
    pytest.importorskip('openvino')
    here = GraspClassifier.from_checkpoint(checkpoint, 'cpu', engine='openvino', precision='fp32')
    done = subprocess.run([sys.executable, '-c', WITHOUT_TORCH, str(checkpoint)],
                          capture_output=True, text=True, timeout=60)
    assert not done.stderr
    expected = here.predict([np.full((48, 64, 3), 90, np.uint8)])[0]
    assert float(done.stdout) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize('damage', [
    lambda file, other: file.write_bytes(file.read_bytes()[:-100]),
    lambda file, other: file.write_bytes(file.read_bytes()[:-4] + b'evil'),
    lambda file, other: file.write_bytes(b''),
    lambda file, other: shutil.copy(other, file)], ids=['cut', 'changed', 'empty', 'foreign'])
def test_a_cache_that_is_wrong_is_made_again(damage, cache, checkpoint, tmp_path):
    pytest.importorskip('openvino')
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = build('cifar_cnn')
    other = tmp_path / 'other.safetensors'
    save(other, model, Checkpoint.open(checkpoint).metadata)
    pick(other, 'openvino', 'fp32')
    others_file, = cache.iterdir()
    expected = pick(checkpoint, 'torch', 'fp32').engine
    pick(checkpoint, 'openvino', 'fp32')
    file, = set(cache.iterdir()) - {others_file}
    damage(file, others_file)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    ours = pick(checkpoint, 'openvino', 'fp32').engine
    np.testing.assert_allclose(ours.logits(image), expected.logits(image), atol=1e-3)
    read_model(file, Checkpoint.open(checkpoint))  # mended for the next time


def test_a_cache_that_cannot_be_written_is_done_without(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip('openvino')
    Path(tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert name(pick(checkpoint, 'openvino', 'fp32')) == 'openvino fp32'


def test_every_engine_is_found():
    assert {'torch', 'openvino', 'opencv'} <= set(ENGINES)
