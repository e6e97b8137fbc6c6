"""export_classifier: an exported file gives the checkpoint's results, or is not written."""

from dataclasses import replace
import json
import shutil

from frames import colour_frames, split_frames, write_dataset
import numpy as np
import pytest

from grasp_success_detector.cli.export_classifier import main
from grasp_success_detector.export import formats
from grasp_success_detector.export.agreement import bag_images
from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.networks.checkpoint import Checkpoint, save

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'model.safetensors'
    shutil.copy(share_path('models/cifar_cnn_rig.safetensors'), path)
    return path


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp('data') / 'set', split_frames(colour_frames()))


@pytest.fixture(scope='module')
def images():
    checkpoint = Checkpoint.open(share_path('models/cifar_cnn_rig.safetensors'))
    return bag_images(share_path(SAMPLE_BAG), checkpoint.metadata.preprocessing, 20)


def left(folder):
    return sorted(file.name for file in folder.iterdir() if file.name != 'cache')


def test_onnx(path, images, tmp_path, capsys):
    pytest.importorskip('onnx')
    onnxruntime = pytest.importorskip('onnxruntime')
    out = tmp_path / 'model.onnx'
    assert main([str(path), '--onnx', str(out)]) == 0
    assert 'model.onnx: written; its logits differ from those of torch by' in (
        capsys.readouterr().out)
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    logits, = session.run(None, {'frames': images})
    classifier = GraspClassifier.from_checkpoint(path, 'cpu')
    np.testing.assert_allclose(logits, classifier.logits(list(images)), atol=1e-3)
    said = json.loads(session.get_modelmeta().custom_metadata_map[formats.METADATA_KEY])
    assert Preprocessing.from_metadata(said['preprocessing']) == classifier.metadata.preprocessing
    assert said['class_names'] == ['failure', 'success']
    assert (said['sha256'], said['threshold']) == (classifier.sha256, classifier.threshold)


