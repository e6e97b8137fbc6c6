"""The hand's kinematics alone: where its bodies and primitives are for given joint angles."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.scene import JOINT_NAMES

Floats = NDArray[np.float64]


class HandGeom(NamedTuple):
    """A primitive of the hand: its body, its part (link, shell or tip), shape and place."""

    body: str
    part: str
    kind: mujoco.mjtGeom
    size: tuple[float, ...]
    position: Floats
    rotation: Floats


class HandModel:
    """The hand of allegro_hand.xml with its palm at the origin."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec.from_file(str(Path(__file__).with_name('allegro_hand.xml')))
        self._parts = [geom.classname.name for geom in spec.geoms]
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._joints = np.array([self._model.joint(name).qposadr[0] for name in JOINT_NAMES])
        tips = [self._model.geom(f'{name}_tip') for name in ('index', 'middle', 'ring', 'thumb')]
        self._tips = {f'{name.name}': name.id for name in tips}

    def pose(self, joints: Floats) -> None:
        """Set the angles of the joints (16,) in radians."""
        self._data.qpos[self._joints] = joints
        mujoco.mj_kinematics(self._model, self._data)

    def bodies(self, turn: Floats) -> Iterator[tuple[str, Floats, Floats]]:
        """Yield name, position and rotation of each body and fingertip, rotated by ``turn``."""
        model, data = self._model, self._data
        for i in range(1, model.nbody):
            yield model.body(i).name, turn @ data.xpos[i], turn @ data.xmat[i].reshape(3, 3)
        for name, i in self._tips.items():
            yield name, turn @ data.geom_xpos[i], turn @ data.geom_xmat[i].reshape(3, 3)

    def geoms(self, turn: Floats) -> Iterator[HandGeom]:
        """Yield the primitives, rotated by ``turn``."""
        model, data = self._model, self._data
        for i in range(model.ngeom):
            yield HandGeom(
                model.body(model.geom_bodyid[i]).name, self._parts[i],
                mujoco.mjtGeom(model.geom_type[i]), tuple(model.geom_size[i]),
                turn @ data.geom_xpos[i], turn @ data.geom_xmat[i].reshape(3, 3))

    def points(self, turn: Floats) -> Floats:
        """Return the corners of all primitives (n, 3), rotated by ``turn``."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T    # (8, 3)
        return np.concatenate([geom.position + (signs * _extents(geom)) @ geom.rotation.T
                               for geom in self.geoms(turn)])


def _extents(geom: HandGeom) -> Floats:
    a, b, c = geom.size
    if geom.kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.array([a, a, a])
    if geom.kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        return np.array([a, a, b])
    return np.array([a, b, c])
