"""Checkpoints: what is written is what is read, and every bad file gets one clear line."""

from array import array
import copy
from dataclasses import dataclass
import hashlib
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
import torch

from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.engine import identity
from grasp_success_detector.networks import checkpoint as checkpoint_module
from grasp_success_detector.networks.architectures import (
    ARCHITECTURES,
    build,
    default_preprocessing,
)
from grasp_success_detector.networks.checkpoint import (
    BackboneMetadata,
    Checkpoint,
    CheckpointMetadata,
    FORMAT_VERSION,
    read_backbone,
    save,
)
from grasp_success_detector.networks.learnt_frames import (
    count_learnt,
    ENTRY,
    frame_hash,
    MOST_HASHES,
    with_record,
)
from grasp_success_detector.networks.tensors_file import document_sha256, tensors_sha256

KEY = 'grasp_success_detector'


def metadata_of(name='cifar_cnn', **fields):
    return CheckpointMetadata(name, default_preprocessing(name), **fields)


def load(path):
    """Open a checkpoint and load its model, so that everything about it is checked."""
    opened = Checkpoint.open(path)
    assert opened.model is opened.model
    return opened


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(5)
    path = tmp_path / 'model.safetensors'
    save(path, build('cifar_cnn'), metadata_of())
    return path


def rewrite(path, change_tensors=None, change_document=None, rehash=True):
    """Write a file again as another program might have, with changed tensors or metadata."""
    with safe_open(path, 'pt') as file:
        document = json.loads(file.metadata()[KEY])
    tensors = load_file(path)
    if change_tensors:
        change_tensors(tensors)
        document['tensors_sha256'] = tensors_sha256(tensors)
    if change_document:
        document = change_document(document)
    if rehash and 'sha256' in document and document.get('format_version') != 1:
        document['sha256'] = document_sha256(document)
    save_file(tensors, path, {KEY: json.dumps(document)})


def as_version_1(document):
    """Return a document as version 1 of the format had it: with a hash of the tensors only."""
    old = {**document, 'format_version': 1, 'sha256': document['tensors_sha256']}
    del old['tensors_sha256']
    return old


@pytest.mark.slow
@pytest.mark.parametrize('name', ARCHITECTURES)
def test_round_trip(name, tmp_path):
    torch.manual_seed(5)
    model = build(name)
    for buffer in model.buffers():  # statistics as after some training
        buffer.add_(1)
    metadata = CheckpointMetadata(
        name, Preprocessing(48, 64, (.1, .2, .5, .6), (.1, .2, .3), (.4, .5, .6)),
        threshold=.625, temperature=1.5,
        training={'attempts': 700, 'seeds': [1, 2], 'recipe': {'lr': 1e-3}},
        metrics={'test_accuracy': {'value': .95, 'wilson_95': [.92, .97]}})
    path = tmp_path / 'ü model.safetensors'
    sha256 = save(path, model, metadata)
    checkpoint = load(str(path))

    assert checkpoint.metadata == metadata
    assert checkpoint.path == path
    assert checkpoint.sha256 == sha256
    assert checkpoint.tensors_sha256 == tensors_sha256(model.state_dict())
    assert not any(module.training for module in checkpoint.model.modules())
    state = checkpoint.model.state_dict()
    assert list(state) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key
    assert os.listdir(tmp_path) == [path.name]


def test_loading_leaves_the_callers_random_numbers_alone(saved):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load(saved)
    assert torch.equal(torch.rand(3), expected)


def test_saving_leaves_the_model_alone(tmp_path):
    model = build('cifar_cnn').train()
    before = copy.deepcopy(model.state_dict())
    save(tmp_path / 'a.safetensors', model, metadata_of())
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_same_content_same_bytes(tmp_path):
    model = build('cifar_cnn')
    for name in 'ab':
        save(tmp_path / name, model, metadata_of(metrics={'b': 1, 'a': 2}))
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_memory_layout_does_not_matter(tmp_path):
    model = build('cifar_cnn')
    one = save(tmp_path / 'a', model, metadata_of())
    two = save(tmp_path / 'b', model.to(memory_format=torch.channels_last), metadata_of())
    assert one == two


