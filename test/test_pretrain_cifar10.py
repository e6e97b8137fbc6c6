"""Pre-training on ten classes: both kinds of folder, honest figures, clear errors, Ctrl-C."""

import hashlib
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from grasp_success_detector.cli.pretrain_cifar10 import main
from grasp_success_detector.files import share_path
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.networks.architectures import default_preprocessing
from grasp_success_detector.networks.checkpoint import read_backbone
from grasp_success_detector.networks.cifar_cnn import CifarCnn, PRETRAINED
from grasp_success_detector.networks.weights import build_pretrained
from grasp_success_detector.training.cifar10 import shift_and_mirror
from grasp_success_detector.training.cifar10_images import read_images

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

SIZE = default_preprocessing('cifar_cnn')
CLASSES = [f'class{i}' for i in range(10)]


def pictures(seed: int, each: int):
    """Return images of ten colours, with noise, and their classes: easy to tell apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), each)
    colours = np.random.default_rng(0).integers(0, 256, (10, 3))
    noise = rng.integers(-20, 21, (len(labels), 32, 32, 3))
    return np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8), labels


def image_folder(folder, each=(20, 5)):
    for split, seed, count in zip(('train', 'test'), (1, 2), each, strict=True):
        for i, (image, label) in enumerate(zip(*pictures(seed, count), strict=True)):
            path = folder / split / CLASSES[label] / f'{i}.{"png" if i % 2 else "jpg"}'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(image) if i % 2 else encode_jpeg(image))
    return folder


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp('pictures'))


def torchvision_folder(folder, monkeypatch):
    """Write the files that torchvision's CIFAR10 reads, and make it expect their checksums."""
    from torchvision.datasets import CIFAR10

    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)

    def write(name, content):
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(seed, each):
        images, labels = pictures(seed, each)
        rows = images.transpose(0, 3, 1, 2).reshape(len(labels), -1)  # planes of R, G, B
        return {'data': rows, 'labels': labels.tolist()}

    monkeypatch.setattr(CIFAR10, 'train_list', [
        [f'data_batch_{i}', write(f'data_batch_{i}', batch(i, 4))] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, 'test_list', [['test_batch', write('test_batch', batch(6, 5))]])
    monkeypatch.setattr(CIFAR10, 'meta', {
        'filename': 'batches.meta', 'key': 'label_names',
        'md5': write('batches.meta', {'label_names': CLASSES})})
    return folder


OPTIONS = ['--epochs', '8', '--batch-size', '10', '--lr', '0.02', '--device', 'cpu']


@pytest.mark.parametrize('kind', ['image folder', 'torchvision'])
def test_ten_colours_are_learnt(kind, tree, tmp_path, monkeypatch, capfd):
    folder = tree if kind == 'image folder' else torchvision_folder(tmp_path / 'c', monkeypatch)
    out = tmp_path / 'out.safetensors'
    assert main([str(folder), '--out', str(out), '--data-name', 'ten colours', *OPTIONS]) == 0
    said = capfd.readouterr()
    assert not said.err
    assert '200 training and 50 test images of 10 classes' in said.out
    reports = re.findall(r'epoch (\d)/8: training loss \S+, test (\S+)% \(\d+/50, 95 % int',
                         said.out)
    assert [epoch for epoch, _ in reports] == list('12345678')
    assert float(reports[-1][1]) > 80 > float(reports[0][1])
    assert len(re.findall(r'^  class\d  \S+% \(\d/5, 95 % interval \S+% to \S+%\)$', said.out,
                          re.M)) == 80

    tensors, metadata = read_backbone(out)
    assert metadata.class_names == tuple(CLASSES)
    assert metadata.preprocessing == SIZE
    assert metadata.training['data'] == 'ten colours'
    assert metadata.training['images'] == {'train': 200, 'test': 50}
    # The figures are those of the weights in the file, on images without augmentation.
    model = CifarCnn(10).eval()
    model.load_state_dict(tensors)
    _, test = read_images(folder, SIZE)
    with torch.inference_mode():
        right = model(SIZE.normalize(test.images)).argmax(1) == test.labels
    measured = metadata.metrics['test']
    assert measured['images']['correct'] == int(right.sum())
    assert [a['correct'] for a in measured['classes'].values()] == [
        int(right[test.labels == i].sum()) for i in range(10)]
    assert [e['epoch'] for e in metadata.metrics['epochs']] == list(range(1, 9))
    # And they are a start for a grasp classifier.
    assert torch.equal(build_pretrained('cifar_cnn', out).conv2.weight, tensors['conv2.weight'])


def test_colours_and_order_survive_reading(tmp_path, monkeypatch):
    """Red stays red and rows stay rows, from torchvision's planes as from files."""
    train, test = read_images(torchvision_folder(tmp_path, monkeypatch), SIZE)
    images, labels = pictures(6, 5)
    assert np.array_equal(test.images.numpy(), images)
    assert test.labels.tolist() == labels.tolist()
    assert len(train.labels) == 200


def test_pngs_are_read_exactly(tree):
    _, test = read_images(tree, SIZE)
    images, labels = pictures(2, 5)
    by_class = [sorted(map(str, np.flatnonzero(labels == c))) for c in range(10)]
    order = [int(i) for names in by_class for i in names]  # files are read by name: 1, 10, 2
    names = [f'{i}.{"png" if i % 2 else "jpg"}' for i in order]
    assert test.labels.tolist() == labels[order].tolist()
    for got, i, name in zip(test.images.numpy(), order, names, strict=True):
        assert np.array_equal(got, images[i]) == name.endswith('png')
        assert np.abs(got.astype(int).mean((0, 1)) - images[i].mean((0, 1))).max() < 3


def test_the_seed_decides(tree, tmp_path):
    def run(name, seed):
        assert main([str(tree), '--out', str(tmp_path / name), '--epochs', '1', '--device', 'cpu',
                     '--seed', seed]) == 0
        return read_backbone(tmp_path / name)[0]['fc3.bias']

    one = run('a', '1')
    assert torch.equal(one, run('b', '1'))
    assert not torch.equal(one, run('c', '2'))


def test_images_are_shifted_by_two_pixels_and_mirrored():
    torch.manual_seed(0)
    image = torch.arange(8 * 6 * 3, dtype=torch.uint8).reshape(1, 8, 6, 3)
    padded = np.pad(image[0].numpy(), ((2, 2), (2, 2), (0, 0)), mode='reflect')
    possible = {}
    for y in range(5):
        for x in range(5):
            crop = padded[y:y + 8, x:x + 6]
            possible[crop.tobytes()] = (y, x, False)
            possible[crop[:, ::-1].tobytes()] = (y, x, True)
    changed = shift_and_mirror(image.expand(1000, -1, -1, -1))
    assert changed.dtype == torch.uint8
    seen = {possible[one.numpy().tobytes()] for one in changed}
    assert len(seen) == 50


@pytest.mark.parametrize('arguments, text', [
    (['nowhere'], 'nowhere: is no folder; expected the folders train and test with one folder for '
     "each of 10 classes, or torchvision's cifar-10-batches-py"),
    (['.'], 'has no train and no test; expected'),
    (['.', '--epochs', '0', '--lr', '-1'],
     r'pre-training: epochs 0 \(expected a whole number of 1 or more\), lr '),
    (['.', '--device', 'tpu'], r"device 'tpu' \(expected auto or cpu or gpu or cuda or mps\)")])
def test_bad_input_is_one_line_and_leaves_nothing(arguments, text, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, '--out', 'out']) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err) and err.count('\n') == 1
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize('change, text', [
    (lambda d: os.rename(d / 'test', d / 'tset'), 'has no test; expected the folders train and t'),
    (lambda d: [p.unlink() for p in (d / 'train/class3').iterdir()],
     'train: no images in class3'),
    (lambda d: os.rename(d / 'test/class4', d / 'test/klass4'),
     'train and test have different classes; only one has class4, klass4'),
    (lambda d: (d / 'train/eleventh').mkdir(), r'train: has 11 classes \(.*, eleventh\); expected '
     '10 folders'),
    (lambda d: [(d / f'train/class{i}/bad.jpg').write_bytes(b'\xff\xd8\xff') for i in (1, 7)],
     '2 images cannot be read: .*class1/bad.jpg: .*; .*class7/bad.jpg: ')])
