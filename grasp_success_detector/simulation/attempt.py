"""One attempt to grasp (approach, close, lift, shake, hold), and its labels and outcome."""

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.hand.closure import flexion
from grasp_success_detector.labels import FailureReason, Label
from grasp_success_detector.simulation.scene import HAND_PREFIX, HAND_ROTATION, OPEN, Scene

#: When each phase starts, and when the attempt ends (s).
STARTS = {'approach': 0., 'close': .6, 'lift': 1.5, 'shake': 2.4, 'hold': 3.4}
DURATION_S = 4.

#: An object counts as lifted when it is this far above where it stood (m).
LIFTED_M = .015

#: Frames closer than this to a change between held and not held have no label (s).
AMBIGUOUS_S = .2

#: The outcome is undecided if the object moves more than this in the hand during the hold (m).
DRIFT_M = .02

#: An object that was held for this time (s) and is not at the end has slipped.
SLIPPED_S = .2

#: A hand that was told to bend its fingers by less than this share was not closed.
NOT_CLOSED = .6


@dataclass(frozen=True)
class Observation:
    """
    The physical state at the time of one frame.

    :ivar time_s: time since the start of the attempt.
    :ivar qpos: positions of all joints of the model (nq,), from which the frame is rendered.
    :ivar joints: angles of the hand's joints (16,) in radians: index, middle, ring, thumb.
    :ivar velocities: speeds of these joints (16,) in rad/s.
    :ivar commanded: angles that these joints were told to reach (16,), in radians.
    :ivar torques: torques of their servos (16,) in Nm.
    :ivar pressed: sum of the normal forces on each link of the fingers (16,), in N; in the order
        of the joints.
    :ivar touched: whether the object touches the hand.
    :ivar supported: whether the object touches the table or the floor.
    :ivar height: height of the object above its initial position (m).
    :ivar in_palm: position of the object in the palm's frame (3,), in metres.
    """

    time_s: float
    qpos: NDArray[np.float64]
    joints: NDArray[np.float64]
    velocities: NDArray[np.float64]
    commanded: NDArray[np.float64]
    torques: NDArray[np.float64]
    pressed: NDArray[np.float64]
    touched: bool
    supported: bool
    height: float
    in_palm: NDArray[np.float64]

    @property
    def held(self) -> bool:
        """Whether the hand holds the object above the table; only meaningful after lift-off."""
        return self.touched and not self.supported and self.height > LIFTED_M


class Motion:
    """Random movement of the hand in one attempt, as targets of its servos over time."""

    def __init__(self, rng: np.random.Generator, scene: Scene, wrist_tilt_deg: float) -> None:
        """Draw a movement; ``wrist_tilt_deg`` is the standard deviation of the hand's tilt."""
        direction = rng.normal(0, 1, 3)
        self._shake_direction = direction / np.linalg.norm(direction)
        slip_start = rng.uniform(STARTS['lift'] + .6, STARTS['hold'])
        # Without a slip the grip loosens only after the attempt's end.
        self._slip_start = slip_start if scene.slips else 2 * DURATION_S
        self._retreat = -HAND_ROTATION[scene.approach][:, 0] * .09
        self._lift = rng.uniform(.12, .17)
        self._shake_amplitude, self._shake_hz = rng.uniform(.005, .035), rng.uniform(2, 5)
        self._tilt = np.clip(rng.normal(0, np.radians(wrist_tilt_deg), 3), -.8, .8)
        self._finger_delay = rng.uniform(0, .25, 4).repeat(4)
        self._slip_seconds, self._slip_to = rng.uniform(.2, .8), rng.uniform(0., .75)

    def targets(self, times: NDArray[np.float64], closed: NDArray[np.float64],
                ) -> NDArray[np.float64]:
        """
        Return the servo targets at these times: mount xyz, mount rotation, 16 joints.

        :param times: seconds since the start of the attempt (n,).
        :param closed: target angles of the closed hand's joints (16,), in radians.
        :returns: (n, 22); each row depends on its own time alone.
        """
        t = times[:, None]
        since = {name: t - start for name, start in STARTS.items()}
        mount = self._retreat * (1 - _smooth(since['approach'] / .6))
        mount = mount + np.array([0, 0, self._lift]) * _smooth(since['lift'] / .9)
        shaking = (since['shake'] > 0) & (since['shake'] < 1)
        mount = np.where(shaking, mount + self._shake_direction * self._shake_amplitude * np.sin(
            2 * np.pi * self._shake_hz * since['shake']), mount)
        grip = _smooth((since['close'] / .9 - self._finger_delay) / .7)
        slip = (1 - self._slip_to) * _smooth((t - self._slip_start) / self._slip_seconds)
        return np.hstack([mount, self._tilt * _smooth(since['shake'] * 1.3),
                          OPEN + (closed - OPEN) * (grip * (1 - slip))])


class UnstableError(Exception):
    """The simulation of an attempt became unstable, and the attempt must be discarded."""