def test_sha256_is_what_its_definition_says():
    tensors = {'b': torch.tensor([[1., 2.], [3., 4.]]).T, 'a': torch.tensor(7)}
    content = (b'["a", "int64", []]\n' + struct.pack('<q', 7)
               + b'["b", "float32", [2, 2]]\n' + struct.pack('<4f', 1, 3, 2, 4))
    assert tensors_sha256(tensors) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize('change', [
    lambda t: {'c': t['a'], 'b': t['b']},                         # name
    lambda t: {'a': t['a'].reshape(1, 2), 'b': t['b']},           # shape
    lambda t: {'a': t['a'].view(torch.int32), 'b': t['b']},       # type
    lambda t: {'a': t['a'] * -1, 'b': t['b']},                    # bytes, even 0 and -0
    lambda t: {'a': t['b'], 'b': t['a']}])
def test_sha256_notices(change):
    tensors = {'a': torch.zeros(2), 'b': torch.ones(2)}
    assert tensors_sha256(change(tensors)) != tensors_sha256(tensors)
    assert tensors_sha256(dict(reversed(tensors.items()))) == tensors_sha256(tensors)


def test_the_hash_of_a_document_is_what_its_definition_says():
    document = {'threshold': .76, 'metrics': {'n': 10, 'ä': None, 5: [1e-7, 2.]}, 'sha256': 'x'}
    text = r'{"metrics":{"5":[1e-07,2.0],"n":10,"\u00e4":null},"threshold":0.76}'
    assert document_sha256(document) == hashlib.sha256(text.encode()).hexdigest()


# Saving

def test_nothing_is_overwritten_without_overwrite(saved):
    before = saved.read_bytes()
    other = build('cifar_cnn')
    with pytest.raises(CheckpointError, match='model.safetensors: exists already; choose another'):
        save(saved, other, metadata_of())
    assert saved.read_bytes() == before
    sha256 = save(saved, other, metadata_of(), overwrite=True)
    assert load(saved).sha256 == sha256


def test_not_finite_weights_are_not_written(saved):
    before = saved.read_bytes()
    model = build('cifar_cnn')
    with torch.no_grad():
        model.fc2.bias[3] = float('nan')
        model.conv1.weight[0, 0, 0, 0] = float('inf')
    with pytest.raises(CheckpointError, match=r'model.safetensors: not written: holds weights '
                       r'that are not finite \(NaN or infinite\): conv1.weight, fc2.bias$'):
        save(saved, model, metadata_of(), overwrite=True)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_model_of_another_architecture_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match='not written: its tensors are not those of resn'):
        save(tmp_path / 'a', build('cifar_cnn'), metadata_of('resnet34'))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('value', [float('nan'), np.float32(1), {1, 2}])
def test_metadata_that_json_cannot_hold(value, tmp_path):
    with pytest.raises(CheckpointError, match='a: the metadata does not fit into JSON: '):
        save(tmp_path / 'a', build('cifar_cnn'), metadata_of(metrics={'accuracy': value}))
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path):
    model = build('cifar_cnn')
    with pytest.raises(CheckpointError, match=r'a: cannot be written \(No such file or'):
        save(tmp_path / 'nowhere' / 'a', model, metadata_of())
    with pytest.raises(CheckpointError, match=r'cannot be written \(File name too long'):
        save(tmp_path / ('a' * 250), model, metadata_of())
    (tmp_path / 'folder').mkdir()
    with pytest.raises(CheckpointError, match=r'folder: cannot be written \(Is a directory'):
        save(tmp_path / 'folder', model, metadata_of(), overwrite=True)
    assert os.listdir(tmp_path) == ['folder']


# Loading what is no checkpoint

def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match='a.safetensors: no such file; expected a checkp'):
        load(tmp_path / 'a.safetensors')


def test_folder(tmp_path):
    with pytest.raises(CheckpointError, match='is a folder; expected a checkpoint of train_class'):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_unreadable(saved):
    saved.chmod(0)
    with pytest.raises(CheckpointError, match='cannot be read: Permission denied'):
        load(saved)


@pytest.mark.parametrize('content, text', [
    (b'', 'is empty'),
    (b'\x00', 'is no safetensors file; expected a checkpoint of train_classifier'),
    (b'<!DOCTYPE html><html>404 not found</html>', 'is no safetensors file'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'is no safetensors file'),
    (struct.pack('<Q', 300) + b'{"a": 1', 'truncated or damaged'),
    (struct.pack('<Q', 7) + b'{"a": 1', 'truncated or damaged')])
def test_other_content(content, text, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'a.safetensors: {text}'):
        load(path)


