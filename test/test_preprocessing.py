"""Crop, scaling and normalisation against references computed another way."""

from dataclasses import asdict, replace
import json

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import torch

from grasp_success_detector.errors import ConfigError, ImageDecodeError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.networks import torchvision_ops  # noqa: F401 (before torchvision)

IMAGENET = {'mean': (.485, .456, .406), 'std': (.229, .224, .225)}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.slow
def test_normalize_equals_torchvision():
    from torchvision.transforms.functional import normalize, to_tensor

    images = np.stack([noise(5, 7), noise(5, 7, 1)])
    ours = Preprocessing(5, 7, **IMAGENET).normalize(torch.from_numpy(images))
    reference = torch.stack([normalize(to_tensor(image), **IMAGENET) for image in images])
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-6)


def test_channels_are_permuted_and_not_viewed():
    """One red pixel in black: a view as (3, H, W) would scatter its values."""
    image = np.zeros((1, 4, 6, 3), np.uint8)
    image[0, 1, 2] = 255, 0, 0
    planes = Preprocessing(4, 6).normalize(torch.from_numpy(image))
    expected = torch.full((1, 3, 4, 6), -1.)
    expected[0, 0, 1, 2] = 1.  # red comes first
    torch.testing.assert_close(planes, expected)


def test_normalize_uses_each_channels_own_mean_and_std():
    grey = torch.full((1, 1, 1, 3), 51, dtype=torch.uint8)  # 51 / 255 = 0.2
    out = Preprocessing(1, 1, mean=(.2, .1, 0.), std=(1., .5, .1)).normalize(grey)
    torch.testing.assert_close(out.flatten(), torch.tensor([0., .2, 2.]))


@pytest.mark.parametrize('images', [
    torch.zeros(1, 3, 4, 6, dtype=torch.uint8),
    torch.zeros(1, 4, 6, 3),
    torch.zeros(4, 6, 3, dtype=torch.uint8)])
def test_normalize_refuses(images):
    with pytest.raises(ConfigError, match=r'normalize: got torch\.\w+ \(.*expected torch.uint8'):
        Preprocessing(4, 6).normalize(images)


def test_shrinking_averages_the_centred_square():
    """48x64 to 4x4: of the centred 48x48 each pixel is the mean of 12x12."""
    frame = noise(48, 64)
    blocks = frame[:, 8:56].reshape(4, 12, 4, 12, 3).mean((1, 3))
    out = Preprocessing(4, 4).crop_and_resize(frame)
    assert out.dtype == np.uint8
    assert out.shape == (4, 4, 3)
    assert np.abs(out - blocks).max() <= .51


def test_portrait_frames_lose_top_and_bottom():
    frame = noise(100, 40)
    np.testing.assert_array_equal(
        Preprocessing(40, 40).crop_and_resize(frame), frame[30:70])


def test_the_input_may_be_wide():
    frame = noise(60, 60)
    np.testing.assert_array_equal(Preprocessing(20, 60).crop_and_resize(frame), frame[20:40])


def test_roi_is_cut_before_the_square():
    frame = noise(100, 200)
    preprocessing = Preprocessing(40, 40, roi=(.5, .2, .4, .4))  # x 100-180, y 20-60
    np.testing.assert_array_equal(preprocessing.crop_and_resize(frame), frame[20:60, 120:160])


def test_growing_interpolates():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[:, 1] = 200
    out = Preprocessing(8, 8).crop_and_resize(frame)
    np.testing.assert_array_equal(out, cv2.resize(frame, (8, 8), interpolation=cv2.INTER_LINEAR))
    assert len(np.unique(out)) > 2


def test_strides_do_not_matter():
    frame = noise(30, 50)
    flipped = frame[:, ::-1]
    assert not flipped.flags.c_contiguous
    preprocessing = Preprocessing(16, 16)
    np.testing.assert_array_equal(
        preprocessing.crop_and_resize(flipped),
        preprocessing.crop_and_resize(np.ascontiguousarray(flipped)))


def test_the_frame_is_neither_changed_nor_shared():
    frame = noise(8, 8)
    before = frame.copy()
    out = Preprocessing(8, 8).crop_and_resize(frame)
    out[:] = 0
    np.testing.assert_array_equal(frame, before)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 64), st.integers(1, 64),
       st.floats(0, .98), st.floats(0, .98), st.floats(.011, 1), st.floats(.011, 1))
def test_any_crop_lies_in_the_roi_and_keeps_the_aspect(h, w, height, width, x, y, rw, rh):
    roi = (x, y, min(rw, 1 - x), min(rh, 1 - y))
    preprocessing = Preprocessing(height, width, roi=roi)
    top, left, crop_height, crop_width = preprocessing.region(h, w)
    assert crop_height >= 1 and crop_width >= 1
    assert 0 <= top and top + crop_height <= h
    assert 0 <= left and left + crop_width <= w
    # within a pixel of the region and of the ratio
    assert left >= roi[0] * w - 1 and left + crop_width <= (roi[0] + roi[2]) * w + 1.5
    assert top >= roi[1] * h - 1 and top + crop_height <= (roi[1] + roi[3]) * h + 1.5
    scale = min(roi[2] * w / width, roi[3] * h / height)
    assert abs(crop_width - scale * width) <= 1 and abs(crop_height - scale * height) <= 1
    assert preprocessing.crop_and_resize(np.zeros((h, w, 3), np.uint8)).shape == (
        height, width, 3)


