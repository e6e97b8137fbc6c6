"""Random scenes: table, lights, camera, arm and hand, object to grasp, other objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.hand.drivers import DriverKind, DRIVERS, Side
from grasp_success_detector.simulation import objects
from grasp_success_detector.simulation.grippers import draw_gripper
from grasp_success_detector.simulation.objects import BOX, CYLINDER
from grasp_success_detector.simulation.presets import Ranges

#: Joint angles (radians) of the open and the closed hand: index, middle, ring, thumb.
OPEN = np.array([0, .1, .1, .1] * 3 + [1.2, .25, 0., 0.])
CLOSED = {'top': np.array([0, 1.25, 1.1, .8] * 3 + [1.35, .45, .75, .9]),
          'side': np.array([0, 1.35, 1.2, .9] * 3 + [1.35, .35, .8, 1.0])}

#: Rotation from the hand's frame (x out of the palm, z along the fingers) to the world's.
HAND_ROTATION = {'top': np.array([[0, 0, 1.], [0, 1, 0], [-1, 0, 0]]),
                 'side': np.array([[1., 0, 0], [0, 0, -1], [0, 1, 0]])}

#: Lowest height of the palm (m) at which no finger penetrates the table.
LOWEST_PALM = {'top': .062, 'side': .075}

HAND_PREFIX = 'hand/'
CAMERA = 'camera'

#: Where the object stands in a close on nothing (m, x and y).
OUT_OF_REACH_M = .3

#: Names as of the driver for the Allegro hand V5: index, middle, ring, thumb.
JOINT_NAMES = DRIVERS[DriverKind.V5].names[Side.RIGHT][0]

#: MuJoCo renders no geoms of this group, nor their shadows.
_HIDDEN_GROUP = 4

#: Share of the attempts without a hand that show another gripper in its place.
_GRIPPER_SHARE = .8

#: Share of attempts with a deliberate fault: wrong aim or force, or a finger that stays open.
BAD_SHARE = .33

#: Share of attempts whose grip loosens after lift-off.
SLIP_SHARE = .22

#: Cylinders of the arm behind the wrist: position along the forearm, radius, half length (m), RGB.
ARM = ((-.108, .036, .012, (.65, .65, .68)), (-.150, .042, .030, (.93, .42, .10)),
       (-.186, .040, .006, (.3, .3, .32)), (-.330, .052, .140, (.93, .42, .10)))


@dataclass(frozen=True)
class Scene:
    """
    A compiled MuJoCo model, the object to grasp, and how the hand grasps it.

    :ivar approach: ``'top'`` or ``'side'``.
    :ivar closed: target angles of the closed hand's joints (16,), in radians.
    :ivar slips: whether the grip loosens after lift-off.
    """

    model: mujoco.MjModel
    approach: str
    shape: objects.ObjectShape
    closed: NDArray[np.float64]
    slips: bool


def build_scene(rng: np.random.Generator, ranges: Ranges, empty: bool = False,
                others: Sequence[np.random.Generator] = (),
                without_hand: np.random.Generator | None = None) -> Scene:
    """
    Draw a random scene, with camera, light and colours from ``ranges``, and compile it.

    :param empty: put the object where the hand does not reach it, and close the hand as in every
        other such attempt, as a rig's driver does.
    :param others: random numbers of each further camera, ``camera_2`` and so on.
    :param without_hand: random numbers of what is seen in the place of the hand, if it is not.
    """
    spec = mujoco.MjSpec()
    set_physics(spec)
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 1024, 4
    approach = str(rng.choice(['top', 'side']))
    bad, slips = bool(rng.random() < BAD_SHARE), bool(rng.random() < SLIP_SHARE)
    if empty:
        approach, bad, slips = 'top', False, False
    shape = objects.draw_shape(rng, approach)
    _add_room(spec, rng, ranges)
    _add_distractors(spec, rng, ranges, approach)
    _add_object(spec, rng, shape, bad, slips, empty)
    kp = rng.uniform(.4, 3.) if bad else rng.uniform(1.5, 4.)
    _add_arm_and_hand(spec, rng, approach, _palm_position(rng, approach, shape, bad), kp,
                      without_hand)
    _add_camera(spec, rng, ranges, CAMERA)
    for i, other in enumerate(others):
        _add_camera(spec, other, ranges, f'{CAMERA}_{i + 2}')
    model = spec.compile()
    closed = CLOSED[approach] if empty else _closed_joints(rng, model, approach, bad)
    return Scene(model, approach, shape, closed, slips)


def set_physics(spec: mujoco.MjSpec) -> None:
    """Set the time step and how contacts are computed."""
    option = spec.option
    option.timestep, option.integrator = .002, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10  # stiff friction: held objects don't creep out of the fingers


def _palm_position(rng: np.random.Generator, approach: str, shape: objects.ObjectShape, bad: bool
                   ) -> NDArray[np.float64]:
    """Return the palm's origin (world, m) with the object in the hand, and an error of aim."""
    towards_palm = shape.radius if approach == 'side' else shape.half_height
    depth = .0117 + towards_palm + rng.uniform(.002, .012)  # .0117: palm surface from its origin
    along = rng.normal(.045, .035) if bad else rng.normal(.035, .012)
    across = rng.normal(.008, .03 if bad else .01)
    if approach == 'side':
        across = rng.uniform(-.01, .02)
    centre = np.array([0, 0, shape.half_height])
    palm = centre - HAND_ROTATION[approach] @ np.array([depth, across, along])
    palm[2] = max(palm[2], LOWEST_PALM[approach])
    return np.asarray(palm)


