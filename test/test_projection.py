"""Where the hand is in a picture: the camera's calibration and the transforms, without ROS."""

import math

import cv2
import numpy as np
import pytest

from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import HandPlaceError
from grasp_success_detector.hand.projection import CameraCalibration
from grasp_success_detector.hand.transforms import Moment, Transform, TransformTree

# A camera of 640 x 480 pixels whose axis meets the middle of the picture.
K = (500., 0., 319.5, 0., 500., 239.5, 0., 0., 1.)
PINHOLE = CameraCalibration(640, 480, K)
AHEAD = np.array([0., 0., 1.])


def box(calibration, middle, size_m=.2, height=480, width=640):
    return np.array(calibration.hand_box(np.array(middle, float), size_m, height, width).edges)


def test_a_ball_before_the_camera_is_a_square_in_the_middle():
    # The outline of a ball of radius .1 at 1 m lies at tan(asin(.1)) = .1005.
    seen = 500 * math.tan(math.asin(.1))
    np.testing.assert_allclose(box(PINHOLE, AHEAD) * (640, 480, 640, 480),
                               [320 - seen, 240 - seen, 320 + seen, 240 + seen], atol=.3)


def test_the_box_contains_what_opencv_says_of_points_on_the_ball():
    calibration = CameraCalibration(640, 480, K, (-.3, .1, .001, -.002, 0.), 'plumb_bob')
    middle, rng = np.array([.2, -.1, .8]), np.random.default_rng(0)
    ball = rng.normal(size=(4000, 3))
    ball = middle + .1 * ball / np.linalg.norm(ball, axis=1)[:, None]
    pixels = cv2.projectPoints(ball, np.zeros(3), np.zeros(3), np.reshape(K, (3, 3)),
                               np.array(calibration.d))[0][:, 0]
    expected = np.concatenate([pixels.min(0), pixels.max(0)]) + .5
    np.testing.assert_allclose(box(calibration, middle) * (640, 480, 640, 480), expected, atol=1.)


@pytest.mark.parametrize(('model', 'd'), [
    ('plumb_bob', (-.2, .05, .001, -.001, 0.)), ('plumb_bob', (-.2, .05, .001, -.001)),
    ('rational_polynomial', (.4, .1, 1e-4, -1e-4, .01, .7, .2, .05)),
    ('equidistant', (-.01, .02, -.01, .002))])
def test_each_distortion_moves_the_hand_as_opencv_does(model, d):
    point = np.array([[.3, .2, 1.]])
    matrix = np.reshape(K, (3, 3))
    if model == 'equidistant':
        pixel = cv2.fisheye.projectPoints(point[:, None], np.zeros(3), np.zeros(3), matrix,
                                          np.array(d))[0]
    else:
        pixel = cv2.projectPoints(point, np.zeros(3), np.zeros(3), matrix, np.array(d))[0]
    seen = CameraCalibration(640, 480, K, d, model).project(point)[0] * (640, 480) - .5
    np.testing.assert_allclose(seen, pixel.reshape(2), atol=1e-6)
    assert np.abs(seen - (PINHOLE.project(point)[0] * (640, 480) - .5)).max() > .5


def test_equidistant_is_linear_in_the_angle():
    calibration = CameraCalibration(640, 480, K, (0., 0., 0., 1e-12), 'equidistant')
    angle = .5
    x = calibration.project(np.array([[math.tan(angle), 0., 1.]]))[0, 0] * 640 - .5
    assert x == pytest.approx(319.5 + 500 * angle, abs=1e-6)


def test_rectified_pictures_use_the_projection_and_no_distortion():
    p = (400., 0., 300., 0., 0., 400., 200., 0., 0., 0., 1., 0.)
    calibration = CameraCalibration(640, 480, K, (9.,), 'unheard_of', p=p, rectified=True)
    np.testing.assert_allclose(calibration.project(np.array([[.1, .2, 1.]]))[0],
                               [(340 + .5) / 640, (280 + .5) / 480])


def test_a_part_of_the_picture_and_another_scale():
    part = CameraCalibration(640, 480, K, part=(160, 120, 320, 240))
    np.testing.assert_allclose(box(part, AHEAD, height=120, width=160),
                               (box(PINHOLE, AHEAD) - .5) * 2 + .5)


def test_a_box_is_cut_off_at_the_edge_of_the_picture():
    left, top, right, bottom = box(PINHOLE, [.62, 0., 1.])
    assert right == 1 and left < .95 and top < .5 < bottom


@pytest.mark.parametrize(('middle', 'says'), [
    ([0, 0, -1], 'the hand is behind the camera'), ([1, 0, 1], 'the hand is outside the picture'),
    ([0, 0, .05], r'the hand is 0.05 m from the camera, too near for a hand of 0.2 m'),
    ([0, 0, 0], 'the hand is behind the camera')])
def test_a_hand_that_cannot_be_seen(middle, says):
    with pytest.raises(HandPlaceError, match=f'^{says}$') as caught:
        box(PINHOLE, middle)
    assert caught.value.reason == 'out_of_view'


def test_a_hand_far_outside_is_not_folded_into_the_picture():
    calibration = CameraCalibration(640, 480, K, (-.3, .02, 0., 0., 0.), 'plumb_bob')
    folded = np.array([[2.0, 0., 1.]])
    assert 0 < calibration.project(folded)[0, 0] < 1    # where the polynomial has turned back
    with pytest.raises(HandPlaceError, match='outside the picture'):
        box(calibration, folded[0])


