"""Where the links of the hand are, against MuJoCo's kinematics of the simulated hand."""

from pathlib import Path

import mujoco
import numpy as np
import pytest

from grasp_success_detector.hand.drivers import DriverKind, Side
from grasp_success_detector.hand.kinematics import (
    finger_distances,
    Geometry,
    geometry_of,
    link_points,
    PAIRS,
)
import grasp_success_detector.simulation

FINGERS = ('index', 'middle', 'ring', 'thumb')


def right_or_left(geometry):
    """Return the simulated hand, or one with the origins and axes of the maker's left URDF."""
    spec = mujoco.MjSpec.from_file(str(
        Path(grasp_success_detector.simulation.__file__).parent / 'allegro_hand.xml'))
    if geometry is Geometry.V4_LEFT:
        spec.body('index_base').pos, spec.body('index_base').alt.euler = (
            [0, -.0435, -.001542], [.08726646, 0, 0])
        spec.body('ring_base').pos, spec.body('ring_base').alt.euler = (
            [0, .0435, -.001542], [-.08726646, 0, 0])
        spec.body('thumb_base').pos, spec.body('thumb_base').alt.euler = (
            [-.0182, -.019333, -.045987], [0, -1.65806279, 1.57079633])
        spec.joint('joint_12_0').axis = [1, 0, 0]
        spec.body('thumb_proximal').pos = [-.027, -.005, .0399]
        spec.joint('joint_13_0').axis = [0, 0, -1]
    return spec.compile()


@pytest.mark.parametrize('geometry', Geometry)
def test_links_are_where_mujoco_has_them(geometry):
    model = right_or_left(geometry)
    data = mujoco.MjData(model)
    angles = np.random.default_rng(0).uniform(*model.jnt_range.T, size=(20, 16))
    for points, data.qpos[:] in zip(link_points(angles, geometry), angles, strict=True):
        mujoco.mj_kinematics(model, data)
        expected = [[*(data.body(f'{finger}_{link}').xpos for link in
                       ('proximal', 'middle', 'distal')), data.geom(f'{finger}_tip').xpos]
                    for finger in FINGERS]
        np.testing.assert_allclose(points, expected, atol=1e-7)


def test_distances_are_those_of_the_nearest_points_of_the_links():
    angles = np.random.default_rng(1).uniform(-.2, 1.6, (5, 16))
    points = link_points(angles, Geometry.V4_RIGHT)
    share = np.linspace(0, 1, 201)[:, None]
    for hand, found in zip(points, finger_distances(angles, Geometry.V4_RIGHT), strict=True):
        lines = [np.concatenate([begin + share * (end - begin) for begin, end in zip(
            finger[skip:], finger[skip + 1:], strict=False)])
            for finger, skip in zip(hand, (0, 0, 0, 1), strict=True)]
        apart = [np.linalg.norm(lines[a][:, None] - lines[b], axis=-1).min() for a, b in PAIRS]
        np.testing.assert_allclose(found, apart, atol=3e-4)


@pytest.mark.parametrize(('driver', 'side', 'expected'), [
    (DriverKind.V4, Side.RIGHT, Geometry.V4_RIGHT), (DriverKind.V4, Side.LEFT, Geometry.V4_LEFT),
    (DriverKind.V5, Side.RIGHT, None), (DriverKind.PLEXUS, Side.RIGHT, None)])
def test_hands_that_are_not_known_have_no_geometry(driver, side, expected):
    assert geometry_of(driver, side) is expected