def _closed_joints(rng: np.random.Generator, model: mujoco.MjModel, approach: str, bad: bool
                   ) -> NDArray[np.float64]:
    closed = CLOSED[approach] + rng.normal(0, .25 if bad else .1, 16)
    if bad and rng.random() < .5:
        closed = OPEN + (closed - OPEN) * rng.uniform(.3, .9)
    if bad and rng.random() < .4:
        finger = 4 * int(rng.integers(0, 4))
        closed[finger:finger + 4] = OPEN[finger:finger + 4]
    ranges = np.array([model.joint(HAND_PREFIX + name).range for name in JOINT_NAMES])
    return np.clip(closed, ranges[:, 0], ranges[:, 1])


def _add_room(spec: mujoco.MjSpec, rng: np.random.Generator, ranges: Ranges) -> None:
    world = spec.worldbody
    varied = ranges.varied_background
    for name, repeat in (('table', 2.), ('floor', 4.), ('wall', 3.)):
        objects.add_material(spec, name, rng, repeat, varied)
    objects.add_material(spec, 'object', rng, 1., True)
    light = spec.visual.headlight
    light.ambient, light.diffuse = [rng.uniform(.25, .4)] * 3, [rng.uniform(.2, .4)] * 3
    light.specular = [.1] * 3
    world.add_geom(name='table', type=BOX, size=[.45, .45, .02], pos=[0, 0, -.02],
                   material='table', friction=[.8, .005, .0001])
    world.add_geom(name='floor', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, .1],
                   pos=[0, 0, -.7], material='floor')
    for x, y in ((0, 1.6), (0, -1.6), (1.6, 0), (-1.6, 0)):
        _add_visual(world, BOX, [.02 if x else 2, .02 if y else 2, 1.8], [x, y, 0],
                    material='wall')
    for _ in range(rng.integers(2, 7)):  # a lab's clutter behind the table
        azimuth, distance = rng.uniform(0, 2 * np.pi), rng.uniform(1., 1.4)
        size = rng.uniform(.05, .22, 3)
        place = [distance * np.cos(azimuth), distance * np.sin(azimuth), rng.uniform(-.5, .6)]
        _add_visual(world, BOX, size, place, rgba=[*rng.uniform(.15, .85, 3), 1])
    for i in range(rng.integers(1, 3)):
        azimuth = rng.uniform(0, 2 * np.pi)
        pos = np.array([1.1 * np.cos(azimuth), 1.1 * np.sin(azimuth), rng.uniform(1., 2.)])
        world.add_light(pos=pos, dir=np.array([0, 0, .1]) - pos, cutoff=60, castshadow=i == 0,
                        type=mujoco.mjtLightType.mjLIGHT_SPOT, specular=[.2] * 3,
                        diffuse=np.clip(rng.uniform(.4, .7) * rng.normal(1, .04, 3), 0, 1))


def _add_visual(body: mujoco.MjsBody, kind: mujoco.mjtGeom, size: Any, pos: Any,
                **more: Any) -> mujoco.MjsGeom:
    """Add a geom that is visible but collides with nothing."""
    return body.add_geom(type=kind, size=size, pos=pos, contype=0, conaffinity=0, **more)


def _add_distractors(spec: mujoco.MjSpec, rng: np.random.Generator, ranges: Ranges,
                     approach: str) -> None:
    fewest, most = ranges.distractors
    for i in range(rng.integers(fewest, most + 1)):
        azimuth, distance = rng.uniform(0, 2 * np.pi), rng.uniform(.22, .38)
        shape = objects.draw_shape(rng, approach)
        body = spec.worldbody.add_body(
            pos=[distance * np.cos(azimuth), distance * np.sin(azimuth), shape.half_height],
            quat=_yaw_quat(rng.uniform(-np.pi, np.pi)))
        objects.add_material(spec, f'distractor{i}', rng, 1., True)
        objects.add_parts(body, shape, .1, 1., f'distractor{i}')
        for geom in body.geoms:  # the arm must not run into them
            geom.contype = geom.conaffinity = 0


