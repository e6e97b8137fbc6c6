"""
Attempts to hold: an object floats before the palm, the fingers close, then it has to be held.

Gravity is off until the fingers are closed, and then pulls in any direction of the hand's frame,
so that the hand holds with the palm down, sideways and up, between two fingertips, in the palm, or
with the object resting on the fingers. Contacts alone decide whether it is held, as in
R. Wang et al., DexGraspNet, ICRA 2023, section IV.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Label
from grasp_success_detector.simulation.scene import (
    CLOSED,
    HAND_PREFIX,
    JOINT_NAMES,
    OPEN,
    set_physics,
)
from grasp_success_detector.simulation.things import add_collisions, Thing

#: When the fingers begin to close, when gravity begins, when the grip may loosen, the end (s).
CLOSE_S, FALL_S, LOOSEN_S, END_S = .05, .85, 1.05, 1.8

#: Shares of attempts: whose grip loosens, with only some of the fingers, with fingers half open
#: (what lies on them rests there), with the hand's grip of :data:`scene.CLOSED`.
LOOSE_SHARE, FEW_FINGERS_SHARE, RESTING_SHARE = .2, .35, .15

#: Share of hands that hang down, by the palm or the fingers, as most arms hold them.
DOWNWARD_SHARE = .6

#: The object has left the hand when it is this far from where it was held (m).
GONE_M = .05

#: An object that is held moves less than this in the hand (m).
HELD_M = .012

GRAVITY = 9.81


@dataclass(frozen=True)
class Pose:
    """
    Hand and object at one moment, in the palm's frame.

    :ivar time_s: time since the start of the attempt.
    :ivar joints: angles of the hand's joints (16,) in radians: index, middle, ring, thumb.
    :ivar position: position of the object (3,) in metres.
    :ivar rotation: rotation of the object (3, 3).
    :ivar down: direction of gravity (3,), a unit vector.
    :ivar label: SUCCESS if the hand holds the object, FAILURE if it is not in the hand; None if
        neither is certain.
    """

    time_s: float
    joints: NDArray[np.float64]
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    down: NDArray[np.float64]
    label: Label | None


def run_hold(rng: np.random.Generator, thing: Thing, fps: float) -> list[Pose] | None:
    """
    Simulate one attempt to hold a thing, and observe it every ``1 / fps`` seconds.

    :returns: None if the physics became unstable or there is no room for the thing.
    """
    model = _model(rng, thing)
    data = mujoco.MjData(model)
    resting = rng.random() < RESTING_SHARE
    down = random_down(rng)
    if resting:     # the palm looks up, or the fingers do
        down += 2. * (np.array([-1., 0, 0]) if rng.random() < .7 else np.array([0, 0, -1.]))
        down /= np.linalg.norm(down)
    closed = _closed_joints(rng, model, resting)
    servos = model.jnt_qposadr[model.actuator_trnid[:, 0]]
    data.qpos[servos] = OPEN
    if not _place(rng, model, data, thing):
        return None
    delay = rng.uniform(0, .2, 4).repeat(4)
    loosens, loose_to = rng.random() < LOOSE_SHARE, rng.uniform(0, .7)
    shake, hertz, phase = rng.uniform(0, 4., 3), rng.uniform(2, 5), rng.uniform(0, 6.3, 3)
    free = np.arange(6) + model.joint('object').dofadr[0]
    damping = model.dof_damping[free].copy()
    poses: list[Pose] = []
    touches = []
    while len(poses) < round(END_S * fps):
        t = data.time
        grip = np.clip((t - CLOSE_S - delay) / .55, 0, 1)
        if loosens:
            grip = grip * (1 - (1 - loose_to) * np.clip((t - LOOSEN_S) / .3, 0, 1))
        data.ctrl[:] = OPEN + (closed - OPEN) * grip
        if t >= FALL_S:
            model.dof_damping[free] = damping * max(0., 1 - (t - FALL_S) / .1)
            model.opt.gravity[:] = GRAVITY * down + shake * np.sin(6.28 * hertz * t + phase)
        mujoco.mj_step(model, data)
        if data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
            return None
        if data.time >= (len(poses) + 1) / fps - 1e-9:
            body = data.body('object')
            touches.append(_touches(model, data))
            poses.append(Pose(float(data.time), data.qpos[servos].copy(), body.xpos.copy(),
                              body.xmat.reshape(3, 3).copy(), down, None))
    return _labelled(poses, touches)


def random_down(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a direction of gravity (3,), more often along the fingers or out of the palm."""
    down = rng.normal(0, 1, 3)
    if rng.random() < DOWNWARD_SHARE:
        down += np.array([rng.uniform(0, 2.), 0, rng.uniform(0, 2.)])
    return np.asarray(down / np.linalg.norm(down))


