"""The hand finder: what its grid says, what it learns, what classifiers are shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from grasp_success_detector.errors import CheckpointError, ImageDecodeError
from grasp_success_detector.files import share_path
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference import hand_finder as finders
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.hand_finder import FINDER_FILE, HandFinder, look
from grasp_success_detector.inference.opencv_engine import OpenCvEngine
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.networks.architectures import build
from grasp_success_detector.networks.checkpoint import (
    Checkpoint,
    CheckpointMetadata,
    HandFinderMetadata,
    save,
)
from grasp_success_detector.networks.hand_boxes import FINDER_INPUT, HandBox, read_box, VALUES
from grasp_success_detector.training.hand_finder import cut, Example, loss, overlap, targets

BOX = HandBox(.4, .3, .7, .8)


def as_values(box, sure=8.):
    """Return the values of a grid that says where a box is."""
    known, edges = targets(box)
    grid = np.full((VALUES, *known.shape), -8., np.float32)
    grid[0][known == 1] = sure
    grid[1:] = edges
    return grid.reshape(-1)


def coloured(height=90, width=160):
    """Return a frame in which the red channel is the column, the green one the row."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(width), np.arange(height)[:, None]
    return frame


@pytest.fixture(scope='module')
def finder():
    return HandFinder(TorchEngine)


def test_what_a_network_is_taught_is_what_is_read():
    found = read_box(as_values(BOX), FINDER_INPUT)
    np.testing.assert_allclose(found.edges, BOX.edges, atol=.01)
    assert found.confidence > .99
    assert read_box(as_values(None), FINDER_INPUT).confidence < .01


def test_a_tiny_hand_still_has_a_cell():
    known, _ = targets(HandBox(.5, .5, .52, .53))
    assert (known == 1).sum() == 1


def test_values_of_a_grid_never_leave_the_picture():
    rng = np.random.default_rng(0)
    for scale in (1, 100):
        values = rng.normal(0, scale, as_values(None).shape).astype(np.float32)
        left, top, right, bottom, confidence = read_box(values, FINDER_INPUT)
        assert 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1 and 0 <= confidence <= 1


def test_the_loss_is_least_where_the_grid_is_right():
    sure, edges = (torch.from_numpy(part)[None] for part in targets(BOX))
    right = torch.from_numpy(as_values(BOX))[None]
    assert loss(right, sure, edges) < .01
    assert loss(torch.from_numpy(as_values(None))[None], sure, edges) > 1
    aside = torch.from_numpy(as_values(HandBox(.1, .3, .4, .8)))[None]
    assert loss(aside, sure, edges) > 1


def test_cuts_keep_box_and_picture_together():
    rng = np.random.default_rng(3)
    image = np.zeros((240, 320, 3), np.uint8)
    image[72:192, 128:224] = 255        # the box
    without = 0
    for _ in range(200):
        part, box = cut(rng, Example(image, BOX))
        assert part.shape == (FINDER_INPUT.height, FINDER_INPUT.width, 3)
        if box is None:
            without += 1
            assert part.mean() < 10
            continue
        rows, columns = (np.flatnonzero(part[..., 0].max(axis) > 127) for axis in (1, 0))
        height, width = part.shape[:2]
        np.testing.assert_allclose(box.edges, (
            columns[0] / width, rows[0] / height, (columns[-1] + 1) / width,
            (rows[-1] + 1) / height), atol=.03)
    assert 5 < without < 60


def test_overlap():
    assert overlap(BOX, BOX) == 1
    assert overlap(HandBox(0, 0, .5, 1), HandBox(.5, 0, 1, 1)) == 0
    assert overlap(HandBox(0, 0, .5, 1), HandBox(.25, 0, .75, 1)) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_shipped_finder_finds_simulated_hands(finder):
    pytest.importorskip('mujoco')
    from grasp_success_detector.simulation.assets import Assets
    from grasp_success_detector.simulation.hand_model import HandModel
    from grasp_success_detector.simulation.studio import Studio
    from grasp_success_detector.simulation.world import make_world_episode

    studio, hand = Studio(320, 240, Assets()), HandModel()
    try:
        frames = [frame for number in range(6)
                  for frame in make_world_episode(77, number, 4, 1, studio, hand).frames
                  if frame.box is not None]
    finally:
        studio.close()
    overlaps = []
    for frame in frames:
        found = finder.find(frame.image)
        left, top, right, bottom = frame.box
        overlaps.append(0. if found is None else overlap(
            found, HandBox(left / 320, top / 240, right / 320, bottom / 240)))
    assert np.mean(overlaps) > .45


