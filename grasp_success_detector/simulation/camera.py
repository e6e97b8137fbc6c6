"""The simulated camera: MuJoCo's renderer behind a simple sensor model."""

from dataclasses import dataclass
import os
import sys
from typing import Any

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.simulation.presets import Preset


@dataclass(frozen=True)
class Sensor:
    """
    Settings of one camera, the same for a whole attempt.

    :ivar gain: factor per colour channel (exposure and white balance), RGB.
    :ivar noise: standard deviation in grey levels of 255.
    :ivar blur: three-tap smoothing, as a cheap lens does.
    """

    gain: tuple[float, float, float]
    noise: float
    blur: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, preset: Preset) -> 'Sensor':
        """Draw the settings within the preset's ranges."""
        gain = rng.uniform(*preset.exposure) * rng.normal(1, .03, 3)
        return cls(tuple(gain), float(rng.uniform(*preset.noise)), bool(rng.random() < .5))

    def expose(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """
        Turn a rendered image into what the sensor delivers.

        :param image: RGB uint8 (H, W, 3).
        """
        seen = image.astype(np.float32) * np.asarray(self.gain, np.float32)
        if self.blur:
            seen = np.asarray(cv2.GaussianBlur(seen, (3, 3), 0), np.float32)
        seen += np.float32(self.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
        return np.clip(seen, 0, 255).astype(np.uint8)


class Camera:
    """Renders the camera named ``camera`` of one model after another, in one GL context."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._option = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._context: mujoco.MjrContext | None = None
        try:
            self._gl = _gl_context(width, height)
            self._gl.make_current()
        except Exception as error:  # each GL backend of mujoco raises classes of its own
            raise SimulationError(
                f'cannot render: MuJoCo got no OpenGL context ({error}); install libegl1 and '
                'libgl1, or set MUJOCO_GL to osmesa or glfw') from error

    def look_at(self, model: mujoco.MjModel) -> None:
        """Upload a compiled model; must come before the first ``render`` of that model."""
        width, height = self._size
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        if self._context is not None:
            self._context.free()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._model, self._data = model, mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, 200)
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = model.camera('camera').id

    def render(self, qpos: NDArray[np.float64]) -> NDArray[np.uint8]:
        """
        Render the model that was last looked at, in one state.

        :param qpos: positions of all joints (nq,).
        :returns: RGB uint8 (H, W, 3).
        """
        width, height = self._size
        image = np.empty((height, width, 3), np.uint8)
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mjv_updateScene(self._model, self._data, self._option, None,
                               self._view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, self._rect, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Free the GL context."""
        if self._context is not None:
            self._context.free()
            self._context = None
        self._gl.free()


def _gl_context(width: int, height: int) -> Any:
    # MuJoCo's own default is GLFW, which needs a display. It looks at MUJOCO_GL once, when it is
    # imported, which may have been long before us.
    if sys.platform == 'linux' and os.environ.get('MUJOCO_GL', 'egl').lower() == 'egl':
        from mujoco.egl import GLContext
        return GLContext(width, height)
    return mujoco.GLContext(width, height)
