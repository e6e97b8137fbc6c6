"""The report of a training: complete, self-contained, right; Grad-CAM finds the right place."""

from dataclasses import replace
import json
import re
import shutil

import cv2
from frames import colour_frames, split_frames, write_dataset
import numpy as np
import pytest
from report_page import Page
import torch

from grasp_success_detector.datasets.dataset import read_extracted, read_manifest, write_marker
from grasp_success_detector.errors import RunError
from grasp_success_detector.evaluation.predictions import (
    Prediction,
    read_predictions,
    write_predictions,
)
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import build, default_preprocessing
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata
from grasp_success_detector.reports.charts import Axis, Chart, number_axis, share_axis
from grasp_success_detector.reports.pictures import grad_cam, overlay, worst_errors
from grasp_success_detector.reports.training_page import write_report
from grasp_success_detector.training.fit import fit
from grasp_success_detector.training.recipe import TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]

SECTIONS = [
    'Confusion matrices', 'ROC and precision-recall curves', 'Calibration of P(success)',
    'The worst errors', 'Training', 'All numbers',
    'Data', 'Layers', 'Recipe and versions']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train briefly, so that errors remain."""
    folder = tmp_path_factory.mktemp('trained')
    dataset = write_dataset(folder / 'set', split_frames(colour_frames(32)))
    config = TrainingConfig(architecture='cifar_cnn', pretrained=False, freeze_conv_layers=1,
                            epochs=2, batch_size=8, seed=3, max_false_positive_rate=.4)
    fit(config, read_extracted(dataset), folder / 'run', [dataset], say=lambda line: None)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of the run and of its data set that a test may change."""
    shutil.copytree(trained / 'set', tmp_path / 'set')
    shutil.copytree(trained / 'run', tmp_path / 'run')
    change_json(tmp_path / 'run/run.json', dataset=str(tmp_path / 'set'),
                test_dataset=str(tmp_path / 'set'))
    return tmp_path / 'run'