def test_openvino(path, images, tmp_path):
    openvino = pytest.importorskip('openvino')
    out = tmp_path / 'model.xml'
    assert main([str(path), '--openvino', str(out)]) == 0
    model = openvino.Core().read_model(out)
    said = json.loads(model.get_rt_info([formats.METADATA_KEY]).astype(str))
    assert said['sha256'] == Checkpoint.open(path).sha256
    compiled = openvino.Core().compile_model(
        model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    logits = np.concatenate([compiled([image[None]])[0] for image in images])
    classifier = GraspClassifier.from_checkpoint(path, 'cpu')
    np.testing.assert_allclose(logits, classifier.logits(list(images)), atol=1e-3)


@pytest.mark.parametrize('option, name', [('--onnx', 'm.onnx'), ('--openvino', 'm.xml')])
def test_an_export_with_different_results_is_not_written(
        option, name, path, tmp_path, monkeypatch, capsys):
    for package in ('onnx', 'onnxruntime', 'openvino'):
        pytest.importorskip(package)
    forward = formats.PixelNetwork.forward
    monkeypatch.setattr(formats.PixelNetwork, 'forward',
                        lambda self, images: forward(self, images.flip(3)))  # BGR
    before = left(tmp_path)
    assert main([str(path), option, str(tmp_path / name)]) == 1
    assert 'not written: its logits differ from those of torch by' in capsys.readouterr().err
    assert left(tmp_path) == before


def test_nothing_is_overwritten_without_overwrite(path, tmp_path, capsys):
    pytest.importorskip('openvino')
    for suffix in ('xml', 'bin'):
        out = tmp_path / 'model.xml'
        out.with_suffix(f'.{suffix}').write_text('mine')
        assert main([str(path), '--openvino', str(out)]) == 1
        assert f'model.{suffix}: exists already; replace it with --overwrite' in (
            capsys.readouterr().err)
        assert out.with_suffix(f'.{suffix}').read_text() == 'mine'
        out.with_suffix(f'.{suffix}').unlink()


def test_int8_is_calibrated_and_proven(path, dataset, images, capsys):
    pytest.importorskip('openvino')
    pytest.importorskip('nncf')
    with pytest.raises(SystemExit, match='2'):
        main([str(path)])
    assert 'nothing to do: give --onnx' in capsys.readouterr().err
    assert main([str(path), '--calibrate', str(dataset), '--verify', str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert 'model.int8.safetensors: written' in shown
    assert '| torch | fp32 | cpu |' in shown and '| openvino | int8 | cpu |' in shown
    proof = json.loads(path.with_suffix('.engines.json').read_text())
    figures = {(f['engine'], f['precision']): f for f in proof['figures']}
    assert figures['torch', 'fp32']['largest_difference'] == 0
    assert {f['frames'] for f in figures.values()} == {12}  # the validation frames only
    int8 = GraspClassifier.from_checkpoint(path, 'cpu', engine='openvino', precision='int8')
    exact = GraspClassifier.from_checkpoint(path, 'cpu')
    # It was calibrated on pictures unlike those, so that it may only resemble.
    difference = abs(int8.predict(list(images)) - exact.predict(list(images)))
    assert 0 < difference.mean() < .2

    assert main([str(path), '--calibrate', str(dataset)]) == 1
    assert 'int8.safetensors: exists already; replace it with --overwrite' in (
        capsys.readouterr().err)


def test_an_int8_model_of_another_checkpoint_is_refused(path, dataset, tmp_path):
    pytest.importorskip('openvino')
    pytest.importorskip('nncf')
    assert main([str(path), '--calibrate', str(dataset), '--verify', str(dataset)]) == 0
    other = tmp_path / 'other.safetensors'
    shutil.copy(share_path('models/efficientnet_lite0_rig.safetensors'), other)
    shutil.copy(path.with_suffix('.int8.safetensors'), other.with_suffix('.int8.safetensors'))
    shutil.copy(path.with_suffix('.engines.json'), other.with_suffix('.engines.json'))
    selection = GraspClassifier.from_checkpoint(
        other, 'cpu', engine='auto', precision='auto').selection
    assert (selection.engine.name, selection.engine.precision) == ('torch', 'fp32')
    assert 'other.engines.json is of another checkpoint; make it again' in str(selection)


@pytest.mark.parametrize('options, text', [
    (['--verify', 'none'], 'none'),
    (['--onnx', 'model.pt'], 'model.pt: expected a name that ends in .onnx'),
    (['--onnx', 'no/where.onnx'], 'no/where.onnx: cannot be written: No such file'),
    (['--onnx', 'm.onnx', '--bag', 'none'], 'none: no such bag'),
    (['--onnx', 'm.onnx', '--bag', str(share_path(SAMPLE_BAG)), '--topic', '/x'],
     'no image topic /x')])
def test_bad_input(options, text, path, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    assert main([str(path), *options]) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count('\n') == 1


@pytest.mark.parametrize('option, name', [('--onnx', 'm.onnx'), ('--openvino', 'm.xml')])
def test_places_that_cannot_be_written(option, name, unwritable_folders, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('openvino')
    shipped = share_path('models/cifar_cnn_rig.safetensors')
    for folder in unwritable_folders:
        assert main([str(shipped), option, str(folder / name)]) == 1
        error = capsys.readouterr().err
        assert f'{folder / name}: cannot be written: ' in error
        assert error.count('\n') == 1


def test_a_device_without_a_working_engine_gives_no_proof(path, dataset, capsys):
    assert main([str(path), '--verify', str(dataset), '--device', 'tpu9']) == 1
    error = capsys.readouterr().err
    assert "no engine runs on device 'tpu9': " in error
    assert error.count('\n') == 1
    assert not path.with_suffix('.engines.json').exists()


def test_without_the_packages(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(formats, 'find_spec', lambda name: None)
    monkeypatch.setattr(formats.openvino_engine, 'installed', lambda: False)
    assert main([str(path), '--onnx', str(tmp_path / 'm.onnx')]) == 1
    assert 'pip install onnx onnxruntime' in capsys.readouterr().err
    assert main([str(path), '--openvino', str(tmp_path / 'm.xml')]) == 1
    assert 'OpenVINO is not installed; pip install openvino' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--onnx', '--openvino'])
def test_an_exported_file_calls_the_same_frames_unfamiliar(option, tmp_path):
    checkpoint = Checkpoint.open('efficientnet_lite0_rig')
    path = tmp_path / 'knows_hands.safetensors'
    save(path, checkpoint.model, replace(checkpoint.metadata, familiarity=replace(
        checkpoint.metadata.familiarity, hand=-.3)))
    checkpoint = Checkpoint.open(path)
    own = bag_images(share_path(SAMPLE_BAG), checkpoint.metadata.preprocessing, 12)
    strangers = np.random.default_rng(0).integers(0, 256, (3, *own.shape[1:]), np.uint8)
    frames = np.concatenate([own, strangers, np.full_like(strangers[:1], 90)])
    if option == '--onnx':
        onnxruntime = pytest.importorskip('onnxruntime')
        out = tmp_path / 'model.onnx'
        assert main([str(path), option, str(out)]) == 0
        session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
        logits, familiarity = session.run(['logits', 'familiarity'], {'frames': frames})
        said = session.get_modelmeta().custom_metadata_map[formats.METADATA_KEY]
    else:
        openvino = pytest.importorskip('openvino')
        out = tmp_path / 'model.xml'
        assert main([str(path), option, str(out)]) == 0
        model = openvino.Core().read_model(out)
        run = openvino.Core().compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        answers = [run([frame[None]]) for frame in frames]
        logits, familiarity = (np.concatenate([answer[name] for answer in answers])
                               for name in ('logits', 'familiarity'))
        said = model.get_rt_info([formats.METADATA_KEY]).astype(str)
    classifier = GraspClassifier(checkpoint, 'cpu')
    judged = classifier.judge_prepared(frames)
    np.testing.assert_allclose(familiarity, judged.familiarity, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(logits, classifier.engine.logits(frames), atol=1e-3)
    limit = json.loads(said)['familiarity_limit']
    strange = classifier.unfamiliar(len(frames), .99)
    np.testing.assert_array_equal(familiarity < limit, strange)
    assert strange[-4:].all() and not strange[:-4].all()
