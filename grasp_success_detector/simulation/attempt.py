"""One attempt to grasp: approach, close, lift, shake, hold, and what physics says of it."""

from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Label
from grasp_success_detector.simulation.scene import (
    HAND_PREFIX,
    HAND_ROTATION,
    JOINT_NAMES,
    OPEN,
    Scene,
)

#: Phases and their lengths in seconds.
PHASES = (('approach', .6), ('close', .9), ('lift', .9), ('shake', 1.), ('hold', .6))
DURATION_S = sum(seconds for _, seconds in PHASES)
#: When each phase starts (s).
STARTS = dict(zip((name for name, _ in PHASES),
                  np.cumsum([0., *(seconds for _, seconds in PHASES)]).tolist(), strict=False))

#: An object counts as lifted when it is this far above where it stood (m).
LIFTED_M = .015

#: Frames this near to a change between held and not held stay unlabelled (s).
AMBIGUOUS_S = .2

#: An object that wanders more than this in the hand during the hold is neither held nor lost (m).
DRIFT_M = .02


@dataclass(frozen=True)
class Observation:
    """
    What physics says at one frame's time.

    :ivar time_s: since the attempt's start.
    :ivar qpos: the whole state's positions, to render from later.
    :ivar joints: the 16 hand joint angles (radians), order index, middle, ring, thumb.
    :ivar touched: the object touches the hand.
    :ivar supported: the object touches the table or the floor.
    :ivar height: of the object above where it stood (m).
    :ivar in_palm: object position in the palm's frame (3,), m.
    """

    time_s: float
    qpos: NDArray[np.float64]
    joints: NDArray[np.float64]
    touched: bool
    supported: bool
    height: float
    in_palm: NDArray[np.float64]

    @property
    def held(self) -> bool:
        """Held by the hand and off the table; not asked before lift-off, when it may lie still."""
        return self.touched and not self.supported and self.height > LIFTED_M