def test_folders_that_are_not_as_expected(change, text, tmp_path, capsys):
    folder = image_folder(tmp_path / 'd', each=(1, 1))
    change(folder)
    assert main([str(folder), '--out', str(tmp_path / 'out')]) == 1
    err = capsys.readouterr().err
    assert re.search(f'^error: .*{text}', err) and err.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_torchvisions_files_that_are_damaged(tmp_path, monkeypatch, capsys):
    folder = torchvision_folder(tmp_path / 'c', monkeypatch)
    file = folder / 'cifar-10-batches-py' / 'data_batch_3'
    file.write_bytes(file.read_bytes()[:-1])
    assert main([str(folder), '--out', str(tmp_path / 'out')]) == 1
    assert re.search('^error: .*c: CIFAR-10 cannot be read or downloaded .*--download fetches it '
                     'again', capsys.readouterr().err)


def test_a_loss_that_is_not_finite_stops_it(tree, tmp_path, capsys):
    assert main([str(tree), '--out', str(tmp_path / 'out'), '--lr', '1e30',
                 '--device', 'cpu']) == 1
    err = capsys.readouterr().err
    assert err == ('error: the loss is not finite in epoch 1; '
                   'try a learning rate below 1e+30\n')
    assert not os.listdir(tmp_path)