def run_attempt(scene: Scene, motion: Motion, fps: float) -> list[Observation]:
    """
    Simulate one attempt and observe it every ``1 / fps`` seconds.

    :raises UnstableError: MuJoCo warns of a bad acceleration.
    """
    model, data = scene.model, mujoco.MjData(scene.model)
    moved = model.actuator_trnid[:, 0]  # joints of the mount (6), of the hand (16)
    servos, speeds = model.jnt_qposadr[moved], model.jnt_dofadr[moved[6:]]
    # All targets at once: computed step by step they took as long as the physics.
    times = np.cumsum(np.full(round(DURATION_S / model.opt.timestep) + 1, model.opt.timestep))
    targets = motion.targets(np.concatenate([[0.], times]), scene.closed)
    control, bad = data.ctrl, data.warning[mujoco.mjtWarning.mjWARN_BADQACC]
    control[:] = data.qpos[servos] = targets[0]
    mujoco.mj_forward(model, data)
    thing, palm = data.body('object'), data.body(HAND_PREFIX + 'palm')
    start_height = float(thing.xpos[2])
    owners = [model.body(number).name for number in model.geom_bodyid]
    links = model.jnt_bodyid[moved[6:]]
    is_object = np.array([owner == 'object' for owner in owners])
    is_hand = np.array([owner.startswith(HAND_PREFIX) for owner in owners])
    is_support = np.isin(np.arange(model.ngeom), [model.geom(n).id for n in ('table', 'floor')])
    observations: list[Observation] = []
    count = round(DURATION_S * fps)
    for target in targets:
        control[:] = target
        mujoco.mj_step(model, data)
        if bad.number:
            raise UnstableError
        if data.time >= len(observations) / fps:
            pairs = data.contact.geom  # (n, 2)
            touching = pairs[is_object[pairs].sum(1) == 1]  # not between its own parts
            observations.append(Observation(
                float(data.time), data.qpos.copy(), data.qpos[servos[6:]], data.qvel[speeds],
                data.ctrl[6:].copy(), data.actuator_force[6:].copy(), _pressed(model, data, links),
                bool(is_hand[touching].any()), bool(is_support[touching].any()),
                float(thing.xpos[2]) - start_height,
                palm.xmat.reshape(3, 3).T @ (thing.xpos - palm.xpos)))
            if len(observations) == count:
                break
    return observations


def _pressed(model: mujoco.MjModel, data: mujoco.MjData, links: NDArray[np.int32],
             ) -> NDArray[np.float64]:
    """Return the sum of the normal forces (N) of all contacts of each body in ``links``."""
    forces, force = np.zeros(model.nbody), np.zeros(6)
    for number, pair in enumerate(data.contact.geom):
        mujoco.mj_contactForce(model, data, number, force)
        for body in model.geom_bodyid[pair]:
            forces[body] += force[0]
    return np.asarray(forces[links])


def label_frames(observations: list[Observation]) -> list[Label | None]:
    """
    Return the label of each frame, None where it is ambiguous.

    The label is success after the start of the lift while the hand holds the object, else failure.
    It is None within ``AMBIGUOUS_S`` of a change between them, and while the hand begins to rise
    with an object that it touches but does not yet hold.
    """
    lift = STARTS['lift']
    raw: list[tuple[float, Label | None]] = []
    for seen in observations:
        held = seen.time_s >= lift and seen.held
        # While the hand rises it may still take the object along.
        rising = lift <= seen.time_s < lift + AMBIGUOUS_S or (
            seen.touched and lift <= seen.time_s < STARTS['shake'])
        raw.append((seen.time_s, Label(held) if held or not rising else None))
    known = [(time_s, label) for time_s, label in raw if label is not None]
    changes = [(a[0] + b[0]) / 2 for a, b in pairwise(known) if a[1] != b[1]]
    return [None if any(abs(time_s - change) < AMBIGUOUS_S for change in changes) else label
            for time_s, label in raw]


def outcome(observations: list[Observation]) -> Label | None:
    """Return the attempt's label; None if the object is held at its end but slid or came loose."""
    hold = [seen for seen in observations if seen.time_s >= STARTS['hold']]
    if not all(seen.held for seen in hold[-3:]):
        return Label.FAILURE
    drift = float(np.linalg.norm(np.ptp([seen.in_palm for seen in hold], axis=0)))
    return Label.SUCCESS if all(seen.held for seen in hold) and drift < DRIFT_M else None


def failure_reason(observations: list[Observation], closed: NDArray[np.float64],
                   fully_closed: NDArray[np.float64]) -> FailureReason:
    """
    Return why an attempt failed, from the contacts.

    :param closed: angles that the joints were told to reach (16,), in radians.
    :param fully_closed: angles of a hand that is meant to close (16,).
    """
    fps = (len(observations) - 1) / (observations[-1].time_s - observations[0].time_s)
    held = sum(seen.held for seen in observations if seen.time_s >= STARTS['lift'])
    if held >= SLIPPED_S * fps:
        return FailureReason.SLIPPED
    opened = flexion(OPEN).mean()
    if flexion(closed).mean() - opened < NOT_CLOSED * (flexion(fully_closed).mean() - opened):
        return FailureReason.NOT_CLOSED
    at_lift = next(seen for seen in observations if seen.time_s >= STARTS['lift'])
    return FailureReason.NOT_LIFTED if at_lift.touched else FailureReason.EMPTY


def _smooth(u: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Ease from 0 to 1 with no jump in speed (smoothstep)."""
    v = np.clip(u, 0, 1)
    return np.asarray(v * v * (3 - 2 * v))