def _model(rng: np.random.Generator, thing: Thing) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    set_physics(spec)
    spec.option.gravity = [0, 0, 0]
    hand = mujoco.MjSpec.from_file(str(Path(__file__).with_name('allegro_hand.xml')))
    for body in hand.bodies:
        body.gravcomp = 1
    spec.worldbody.add_frame().attach_body(hand.body('palm'), HAND_PREFIX, '')
    kp = rng.uniform(1.5, 4.)
    for name in JOINT_NAMES:
        spec.add_actuator(name=name, target=HAND_PREFIX + name, trntype=mujoco.mjtTrn.mjTRN_JOINT
                          ).set_to_position(kp=kp, kv=.12)
    body = spec.worldbody.add_body(name='object')
    # As in honey, while the fingers close: it must not fly away from the first finger.
    body.add_joint(name='object', type=mujoco.mjtJoint.mjJNT_FREE, damping=[1., 0, 0])
    add_collisions(body, thing, mass=float(np.exp(rng.uniform(np.log(.03), np.log(.3)))),
                   friction=rng.uniform(.5, 1.2))
    model = spec.compile()
    model.dof_damping[model.joint('object').dofadr[0] + 3:][:3] = .002
    return model


def _closed_joints(rng: np.random.Generator, model: mujoco.MjModel, resting: bool,
                   ) -> NDArray[np.float64]:
    closed = CLOSED['top' if rng.random() < .5 else 'side'] + rng.normal(0, .15, 16)
    if resting:
        closed = OPEN + (closed - OPEN) * rng.uniform(.1, .6)
    elif rng.random() < FEW_FINGERS_SHARE:
        idle = rng.permutation(3)[:rng.integers(1, 3)]
        for finger in idle:     # open, or curled out of the way
            at = slice(4 * finger, 4 * finger + 4)
            closed[at] = OPEN[at] if rng.random() < .6 else OPEN[at] + (closed - OPEN)[at] * .5
    elif rng.random() < .4:     # bent at the knuckles, straight at the tips
        closed[[2, 3, 6, 7, 10, 11]] *= rng.uniform(.2, .7)
    limits = np.array([model.joint(HAND_PREFIX + name).range for name in JOINT_NAMES])
    return np.clip(closed, limits[:, 0], limits[:, 1])


def _place(rng: np.random.Generator, model: mujoco.MjModel, data: mujoco.MjData, thing: Thing,
           ) -> bool:
    """Place the object before the palm, so that it touches nothing; False if there is no room."""
    address = model.joint('object').qposadr[0]
    fingertips = rng.random() < .4
    spot = np.array([.014, rng.normal(0, .015), rng.uniform(.03, .11) if fingertips
                     else rng.normal(.03, .02)])
    turn = rng.normal(0, 1, 4)
    if rng.random() < .6:   # the longest side across the fingers, as people put things into hands
        turn = _across(thing) + rng.normal(0, .12, 4)
    data.qpos[address + 3:address + 7] = turn / np.linalg.norm(turn)
    for step in range(60):
        data.qpos[address:address + 3] = spot + np.array([.003 * step, 0, 0])
        mujoco.mj_forward(model, data)
        if not _touches(model, data):
            return True
    return False


def _across(thing: Thing) -> NDArray[np.float64]:
    axis = int(np.argmax(thing.half_extents))
    turn = np.zeros(4)
    mujoco.mju_quatZ2Vec(turn, np.array([0., 1., 0.]))
    if axis == 0:
        turn = np.array([np.sqrt(.5), 0, 0, np.sqrt(.5)])
    elif axis == 1:
        turn = np.array([1., 0, 0, 0])
    return turn


def _touches(model: mujoco.MjModel, data: mujoco.MjData) -> bool:
    bodies = model.geom_bodyid[data.contact.geom]    # (n, 2)
    return bool(((bodies == model.body('object').id).sum(1) == 1).any())


def _labelled(poses: list[Pose], touches: list[bool]) -> list[Pose]:
    """Label the poses: before gravity nothing is held, and what is held stays to the end."""
    held_from = FALL_S + .3
    tail = [pose for pose in poses if pose.time_s >= held_from]
    places = np.array([pose.position for pose in tail])
    still = all(touches[-len(tail):]) and bool((np.ptp(places, axis=0) < HELD_M).all())
    start = next(pose.position for pose in poses if pose.time_s >= FALL_S)
    labelled = []
    for pose, touching in zip(poses, touches, strict=True):
        label = None
        if pose.time_s >= held_from and still:
            label = Label.SUCCESS
        elif (pose.time_s > FALL_S and not touching
              and np.linalg.norm(pose.position - start) > GONE_M):
            label = Label.FAILURE
        labelled.append(replace(pose, label=label))
    return labelled