def test_pictures_without_a_hand_have_none(finder):
    rng = np.random.default_rng(0)
    for frame in (np.full((240, 320, 3), 128, np.uint8), np.zeros((100, 100, 3), np.uint8),
                  rng.integers(0, 256, (240, 320, 3), np.uint8), coloured()):
        assert finder.find(frame) is None


@pytest.mark.parametrize('frame', [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(finder, frame):
    with pytest.raises(ImageDecodeError):
        finder.find(frame)


def test_opencv_finds_what_torch_finds(finder):
    other = HandFinder(OpenCvEngine)
    images = np.random.default_rng(1).integers(
        0, 256, (3, FINDER_INPUT.height, FINDER_INPUT.width, 3), np.uint8)
    np.testing.assert_allclose(other.engine.logits(images), finder.engine.logits(images),
                               atol=2e-3)


class Finds:
    """Finds a given box, and remembers where it looked."""

    def __init__(self, box):
        self.box, self.within = box, None

    def find(self, frame, within):
        self.within = within
        return self.box


def test_a_classifier_is_shown_the_hand():
    around = Preprocessing(16, 16, roi=(.1, 0., .9, 1.), hand=1.)
    hand = Finds(HandBox(.5, .5, .6, .6))
    view = look(coloured(100, 100), around, hand)
    assert hand.within == (.1, 0., .9, 1.) and view.box == hand.box and not view.no_hand
    assert 50 <= view.image[..., 0].min() and view.image[..., 0].max() < 60
    view = look(coloured(100, 100), around, Finds(None))
    assert view.no_hand and view.box is None
    assert view.image[..., 0].min() < 15 and view.image[..., 0].max() > 95


def test_no_hand_is_looked_for_unless_the_checkpoint_says_so():
    view = look(coloured(), Preprocessing(16, 16))
    assert view.box is None and not view.no_hand


def test_a_region_of_interest_limits_where_it_is_looked_for(finder, monkeypatch):
    monkeypatch.setattr(finder.engine, 'logits', lambda images: as_values(BOX)[None])
    found = finder.find(coloured(100, 200), (.5, 0., .5, .5))
    np.testing.assert_allclose(found.edges, (.7, .15, .85, .4), atol=.01)


def test_a_classifier_and_a_process_use_the_same_finder(tmp_path):
    path = tmp_path / 'around.safetensors'
    around = Preprocessing(32, 32, hand=1.5)
    save(path, build('cifar_cnn'), CheckpointMetadata('cifar_cnn', around))
    classifier = GraspClassifier.from_checkpoint(path)
    assert classifier.preprocessing == around
    frame = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(classifier.prepare([frame])[0], look(frame, around).image)
    classifier.preprocessing = replace(around, hand=0.)
    np.testing.assert_array_equal(
        classifier.prepare([frame])[0], Preprocessing(32, 32).crop_and_resize(frame))


def test_a_classifier_is_no_finder_and_a_finder_no_classifier(tmp_path, monkeypatch):
    path = tmp_path / 'classifier.safetensors'
    save(path, build('cifar_cnn'), CheckpointMetadata('cifar_cnn', Preprocessing(32, 32)))
    with pytest.raises(CheckpointError, match='holds no hand finder'):
        Checkpoint.open(path, HandFinderMetadata)
    with pytest.raises(CheckpointError, match='no metadata of it'):
        Checkpoint.open(share_path(FINDER_FILE))
    monkeypatch.setattr(finders, 'FINDER_FILE', 'models/missing.safetensors')
    with pytest.raises(Exception, match='missing'):
        HandFinder(TorchEngine)