@pytest.mark.parametrize('keep', [9, 100, .2, .5, .999])
def test_truncated(keep, saved):
    content = saved.read_bytes()
    saved.write_bytes(content[:keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(CheckpointError, match='truncated or damaged; copy or train it again'):
        load(saved)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_pickle_is_named_and_never_loaded(zipped, tmp_path):
    class Bomb:

        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'exploded'),)

    path = tmp_path / 'model.safetensors'  # the suffix does not matter
    torch.save({'state_dict': Bomb()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r'is a legacy PyTorch checkpoint \(pickle\), which '
                       'is never loaded directly; import it once, explicitly'):
        load(path)
    assert not (tmp_path / 'exploded').exists()


def test_a_header_that_begins_like_a_pickle_is_none(saved):
    """The length of a header may be 0x...0280: in the file it then begins with 80 02."""
    rewrite(saved)
    length = struct.unpack('<Q', saved.read_bytes()[:8])[0]
    padding = (0x10280 - length) // 8 * 8  # headers are padded to 8 bytes
    rewrite(saved, change_document=lambda d: {**d, 'training': {'x': 'y' * (padding - 12)}})
    assert saved.read_bytes()[:2] == b'\x80\x02'
    load(saved)


# Loading what is a safetensors file

def test_foreign(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file({'x': torch.zeros(1)}, path, {'format': 'pt'})
    with pytest.raises(CheckpointError, match='a.safetensors: a safetensors file, but not of th'):
        load(path)
    save_file({'x': torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match='not of this package'):
        load(path)


@pytest.mark.parametrize('change, text', [
    (lambda d: {**d, 'format_version': FORMAT_VERSION + 1, 'new_field': 1},
     f'has format version {FORMAT_VERSION + 1}, this package reads up to {FORMAT_VERSION}; '
     'upgrade grasp_success_detector'),
    (lambda d: {**d, 'format_version': 0}, 'metadata cannot be read: .*format version 0'),
    (lambda d: {**d, 'format_version': True}, 'metadata cannot be read: .*format version True'),
    (lambda d: {**d, 'format_version': '1'}, "metadata cannot be read: .*format version '1'"),
    (lambda d: [d], 'metadata cannot be read'),
    (lambda d: {}, "metadata cannot be read: KeyError.'format_version'"),
    (lambda d: {k: v for k, v in d.items() if k not in ('threshold', 'metrics')},
     'missing from or unknown in the metadata: metrics, threshold'),
    (lambda d: {**d, 'colour': 'red'}, 'missing from or unknown in the metadata: colour'),
    (lambda d: {k: v for k, v in d.items() if k != 'sha256'}, 'holds no SHA-256'),
    (lambda d: {**d, 'architecture': 'vgg99'}, "unknown architecture 'vgg99'; expected one of c"),
    (lambda d: {**d, 'architecture': ['a']}, r"unknown architecture \['a'\]"),
    (lambda d: {**d, 'class_names': ['success', 'failure']},
     r"class_names 'success', 'failure' .expected \['failure', 'success'\], in this"),
    (lambda d: {**d, 'class_names': 3}, 'class_names 3 .expected a list, each text'),
    (lambda d: {**d, 'threshold': 1.5}, 'threshold 1.5 .expected a number above 0.0 and up to 1'),
    (lambda d: {**d, 'threshold': 0.}, 'threshold 0.0 .expected a number above 0'),
    (lambda d: {**d, 'threshold': None}, 'threshold None'),
    (lambda d: {**d, 'temperature': 0}, 'temperature 0 .expected a number from 0.01 to 100'),
    (lambda d: {**d, 'temperature': 1e-9}, 'temperature 1e-09 .expected a number from 0.01 to'),
    (lambda d: {**d, 'temperature': 1e9}, 'temperature 1000000000.0 .expected a number from 0.01'),
    *((lambda d, change=change: {**d, 'preprocessing': {**d['preprocessing'], **change}}, text)
      for change, text in (
          ({'width': 3}, 'preprocessing .*expected height and width of 8 pixels or more'),
          ({'mean': [1e300, .5, .5]}, 'mean .*expected 3 values, each a number from 0.0 to 1.0'),
          ({'std': [1e-300, .5, .5]}, 'std .*expected 3 values, each a number from 0.001 to 10'),
          ({'roi': [.5, .5, 1e-9, .5]}, 'roi .*width and height of 0.01 or more'))),
    (lambda d: {**d, 'training': 'yes'}, "training 'yes' .expected names and values"),
    (lambda d: {**d, 'preprocessing': {'height': 32}}, 'preprocessing: got .*expected'),
    (lambda d: {**d, 'preprocessing': {**d['preprocessing'], 'height': -1}},
     'height -1 .expected a whole number from 1 to 4096'),
    (lambda d: {**d, 'tensors_sha256': '0' * 64},
     'damaged: the SHA-256 of its tensors is [0-9a-f]{64}, the file says 0{64}')])
def test_metadata_that_cannot_be_used(change, text, saved):
    rewrite(saved, change_document=change)
    with pytest.raises(CheckpointError, match=f'model.safetensors: .*{text}') as info:
        load(saved)
    assert '\n' not in str(info.value)


@pytest.mark.parametrize('change', [
    lambda d: {**d, 'threshold': .06},
    lambda d: {**d, 'temperature': 2},
    lambda d: {**d, 'temperature': float('inf')},
    lambda d: {**d, 'preprocessing': {**d['preprocessing'], 'roi': [0., 0., .9, 1.]}},
    lambda d: {**d, 'metrics': {'accuracy': .98}},
    lambda d: {**d, 'format_version': 1},   # whose hash would cover the tensors only
    lambda d: {**d, 'sha256': '0' * 64}])
def test_changed_metadata_is_refused(change, saved):
    rewrite(saved, change_document=change, rehash=False)
    with pytest.raises(CheckpointError, match='model.safetensors: .*(SHA-256|JSON)') as info:
        Checkpoint.open(saved)
    assert '\n' not in str(info.value)


def test_one_changed_digit_of_the_threshold_is_refused(tmp_path):
    path = tmp_path / 'a.safetensors'
    save(path, build('cifar_cnn'), metadata_of(threshold=.76))
    content = path.read_bytes()
    assert content.count(b'threshold\\": 0.76') == 1
    path.write_bytes(content.replace(b'threshold\\": 0.76', b'threshold\\": 0.06'))
    with pytest.raises(CheckpointError, match='a.safetensors: its metadata was damaged or '
                       'changed: the SHA-256 is [0-9a-f]{64}, the file says [0-9a-f]{64}; copy'):
        Checkpoint.open(path)


def test_one_flipped_bit_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match='damaged: the SHA-256 of its tensors is'):
        load(saved)


def test_a_file_that_is_replaced_before_its_model_is_asked_for(saved):
    opened = Checkpoint.open(saved)
    other = load(saved)
    assert (opened.metadata, opened.sha256) == (other.metadata, other.sha256)
    save(saved, build('cifar_cnn'), other.metadata, overwrite=True)
    with pytest.raises(CheckpointError, match='was replaced while it was being loaded'):
        opened.model  # noqa: B018 - asking for it loads it


def test_all_wrong_tensors_are_named(saved):
    def change(tensors):
        del tensors['conv1.bias'], tensors['fc3.weight']
        tensors['conv3.bias'] = torch.zeros(2)
        tensors['fc1.bias'] = torch.zeros(121)
        tensors['fc2.bias'] = tensors['fc2.bias'].half()

    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=(
            'model.safetensors: its tensors are not those of cifar_cnn; '
            'missing: conv1.bias, fc3.weight; unexpected: conv3.bias; of another shape or type: '
            r'fc1.bias \(float32 \[121\], expected float32 \[120\]\), '
            r'fc2.bias \(float16 \[84\], expected float32 \[84\]\)$')):
        load(saved)


def test_not_finite_weights_are_not_loaded(saved):
    def change(tensors):
        tensors['fc1.weight'][0, 0] = float('-inf')

    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=r'not finite \(NaN or infinite\): fc1.weight$'):
        load(saved)