def test_nothing_is_overwritten_and_it_says_so_at_once(tmp_path, capsys):
    (tmp_path / 'out').write_text('mine')
    assert main(['nowhere', '--out', str(tmp_path / 'out')]) == 1
    assert 'out: exists already' in capsys.readouterr().err
    assert (tmp_path / 'out').read_text() == 'mine'


@pytest.mark.parametrize('place', ['file/out', 'none/out', '/proc/out'])
def test_a_file_that_cannot_be_written_is_one_line_before_anything_is_read(
        tmp_path, capsys, place):
    (tmp_path / 'file').touch()
    out = tmp_path / place
    assert main(['nowhere', '--out', str(out)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f'error: {out}: cannot be written (') and err.count('\n') == 1


def test_ctrl_c_ends_it_and_leaves_nothing(tree, tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', 'import sys; from grasp_success_detector.cli.pretrain_cifar10 '
         'import main; sys.exit(main())', str(tree), '--out', 'out', '--epochs', '100000',
         '--device', 'cpu'], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
    try:
        for line in process.stdout:
            if line.startswith('  class9'):  # the first epoch's report is out
                break
        time.sleep(.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err == 'interrupted\n'
    assert not os.listdir(tmp_path)


# What ships

def test_shipped_weights_say_what_they_are():
    tensors, metadata = read_backbone(share_path(PRETRAINED))
    assert metadata.architecture == 'cifar_cnn'
    assert metadata.preprocessing == SIZE
    assert metadata.class_names == (
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
    assert metadata.training['data'] == 'CIFAR-10, JPEG copies'
    assert metadata.training['images'] == {'train': 50000, 'test': 10000}
    measured = metadata.metrics['test']
    assert measured['images']['total'] == 10000
    assert measured['images']['value'] > .65
    assert {a['total'] for a in measured['classes'].values()} == {1000}
    assert CifarCnn(10).load_state_dict(tensors).missing_keys == []