@pytest.mark.parametrize('height, width, roi, suffices', [
    (480, 640, (0., 0., 1., 1.), True),
    (448, 448, (0., 0., 1., 1.), True),
    (447, 447, (0., 0., 1., 1.), True),     # rounded up, as libjpeg does
    (446, 640, (0., 0., 1., 1.), False),
    (240, 320, (0., 0., 1., 1.), False),
    (480, 640, (.1, .1, .8, .8), False),
    (1080, 1920, (.1, .1, .8, .8), True)])
def test_half_of_a_frame_suffices_where_it_has_the_inputs_pixels(height, width, roi, suffices):
    assert Preprocessing(224, 224, roi=roi).half_suffices(height, width) is suffices


@pytest.mark.parametrize('frame, text', [
    (np.zeros((4, 4, 3), np.float32), r'float32 \(4, 4, 3\)'),
    (np.zeros((4, 4), np.uint8), r'uint8 \(4, 4\)'),
    (np.zeros((4, 4, 4), np.uint8), r'uint8 \(4, 4, 4\)'),
    (np.zeros((0, 4, 3), np.uint8), r'uint8 \(0, 4, 3\)'),
    ([[1, 2, 3]], 'list'),
    (None, 'NoneType')])
def test_an_array_that_is_not_an_rgb_frame_is_refused(frame, text):
    with pytest.raises(ImageDecodeError, match=f'got {text}; expected an RGB array') as info:
        Preprocessing(4, 4).crop_and_resize(frame)
    assert info.value.reason == 'not_rgb'


def test_metadata_round_trip():
    preprocessing = Preprocessing(224, 200, roi=(.1, .2, .5, .6), **IMAGENET)
    text = json.dumps(asdict(preprocessing))
    assert Preprocessing.from_metadata(json.loads(text)) == preprocessing


@pytest.mark.parametrize('metadata', [
    {}, [1], None, {**asdict(Preprocessing(4, 4)), 'gamma': 1}])
def test_metadata_with_other_fields_is_refused(metadata):
    with pytest.raises(ConfigError, match=r"expected \['hand', 'height', 'mean', 'roi'"):
        Preprocessing.from_metadata(metadata)


@pytest.mark.parametrize('fields, text', [
    ({'height': 0}, 'height 0 .expected a whole number from 1 to 4096'),
    ({'width': 3.5}, r'width 3\.5 .expected a whole number'),
    ({'width': True}, 'width True .expected a whole number'),
    ({'roi': (0, 0, 1.1, 1)}, 'roi .*expected 4 values, each a number from 0.0 to 1.0'),
    ({'roi': (-.1, 0, 1, 1)}, 'roi .*expected 4 values, each a number from 0.0 to 1.0'),
    ({'roi': (.5, 0, .6, 1)}, 'roi .*expected x, y, width and height inside the frame'),
    ({'roi': (0, 0, 0, 1)}, 'roi .*expected x, y, width and height inside the frame'),
    ({'roi': (0, 0, 1)}, r'roi \(0, 0, 1\) .expected 4 values, each a number'),
    ({'mean': (0, 0, float('nan'))}, 'mean .*expected 3 values, each a number'),
    ({'mean': 'abc'}, 'mean .*expected 3 values, each a number'),
    ({'mean': None}, 'mean None .expected 3 values, each a number'),
    ({'mean': (.5, .5, 1e300)}, 'mean .*expected 3 values, each a number from 0.0 to 1.0'),
    ({'roi': (0, 0, 1, .009)}, 'roi .*width and height of 0.01 or more'),
    ({'std': (1, 1, 1e-300)}, 'std .*expected 3 values, each a number from 0.001 to 10.0'),
    ({'std': (1, 1, 0)}, 'std .*expected 3 values, each a number from 0.001')])
def test_fields_are_checked(fields, text):
    with pytest.raises(ConfigError, match=text):
        Preprocessing(**{'height': 4, 'width': 4, **fields})


def test_the_square_around_the_hand_lies_inside_the_frame():
    frame = np.arange(60 * 80 * 3, dtype=np.uint32).reshape(60, 80, 3).astype(np.uint8)
    around = Preprocessing(30, 30, hand=1.5)
    box = (40 / 80, 20 / 60, 60 / 80, 30 / 60)
    np.testing.assert_array_equal(around.crop_and_resize(frame, box), frame[10:40, 35:65])
    assert around.region(60, 80, (0, 0, 20 / 80, 20 / 60)) == (0, 0, 30, 30)
    assert replace(around, hand=2.).region(60, 80, (0, 0, 1, 1)) == (0, 10, 60, 60)
    assert around.region(60, 80) == Preprocessing(30, 30).region(60, 80)


def test_frames_are_halved_only_where_the_hand_can_still_be_found():
    around = Preprocessing(64, 64, hand=1.5)
    assert around.half_suffices(480, 640) and not around.half_suffices(360, 640)
    assert Preprocessing(64, 64).half_suffices(360, 640)


def test_metadata_from_before_there_was_a_hand():
    fields = asdict(Preprocessing(4, 4))
    del fields['hand']
    assert Preprocessing.from_metadata(fields) == Preprocessing(4, 4)
