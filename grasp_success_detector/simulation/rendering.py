"""Rendering of attempts: simulated camera, image sensor, and choice of labelled frames."""

from dataclasses import dataclass
from itertools import count
import os
import sys
from typing import Any

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.labels import FailureReason, Label
from grasp_success_detector.simulation import attempt
from grasp_success_detector.simulation.attempt import Observation, STARTS
from grasp_success_detector.simulation.joints import JointSample, measure_joints
from grasp_success_detector.simulation.presets import Preset, RANGES, Ranges
from grasp_success_detector.simulation.scene import build_scene, CLOSED

Box = tuple[int, int, int, int]

#: Share of the chosen frames from before lift-off, where the label is always failure.
_EARLY_SHARE = .25

#: Rate of the joint states, rounded to a multiple of the frame rate.
_JOINTS_HZ = 45.


class Sensor:
    """An image sensor with random gain, noise and blur, which are constant in an attempt."""

    def __init__(self, rng: np.random.Generator, ranges: Ranges) -> None:
        self._rng = rng
        # Factor per colour channel: exposure and white balance, RGB.
        self._gain = (rng.uniform(*ranges.exposure) * rng.normal(1, .03, 3)).astype(np.float32)
        self._noise = np.float32(rng.uniform(*ranges.noise))
        self._blur = rng.random() < .5  # three-tap smoothing, as a cheap lens does

    def expose(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply gain, blur and noise to a rendered image; both are RGB uint8 (H, W, 3)."""
        seen = np.multiply(image, self._gain, dtype=np.float32)
        if self._blur:
            seen = np.asarray(cv2.GaussianBlur(seen, (3, 3), 0), np.float32)
        noise = self._rng.standard_normal(seen.shape, dtype=np.float32)
        noise *= self._noise
        seen += noise
        return np.clip(seen, 0, 255, out=seen).astype(np.uint8)


class SimulatedCamera:
    """Renders compiled models; raises SimulationError if MuJoCo gets no OpenGL context."""

    def __init__(self, width: int, height: int) -> None:
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._option = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._context: mujoco.MjrContext | None = None
        self._gl = make_gl_context(width, height)

    def load(self, model: mujoco.MjModel) -> None:
        """Upload the compiled model that :meth:`render` is to show."""
        model.vis.global_.offwidth = self._rect.width
        model.vis.global_.offheight = self._rect.height
        if self._context is not None:
            self._context.free()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._model, self._data = model, mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, 200)
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, qpos: NDArray[np.float64], view: int = 0) -> NDArray[np.uint8]:
        """
        Return RGB uint8 (H, W, 3) of the loaded model at joint positions ``qpos`` (nq,).

        :param view: number of the model's camera.
        """
        self._view.fixedcamid = view
        image = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mjv_updateScene(self._model, self._data, self._option, None,
                               self._view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, self._rect, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._context is not None:
            self._context.free()
        self._gl.free()


def make_gl_context(width: int, height: int) -> Any:
    """
    Make an OpenGL context for pictures of this size the current one of the thread.

    :raises SimulationError: MuJoCo gets none.
    """
    try:
        context = _gl_context(width, height)
        context.make_current()
    except Exception as error:  # each OpenGL backend of MuJoCo raises classes of its own
        raise SimulationError(
            f'cannot render: MuJoCo got no OpenGL context ({error}); install libegl1 and '
            'libgl1, or set MUJOCO_GL to osmesa or glfw') from error
    return context


def _gl_context(width: int, height: int) -> Any:
    # MuJoCo's own default is GLFW, which needs a display. It looks at MUJOCO_GL once, when it is
    # imported, which may have been long before this module.
    if sys.platform == 'linux' and os.environ.get('MUJOCO_GL', 'egl').lower() == 'egl':
        from mujoco.egl import GLContext
        return GLContext(width, height)
    return mujoco.GLContext(width, height)


@dataclass(frozen=True)
class RenderedFrame:
    """
    One frame of an episode.

    :ivar time_s: time since the start of the attempt.
    :ivar image: RGB uint8 (H, W, 3).
    :ivar label: the frame's label, or None if it is ambiguous.
    :ivar box: the hand's left, top, right and bottom in pixels; None where it is not computed.
    :ivar others: what further cameras see, RGB uint8 (H, W, 3) each.
    """

    time_s: float
    image: NDArray[np.uint8]
    label: Label | None
    box: Box | None = None
    others: tuple[NDArray[np.uint8], ...] = ()


@dataclass(frozen=True)
class Episode:
    """
    A rendered attempt: frames, success at its end, direction of approach, kind of object.

    :ivar joints: joint states of the whole attempt, several for each frame.
    :ivar failure: why it failed; None for a success, and where it is not known.
    """

    frames: tuple[RenderedFrame, ...]
    joints: tuple[JointSample, ...]
    success: bool
    approach: str
    kind: str
    failure: FailureReason | None = None


def make_episode(seed: int, number: int, preset: Preset, fps: float, frames: int | None,
                 camera: SimulatedCamera, views: int = 1, empty: bool = False,
                 from_s: float = 0., without_hand: bool = False) -> Episode:
    """
    Simulate and render one attempt; the same arguments give the same pixels.

    An attempt with unstable physics or an undecided end is replaced by another one.

    :param number: number of the attempt; the seed and the number determine the attempt.
    :param frames: number of labelled frames, spread over the attempt; None for all at ``fps``.
    :param views: number of cameras; those after the first do not change what it sees.
    :param empty: let the hand close on nothing.
    :param from_s: render no frame before this time of the attempt, in seconds.
    :param without_hand: show another gripper or nothing in the place of the hand: such frames have
        no label, and the attempt no joint states and no success.
    """
    ranges = RANGES[preset]
    every = max(1, round(_JOINTS_HZ / fps))
    for retry in count():
        rng = np.random.default_rng([seed, number, retry])
        others = [np.random.default_rng([seed, number, retry, 1 + view])
                  for view in range(1, views)]
        # Random numbers of their own: with the hand the same arguments give the same pixels.
        stranger = np.random.default_rng([seed, number, retry, 1, 2]) if without_hand else None
        scene = build_scene(rng, ranges, empty, others, stranger)
        motion = attempt.Motion(rng, scene, ranges.wrist_tilt)
        try:
            dense = attempt.run_attempt(scene, motion, fps * every)
        except attempt.UnstableError:
            continue
        observations = dense[::every]
        labels = attempt.label_frames(observations)
        result = attempt.outcome(observations)
        if result is not None and result == labels[-1]:
            break
    sensors = [Sensor(drawn, ranges) for drawn in (rng, *others)]
    camera.load(scene.model)
    chosen = (range(len(observations)) if frames is None
              else choose_frames(observations, labels, frames, rng))
    seen = [(i, [sensor.expose(camera.render(observations[i].qpos, view))
                 for view, sensor in enumerate(sensors)]) for i in chosen
            if observations[i].time_s >= from_s]
    if without_hand:
        return Episode(tuple(RenderedFrame(observations[i].time_s, images[0], None,
                                           others=tuple(images[1:])) for i, images in seen),
                       (), False, scene.approach, scene.shape.kind)
    return Episode(
        tuple(RenderedFrame(observations[i].time_s, images[0], labels[i],
                            others=tuple(images[1:])) for i, images in seen),
        # Random numbers of their own: pictures must not depend on the joint states.
        tuple(measure_joints(dense, *(np.random.default_rng([seed, number, retry, *more])
                                      for more in ((1,), (1, 1))))),
        result == Label.SUCCESS, scene.approach, scene.shape.kind,
        None if result is Label.SUCCESS else attempt.failure_reason(
            observations, scene.closed, CLOSED[scene.approach]))


def choose_frames(observations: list[Observation], labels: list[Label | None], most: int,
                  rng: np.random.Generator) -> list[int]:
    """
    Choose labelled frames, spread evenly: a quarter before lift-off, the rest after it.

    :returns: indices in order of time: ``most`` of them, or all if fewer frames are labelled.
    """
    labelled = [i for i, label in enumerate(labels) if label is not None]
    early = [i for i in labelled if observations[i].time_s < STARTS['lift']]
    late = [i for i in labelled if observations[i].time_s >= STARTS['lift']]
    n_early = min(len(early), max(round(most * _EARLY_SHARE), most - len(late)))
    n_late = min(len(late), most - n_early)
    return [int(rng.choice(part)) for candidates, number in ((early, n_early), (late, n_late))
            if number for part in np.array_split(candidates, number)]