@pytest.mark.parametrize(('values', 'says'), [
    ({'k': (0.,) * 9}, 'a camera that is not calibrated'), ({'width': 0}, 'not calibrated'),
    ({'k': (math.nan, *K[1:])}, 'not calibrated'), ({'k': K[:8]}, 'not calibrated'),
    ({'d': (1.,), 'model': 'thin_prism'}, "distortion 'thin_prism'; expected plumb_bob"),
    ({'d': (1., 2.), 'model': 'plumb_bob'}, 'distortion plumb_bob with 2 coefficients')])
def test_calibrations_that_cannot_be_used(values, says):
    with pytest.raises(HandPlaceError, match=says) as caught:
        CameraCalibration(**{'width': 640, 'height': 480, 'k': K, **values})
    assert caught.value.reason == 'no_calibration'


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(HandPlaceError, match='of 640 x 480 pixels, frames have 640 x 360'):
        box(PINHOLE, AHEAD, height=360)


# Transforms

QUARTER = (0., 0., math.sqrt(.5), math.sqrt(.5))    # 90 degrees around z
STILL = (0., 0., 0., 1.)


def at(parent, x, y=0., z=0., turned=STILL, stamp_s=0.):
    stamp_ns = round(stamp_s * NS_PER_S)
    return Transform(parent, stamp_ns, stamp_ns, (x, y, z), turned)


def when(stamp_s=None, now_s=0., longest_s=.5):
    return Moment(None if stamp_s is None else round(stamp_s * NS_PER_S), round(now_s * NS_PER_S),
                  longest_s)


def test_a_frame_is_seen_from_another_branch_of_the_tree():
    tree = TransformTree()
    assert tree.add('camera', at('world', 1., 0., 0., QUARTER), static=True)
    assert tree.add('/arm', at('/world', 1., 2.), static=True)
    assert tree.add('palm', at('arm', .5), static=True)
    # The palm is at (1.5, 2) of the world: (.5, 2) from the camera, whose x axis is the world's y.
    np.testing.assert_allclose(tree.origin('palm', '/camera', when()), [2., -.5, 0.], atol=1e-12)
    np.testing.assert_allclose(tree.origin('palm', 'palm', when()), 0.)
    np.testing.assert_allclose(tree.origin('palm', 'arm', when()), [.5, 0., 0.])
    np.testing.assert_allclose(tree.origin('world', 'palm', when()), [-1.5, -2., 0.])


def test_the_nearest_transform_in_time_is_taken():
    tree = TransformTree()
    for number in range(10):
        tree.add('palm', at('camera', number, stamp_s=number / 10))
    assert tree.origin('palm', 'camera', when(.32))[0] == 3
    assert tree.origin('palm', 'camera', when(.38))[0] == 4
    assert tree.origin('palm', 'camera', when(1.3))[0] == 9
    assert tree.origin('palm', 'camera', when(None, now_s=1.))[0] == 9


@pytest.mark.parametrize(('moment', 'says'), [
    (when(3.), 'the transform from camera to palm is 2.0 s older than the frame'),
    (when(.1), 'the transform from camera to palm is 0.9 s newer than the frame'),
    (when(None, now_s=9.), 'the transform from camera to palm is 8.0 s older than the frame')])
def test_a_transform_of_another_time_is_refused(moment, says):
    tree = TransformTree()
    tree.add('palm', at('camera', 1., stamp_s=1.))
    with pytest.raises(HandPlaceError, match=f'^{says}$') as caught:
        tree.origin('palm', 'camera', moment)
    assert caught.value.reason == 'no_transform'


def test_old_transforms_that_are_not_on_the_way_do_no_harm():
    tree = TransformTree()
    tree.add('base', at('world', 1., stamp_s=1.))
    for name in ('camera', 'palm'):
        tree.add(name, at('base', 1., stamp_s=100.))
    np.testing.assert_allclose(tree.origin('palm', 'camera', when(100.)), 0.)


def test_a_clock_that_was_set_back_forgets_what_came_before():
    tree = TransformTree()
    tree.add('palm', at('camera', 1., stamp_s=100.))
    tree.add('palm', at('camera', 2., stamp_s=1.))
    assert tree.origin('palm', 'camera', when(1.))[0] == 2


def test_frames_that_are_missing_or_not_connected():
    tree = TransformTree()
    tree.add('palm', at('arm', 1.), static=True)
    tree.add('camera', at('wall', 1.), static=True)
    for of, seen_from, says in (
            ('palm', 'camera', 'no transform from camera to palm: they are not connected'),
            ('hand', 'camera', 'camera to hand: /tf and /tf_static do not name hand'),
            ('a', 'b', 'do not name a and b')):
        with pytest.raises(HandPlaceError, match=says):
            tree.origin(of, seen_from, when())


def test_a_ring_of_transforms_ends():
    tree = TransformTree()
    tree.add('a', at('b', 1.), static=True)
    tree.add('b', at('a', 1.), static=True)
    with pytest.raises(HandPlaceError, match='go in a ring'):
        tree.origin('a', 'camera', when())


@pytest.mark.parametrize('wrong', [
    ('', at('world', 1.)), ('palm', at('', 1.)), ('palm', at('palm', 1.)),
    ('palm', at('world', math.nan)), ('palm', at('world', 1., turned=(0., 0., 0., 0.))),
    ('palm', at('world', 1., turned=(0., 0., 0., math.inf)))])
def test_what_is_no_transform_is_not_kept(wrong):
    assert not TransformTree().add(*wrong)


def test_memory_does_not_grow():
    tree = TransformTree()
    for number in range(5000):
        tree.add('palm', at('camera', 1., stamp_s=number / 10_000))
        tree.add('slow', at('camera', 1., stamp_s=number))
    assert len(tree._moving['palm']) <= 1000 and len(tree._moving['slow']) <= 2