def change_json(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def spoil(run, count):
    """Make the predictions of the first ``count`` test attempts surely wrong."""
    rows = read_predictions(run / 'predictions.csv')
    attempts = sorted({row.attempt for row in rows if row.split == 'test'})[:count]
    write_predictions(run / 'predictions.csv', [
        row._replace(probability=.99 if row.label is Label.FAILURE else .01)
        if row.attempt in attempts else row for row in rows])
    return attempts


def report(run):
    path = write_report(run)
    assert path == run / 'report.html'
    return Page(path.read_text())


def test_report_is_whole_and_needs_nothing_else(run):
    wrong = spoil(run, 3)
    page = report(run)
    assert page.headings == SECTIONS
    assert page.needs_nothing_else
    assert page.charts >= 8  # four of the training, two curves, reliability, histogram
    metrics = json.loads((run / 'metrics.json').read_text())
    attempts = metrics['test']['attempts']
    text = page.text.replace('\N{NO-BREAK SPACE}', ' ')
    assert f'{100 * attempts["value"]:.1f} %of test attempts right' in text
    low, high = attempts['wilson_95']
    assert (f'{attempts["correct"]} of {attempts["total"]}; 95 % interval {100 * low:.1f} % to '
            f'{100 * high:.1f} %') in text
    assert f'threshold in use, {metrics["threshold"]:.3f}' in text
    assert f'after temperature {metrics["temperature"]:.2f}' in text
    assert 'Class accuracy, training images (no measure of quality)' in text
    assert 'conv1.weight' in text and 'freeze_conv_layers: 1' in text and 'lightning' in text
    for attempt in wrong:
        assert re.search(rf'P\(success\) = 0.\d+, {attempt}, (success|failure)/\S+', text)
    # Each error is a frame and its Grad-CAM.
    shown = int(re.search(r'worst frame of each of (\d+) of', text)[1])
    assert shown >= 3 and len(page.loads) == 2 * shown


def test_report_can_be_written_again(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.glob('.*'))


def test_data_of_the_simulation_are_called_so(run):
    assert 'simulated' not in report(run).text
    dataset = run.parent / 'set'
    nothing = {'labels': None, 'label': None, 'label_topic': None}
    write_marker(dataset, {'frames': 1, 'plan': nothing})
    text = report(run).text
    assert 'simulated data' in text and 'of simulated test attempts right' in text
    assert 'No picture is a photograph' in text
    write_marker(dataset, {'frames': 1, 'plan': nothing | {'label_topic': '/held'}})
    text = report(run).text
    assert 'simulated' not in text and 'Labels from the topic /held' in text


def test_pictures_that_are_gone_are_said_to_be(run):
    spoil(run, 2)
    dataset = run.parent / 'set'
    for row in read_manifest(dataset):
        (dataset / row.file).unlink()
    page = report(run)
    assert not page.loads and 'of these pictures cannot be read, such as' in page.text
    shutil.rmtree(dataset)
    assert 'The data set is no longer at' in report(run).text
    change_json(run / 'run.json', dataset=None, test_dataset=None)
    assert 'The data set does not tell where its labels come from' in report(run).text


def test_report_on_right_answers_only_and_on_one_label(run):
    rows = read_predictions(run / 'predictions.csv')
    write_predictions(run / 'predictions.csv', [
        row._replace(probability=.001) for row in rows if row.label is Label.FAILURE])
    page = report(run)
    assert 'No test frame is on the wrong side of the threshold' in page.text
    assert 'Both labels are needed for these curves' in page.text
    write_predictions(run / 'predictions.csv', [])
    assert report(run).headings == SECTIONS


def test_names_from_outside_are_no_html(run):
    rows = read_predictions(run / 'predictions.csv')
    write_predictions(run / 'predictions.csv', [
        row._replace(attempt=f'<b>{row.attempt}', probability=.5) for row in rows])
    renamed = run.with_name('a<script>b')
    run.rename(renamed)
    page = report(renamed)
    assert '<b>made/' in page.text and 'a<script>b' in page.text


@pytest.mark.parametrize('file, error', [
    ('run.json', 'run: this training is not finished; let it end, or go on with it'),
    ('predictions.csv', 'run: a damaged run folder, lacking predictions.csv'),
    ('classifier.safetensors', 'run: a damaged run folder, lacking classifier.safetensors'),
])
def test_unfinished_runs_are_one_line(run, file, error):
    (run / file).unlink()
    with pytest.raises(RunError, match=error):
        write_report(run)


def test_foreign_and_damaged_folders_are_one_line(run, tmp_path):
    with pytest.raises(RunError, match=r'set: no run of train_classifier \(run.json is missing'):
        write_report(tmp_path / 'set')
    with pytest.raises(RunError, match='nowhere: no such folder; expected a run'):
        write_report(tmp_path / 'nowhere')
    change_json(run / 'run.json', format_version=9)
    with pytest.raises(RunError, match='a run folder of format 9; this version reads 1'):
        write_report(run)
    (run / 'run.json').write_text('{"format_version": 1}')
    with pytest.raises(RunError, match='damaged run folder .*architecture, best_epoch'):
        write_report(run)
    (run / 'run.json').write_text('{')
    with pytest.raises(RunError, match='damaged run folder'):
        write_report(run)


def test_worst_errors_are_the_surest_and_one_of_each_attempt():
    failure, success = Label
    rows = [Prediction('test', 'b', attempt, i, f'{i}.jpg', label, p, p)
            for i, (attempt, label, p) in enumerate([
                ('a', failure, .95), ('a', failure, .9), ('b', success, .02), ('c', failure, .4),
                ('d', success, .6), ('e', success, .99)])]
    assert [row.stamp_ns for row in worst_errors(rows, .7)] == [2, 0, 4]
    assert [row.stamp_ns for row in worst_errors(rows, .7, most=1)] == [2]


# Grad-CAM

class Spot(torch.nn.Module):
    """A network that answers success where the image is red."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1)
        self.fc = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1., -.5, -.5], [-.5, -.5, 1.]])[..., None, None])
            self.conv.bias.zero_()
            self.fc.weight.copy_(torch.tensor([[0., 1.], [1., 0.]]))
            self.fc.bias.zero_()


def spot_checkpoint(monkeypatch, preprocessing):
    from grasp_success_detector.networks.architectures import Stage
    from grasp_success_detector.reports import pictures as room

    model = Spot()
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    monkeypatch.setattr(room, 'stages', lambda model, name: [
        Stage('conv', torch.nn.Sequential(model.conv, torch.nn.ReLU())), Stage('pool', pool),
        Stage('fc', model.fc)])
    return Checkpoint.of_model(model, CheckpointMetadata('cifar_cnn', preprocessing))


@pytest.mark.parametrize('label, row, column', [(Label.SUCCESS, 0, 0), (Label.FAILURE, 1, 1)])
def test_grad_cam_finds_the_evidence_for_a_label(monkeypatch, label, row, column):
    """Red at the top left is evidence for success, blue at the bottom right for failure."""
    spot = spot_checkpoint(monkeypatch, Preprocessing(30, 40))
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[:30, :40, 0] = frame[30:, 40:, 2] = 255
    heat = grad_cam(spot, frame, label)
    assert heat.shape == (60, 80) and heat.dtype == np.float32
    quarters = heat.reshape(2, 30, 2, 40).mean((1, 3))
    assert quarters[row, column] > .9
    assert np.delete(quarters.ravel(), 2 * row + column).max() < .05
    laid = overlay(frame, heat)
    coloured = np.ptp(laid.astype(int), axis=2).reshape(2, 30, 2, 40).mean((1, 3))
    assert coloured.argmax() == 2 * row + column
    assert coloured.max() > 10 * np.sort(coloured.ravel())[-2]


def test_grad_cam_lies_where_the_classifier_looks(monkeypatch):
    """With a region of interest heat stays inside of it, at the right place of the frame."""
    spot = spot_checkpoint(monkeypatch, Preprocessing(30, 30, roi=(.5, 0., .5, 1.)))
    frame = np.zeros((60, 120, 3), np.uint8)
    frame[:, :60, 0] = 255          # not seen
    frame[30:, 60:90, 0] = 255      # the region's bottom left
    heat = grad_cam(spot, frame, Label.SUCCESS)
    assert not heat[:, :60].any()
    assert heat[35:, 62:88].min() > .9 and heat[:25].max() < .05 and heat[:, 95:].max() < .05


class LastChannels(torch.nn.Module):
    """A backbone whose features are (B, h, w, C), or tokens (B, h * w, C)."""

    def __init__(self, as_tokens):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 64, 8, 8)
        self.as_tokens = as_tokens

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        return x.flatten(1, 2) if self.as_tokens else x


@pytest.mark.parametrize('as_tokens', [False, True])
def test_networks_without_feature_maps_are_shown_without(run, monkeypatch, as_tokens):
    """Transformers: features of other proportions, or without spatial dimensions."""
    from grasp_success_detector.networks.architectures import Stage
    from grasp_success_detector.reports import pictures as room

    rest = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2))
    monkeypatch.setattr(room, 'stages', lambda model, name: [
        Stage('backbone', LastChannels(as_tokens)), Stage('head', rest)])
    checkpoint = Checkpoint.of_model(torch.nn.Identity(), CheckpointMetadata(
        'cifar_cnn', Preprocessing(32, 32)))
    assert grad_cam(checkpoint, np.zeros((40, 40, 3), np.uint8), Label.SUCCESS) is None
    spoil(run, 2)
    page = report(run)
    assert 'This network has no feature maps that Grad-CAM could show' in page.text
    assert 'On the right' not in page.text and len(page.loads) >= 2


@pytest.mark.parametrize('name', ['cifar_cnn', 'resnet34', 'efficientnet_lite0'])
def test_grad_cam_is_the_gradient_by_hand(name):
    """Against hooks on the last convolution stage of the real networks, random weights."""
    torch.manual_seed(0)
    model = build(name).eval()
    preprocessing = replace(default_preprocessing(name), height=64, width=64) if (
        name != 'cifar_cnn') else default_preprocessing(name)
    checkpoint = Checkpoint.of_model(model, CheckpointMetadata(name, preprocessing))
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    layer = {'cifar_cnn': 'conv2', 'resnet34': 'layer4', 'efficientnet_lite0': 'bn2'}[name]
    seen = {}
    model.get_submodule(layer).register_forward_hook(
        lambda module, given, out: seen.update(maps=out))
    x = preprocessing.normalize(torch.from_numpy(preprocessing.crop_and_resize(frame)[None]))
    logits = model(x)[0]
    maps = seen['maps']
    if name == 'cifar_cnn':  # the stage ends behind the pooling
        maps = torch.max_pool2d(torch.relu(maps), 2)
        logits = model.fc3(torch.relu(model.fc2(torch.relu(model.fc1(maps.flatten(1))))))[0]
    heats = [grad_cam(checkpoint, frame, label) for label in Label]
    assert any(heat.max() > .5 for heat in heats)
    for label, heat in zip(Label, heats, strict=True):
        gradient, = torch.autograd.grad(logits[label] - logits[1 - label], maps,
                                        retain_graph=True)
        expected = torch.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1))[0].detach()
        if expected.max() > 0:
            expected /= expected.max()
        height, width = frame.shape[:2]
        assert heat == pytest.approx(cv2.resize(expected.numpy(), (width, height)), abs=1e-4)


# Charts

def test_chart_puts_points_where_they_belong():
    chart = Chart(Axis('x', 0., 10., (0., 10.)), share_axis('y'), 'a & b', 440, 300)
    chart.dots([(0, 0, 3, 'low'), (10, 1, 3, 'high'), (5, .5, 3, 'middle'), (99, 9, 3, 'beyond')],
               'red')
    places = [tuple(map(float, found)) for found in re.findall(
        r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart.__html__())]
    (left, bottom), (right, top), middle, beyond = places
    assert left < right and top < bottom
    assert middle == ((left + right) / 2, (top + bottom) / 2) and beyond == (right, top)
    assert 'aria-label="a &amp; b"' in chart.__html__()


@pytest.mark.parametrize('values, low, ticks', [
    ([.03, .19], 0., (0, .05, .1, .15, .2)),
    ([3., 17.], None, (0, 5, 10, 15, 20)),
    ([.5], 0., (0, .1, .2, .3, .4, .5)),
    ([float('nan')], 0., (0, .2, .4, .6, .8, 1.)),
])
def test_axes_have_round_ticks(values, low, ticks):
    axis = number_axis('loss', values, low)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= min(ticks) and axis.high == pytest.approx(max(ticks))