def _add_object(spec: mujoco.MjSpec, rng: np.random.Generator, shape: objects.ObjectShape,
                bad: bool, slips: bool, empty: bool) -> None:
    offset = rng.normal(0, .02 if bad else .008, 2) + (OUT_OF_REACH_M if empty else 0.)
    body = spec.worldbody.add_body(name='object', quat=_yaw_quat(rng.uniform(*shape.yaw)),
                                   pos=[*offset, shape.half_height + .0005])
    body.add_freejoint()
    mass = float(np.exp(rng.uniform(np.log(.03), np.log(.4))))
    friction = rng.uniform(.3, .7) if slips else rng.uniform(.4, 1.1)
    objects.add_parts(body, shape, mass, friction, 'object')


def _add_arm_and_hand(spec: mujoco.MjSpec, rng: np.random.Generator, approach: str,
                      palm: NDArray[np.float64], kp: float,
                      without_hand: np.random.Generator | None) -> None:
    """Add the hand (``kp``: gain of its joints, Nm/rad) on a mount that servos move."""
    # Six position servos, so that contacts see real speeds.
    mount = spec.worldbody.add_body(name='mount', pos=palm, gravcomp=1)
    slide = (mujoco.mjtJoint.mjJNT_SLIDE, 2e4, 600, .5)
    hinge = (mujoco.mjtJoint.mjJNT_HINGE, 400, 15, .01)
    for i, (kind, stiffness, damping, armature) in enumerate([slide] * 3 + [hinge] * 3):
        mount.add_joint(name=f'mount_{i}', type=kind, axis=np.eye(3)[i % 3], armature=armature)
        _add_servo(spec, f'mount_{i}', stiffness, damping)
    frame = mount.add_frame(quat=_matrix_quat(HAND_ROTATION[approach]))
    for z, radius, half_length, rgb in ARM:
        _add_visual(mount, CYLINDER, [radius, half_length, 0], [-.005, 0, z], rgba=[*rgb, 1],
                    mass=.15).set_frame(frame)
    if rng.random() < .4:  # the hand's controller box, as some labs strap it to the wrist
        _add_visual(mount, BOX, [.012, .03, .025], [-.045, 0, -.15], rgba=[.15, .5, .2, 1],
                    mass=.02).set_frame(frame)
    hand = mujoco.MjSpec.from_file(str(Path(__file__).with_name('allegro_hand.xml')))
    black = rng.uniform(.04, .14)
    for geom in hand.geoms:
        if (part := geom.classname.name) != 'tip':
            geom.rgba = [*[black * (1.3 if part == 'shell' else 1.)] * 3, 1]
        if without_hand is not None:
            geom.group = _HIDDEN_GROUP
    if without_hand is not None and without_hand.random() < _GRIPPER_SHARE:
        for gripper in draw_gripper(without_hand):
            _add_visual(mount, gripper.geom, gripper.size, gripper.pos, quat=gripper.quat,
                        rgba=[*(gripper.rgb or ()), 1], mass=.01).set_frame(frame)
    for body in hand.bodies:
        body.gravcomp = 1
    frame.attach_body(hand.body('palm'), HAND_PREFIX, '')
    for name in JOINT_NAMES:
        _add_servo(spec, HAND_PREFIX + name, kp, .12)


def _add_servo(spec: mujoco.MjSpec, joint: str, stiffness: float, damping: float) -> None:
    spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT
                      ).set_to_position(kp=stiffness, kv=damping)


def _add_camera(spec: mujoco.MjSpec, rng: np.random.Generator, ranges: Ranges,
                name: str) -> None:
    azimuth = np.radians(rng.uniform(*ranges.azimuth))
    elevation = np.radians(rng.uniform(*ranges.elevation))
    target = np.array([0, 0, rng.uniform(*ranges.target_height)])
    target += rng.normal(0, ranges.target_jitter, 3)
    pos = target + rng.uniform(*ranges.distance) * np.array([
        np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation),
        np.sin(elevation)])
    pos[2] = max(pos[2], .05)
    z = (pos - target) / np.linalg.norm(pos - target)  # MuJoCo cameras look along -z
    x = np.cross([0, 0, 1.], z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    roll = np.radians(rng.normal(0, ranges.roll))
    x, y = np.cos(roll) * x + np.sin(roll) * y, np.cos(roll) * y - np.sin(roll) * x
    spec.worldbody.add_camera(name=name, pos=pos, quat=_matrix_quat(np.stack([x, y, z], 1)),
                              fovy=rng.uniform(*ranges.field_of_view))


def _yaw_quat(yaw: float) -> list[float]:
    return [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]


def _matrix_quat(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rotation).ravel())
    return quat