@dataclass(frozen=True)
class Motion:
    """The random part of the movement: start, lift, shake and when the grip loosens."""

    retreat: NDArray[np.float64]
    lift: float
    shake_direction: NDArray[np.float64]
    shake_amplitude: float
    shake_hz: float
    tilt: NDArray[np.float64]
    finger_delay: NDArray[np.float64]
    slip_start: float
    slip_seconds: float
    slip_to: float

    @classmethod
    def draw(cls, rng: np.random.Generator, scene: Scene, wrist_tilt_deg: float) -> 'Motion':
        """Draw one; without a slip the grip loosens only after the attempt's end."""
        direction = rng.normal(0, 1, 3)
        slip_start = rng.uniform(STARTS['lift'] + .6, STARTS['hold'])
        return cls(
            retreat=-HAND_ROTATION[scene.approach][:, 0] * .09,
            lift=rng.uniform(.12, .17),
            shake_direction=direction / np.linalg.norm(direction),
            shake_amplitude=rng.uniform(.005, .035), shake_hz=rng.uniform(2, 5),
            tilt=np.clip(rng.normal(0, np.radians(wrist_tilt_deg), 3), -.8, .8),
            finger_delay=rng.uniform(0, .25, 4).repeat(4),
            slip_start=slip_start if scene.slips else 2 * DURATION_S,
            slip_seconds=rng.uniform(.2, .8), slip_to=rng.uniform(0., .75))

    def targets(self, t: float, closed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the 22 servo targets at ``t`` seconds: mount xyz, mount rotation, 16 joints."""
        since = {name: t - start for name, start in STARTS.items()}
        mount = self.retreat * (1 - _smooth(since['approach'] / .6))
        mount = mount + np.array([0, 0, self.lift]) * _smooth(since['lift'] / .9)
        if 0 < since['shake'] < 1:
            mount = mount + (self.shake_direction * self.shake_amplitude
                             * np.sin(2 * np.pi * self.shake_hz * since['shake']))
        grip = _smooth((since['close'] / .9 - self.finger_delay) / .7)
        grip = grip * (1 - (1 - self.slip_to) * _smooth((t - self.slip_start)
                                                        / self.slip_seconds))
        return np.concatenate([mount, self.tilt * _smooth(since['shake'] * 1.3),
                               OPEN + (closed - OPEN) * grip])


class UnstableError(Exception):
    """The physics blew up: draw another attempt."""


def run_attempt(scene: Scene, motion: Motion, fps: float) -> list[Observation]:
    """
    Simulate one attempt and observe it every ``1 / fps`` seconds.

    :raises UnstableError: MuJoCo warned of a bad acceleration.
    """
    model, data = scene.model, mujoco.MjData(scene.model)
    joints = [model.joint(HAND_PREFIX + name).qposadr[0] for name in JOINT_NAMES]
    data.ctrl[:] = motion.targets(0., scene.closed)
    data.qpos[[model.joint(f'mount_{i}').qposadr[0] for i in range(3)]] = motion.retreat
    data.qpos[joints] = OPEN
    mujoco.mj_forward(model, data)
    contacts = _ContactQuery(model)
    start_height = float(data.xpos[contacts.object_body][2])
    observations: list[Observation] = []
    while len(observations) < round(DURATION_S * fps):
        data.ctrl[:] = motion.targets(data.time, scene.closed)
        mujoco.mj_step(model, data)
        if data.warning[mujoco.mjtWarning.mjWARN_BADQACC].number:
            raise UnstableError
        if data.time >= len(observations) / fps:
            touched, supported = contacts.read(data)
            observations.append(Observation(
                float(data.time), data.qpos.copy(), data.qpos[joints], touched, supported,
                float(data.xpos[contacts.object_body][2]) - start_height,
                contacts.in_palm(data)))
    return observations


def label_frames(observations: list[Observation]) -> list[Label | None]:
    """
    Label each frame by physics; None where a person would hesitate.

    Before lift-off the hand is still on its way: failure. After it, held by the hand and off
    the table is success. Frames near a change, and frames in which the hand has begun to rise
    and the object not yet, have no label.
    """
    lift = STARTS['lift']
    raw: list[Label | None] = []
    for seen in observations:
        if seen.time_s < lift:
            raw.append(Label.FAILURE)
        elif seen.held:
            raw.append(Label.SUCCESS)
        elif seen.time_s < lift + AMBIGUOUS_S or (
                seen.touched and seen.time_s < STARTS['shake']):
            raw.append(None)  # rising: the hand may still take it along
        else:
            raw.append(Label.FAILURE)
    known = [(seen.time_s, label) for seen, label in zip(observations, raw, strict=True)
             if label is not None]
    changes = [(a[0] + b[0]) / 2 for a, b in pairwise(known) if a[1] != b[1]]
    return [None if any(abs(seen.time_s - change) < AMBIGUOUS_S for change in changes) else label
            for seen, label in zip(observations, raw, strict=True)]


def outcome(observations: list[Observation]) -> Label | None:
    """Return the attempt's result at its end; None if the object neither stays nor leaves."""
    hold = [seen for seen in observations if seen.time_s >= STARTS['hold']]
    if not all(seen.held for seen in hold[-3:]):
        return Label.FAILURE
    drift = float(np.linalg.norm(np.ptp([seen.in_palm for seen in hold], axis=0)))
    return Label.SUCCESS if all(seen.held for seen in hold) and drift < DRIFT_M else None


class _ContactQuery:
    """Who touches the object; ids looked up once per model."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.object_body = model.body('object').id
        self._palm = model.body(HAND_PREFIX + 'palm').id
        hand = {i for i in range(model.nbody) if model.body(i).name.startswith(HAND_PREFIX)}
        self._object = model.geom_bodyid == self.object_body
        self._hand = np.isin(model.geom_bodyid, list(hand))
        self._support = np.isin(np.arange(model.ngeom),
                                [model.geom('table').id, model.geom('floor').id])

    def read(self, data: mujoco.MjData) -> tuple[bool, bool]:
        """Return whether the object touches the hand, and whether table or floor."""
        pairs = data.contact.geom  # (n, 2)
        first, second = self._object[pairs[:, 0]], self._object[pairs[:, 1]]
        others = np.where(first, pairs[:, 1], pairs[:, 0])[first ^ second]
        return bool(self._hand[others].any()), bool(self._support[others].any())

    def in_palm(self, data: mujoco.MjData) -> NDArray[np.float64]:
        rotation = data.xmat[self._palm].reshape(3, 3)
        offset = data.xpos[self.object_body] - data.xpos[self._palm]
        return np.asarray(rotation.T @ offset)


def _smooth(u: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Ease from 0 to 1 with no jump in speed (smoothstep)."""
    v = np.clip(u, 0, 1)
    return np.asarray(v * v * (3 - 2 * v))