def test_a_model_in_memory_is_a_checkpoint_too():
    model = build('cifar_cnn')
    checkpoint = Checkpoint.of_model(model, metadata_of())
    assert checkpoint.model is model
    assert checkpoint.tensors_sha256 == tensors_sha256(model.state_dict())
    assert checkpoint.path is None


def test_metadata_is_read_without_torch(saved):
    done = subprocess.run([sys.executable, '-c', """
import sys
from grasp_success_detector.networks.checkpoint import Checkpoint
assert Checkpoint.open(sys.argv[1]).metadata.architecture == 'cifar_cnn'
assert 'torch' not in sys.modules
""", saved], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Files of older and newer versions of the package

@dataclass(frozen=True)
class LaterMetadata(CheckpointMetadata):
    """A file as a later version might write it: with one more field."""

    familiarity: float | None = None


def test_a_file_that_lacks_later_optional_fields(saved, monkeypatch):
    monkeypatch.setattr(checkpoint_module, 'CheckpointMetadata', LaterMetadata)
    assert load(saved).metadata == LaterMetadata(
        'cifar_cnn', default_preprocessing('cifar_cnn'), familiarity=None)


def test_a_file_of_version_1_is_read_and_keeps_what_was_proven(saved):
    new = load(saved)
    rewrite(saved, change_document=as_version_1)
    old = load(saved)
    assert old.metadata == new.metadata
    assert old.sha256 == old.tensors_sha256 == new.tensors_sha256 != new.sha256
    assert identity(old) == identity(new)


def test_pretrained_weights_are_hashed_whole_and_read_in_version_1(tmp_path):
    path = tmp_path / 'backbone.safetensors'
    save(path, build('cifar_cnn'), BackboneMetadata('cifar_cnn', default_preprocessing(
        'cifar_cnn'), metrics={'accuracy': .68}))
    with safe_open(path, 'pt') as file:
        document = json.loads(file.metadata()[BackboneMetadata.KEY])
    tensors, about = read_backbone(path)
    assert about.metrics == {'accuracy': .68}
    save_file(tensors, path, {BackboneMetadata.KEY: json.dumps(as_version_1(document))})
    assert read_backbone(path)[1] == about
    save_file(tensors, path, {BackboneMetadata.KEY: json.dumps(
        {**document, 'metrics': {'accuracy': .98}})})
    with pytest.raises(CheckpointError, match='its metadata was damaged or changed'):
        read_backbone(path)


def test_a_file_of_an_older_version_is_migrated_step_by_step(saved, monkeypatch):
    def rename(document, hashed=checkpoint_module.MIGRATIONS[1]):
        return {**{k: v for k, v in hashed(document).items() if k != 'softness'},
                'temperature': document['softness']}

    def halve(document):
        return {**document, 'temperature': document['temperature'] / 2}

    rewrite(saved, change_document=lambda d: {
        **{k: v for k, v in as_version_1(d).items() if k != 'temperature'}, 'softness': 4.})
    monkeypatch.setattr(checkpoint_module, 'FORMAT_VERSION', 3)
    monkeypatch.setattr(checkpoint_module, 'MIGRATIONS', {1: rename, 2: halve})
    metadata = load(saved).metadata
    assert (metadata.temperature, metadata.format_version) == (2., 3)


def test_every_older_version_has_a_migration():
    assert set(checkpoint_module.MIGRATIONS) == set(range(1, FORMAT_VERSION))


def test_of_many_learnt_frames_a_part_is_recorded_and_an_earlier_training_is_kept():
    hashes = [frame_hash(str(i).encode()) for i in range(3 * MOST_HASHES)]
    training = with_record(hashes)
    assert len(training[ENTRY][0]['hashes']) < 50_000
    found = count_learnt(training, hashes[:3000] + [
        frame_hash(f'other {i}'.encode()) for i in range(3000)])
    assert found.checked == pytest.approx(2000, rel=.1)
    assert found.frames == pytest.approx(1000, rel=.1) and found.asked == 6000
    assert f'of {found.checked} frames looked up, of 6000, were' in str(found)
    again = with_record([frame_hash(b'new')], training)
    assert count_learnt(again, [frame_hash(b'new'), min(hashes), 'f' * 16]) == (2, 3, 3)
    assert count_learnt({}, hashes) is None
    with pytest.raises(CheckpointError, match='learnt_frames cannot be used'):
        count_learnt({ENTRY: [{'frames': 3}]}, hashes)


def test_the_hash_of_a_raw_image_is_of_its_bytes_whatever_holds_them():
    image = np.random.default_rng(3).integers(0, 256, (480, 640, 3), np.uint8)
    other = image.copy()
    other[200:210] += 1
    expected = frame_hash(image.tobytes())
    assert frame_hash(image) == frame_hash(image.reshape(-1)) == frame_hash(
        array('B', image.tobytes())) == expected
    assert frame_hash(other) != expected
    assert frame_hash(b'jpeg') == hashlib.sha256(b'jpeg').hexdigest()[:16]
    assert frame_hash(np.empty(0, np.uint8)) == frame_hash(b'')
