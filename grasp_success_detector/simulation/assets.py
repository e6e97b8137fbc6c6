"""
Models and photographs of a folder, which make simulated pictures more like the world.

Nothing of it ships with the package; docs/real_cameras.md says how to fetch it, and the licences.
The folder may hold, at any depth, what these packages hold:

- ``robots/NAME/robot.xml`` with a body ``right_hand`` (robosuite): arms;
- ``grippers/NAME.xml`` (robosuite): other grippers and hands, which no picture calls a hand;
- a textured model, such as ``stable_hope_objects/NAME/NAME.xml`` (LIBERO): things;
- ``textures/*.png``: tables, walls and cloths;
- ``backgrounds/**.jpg``, ``.png``, ``.webp``: photographs of what stands behind;
- ``allegro_hand_right.urdf``: the hand's visual meshes.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
import re

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import SimulationError
from grasp_success_detector.simulation.meshes import Mesh, mesh_of, simplified
from grasp_success_detector.simulation.objects import BOX, Part
from grasp_success_detector.simulation.things import Thing

Floats = NDArray[np.float64]

#: Sides of the cells in which the vertices of a mesh become one (m): of an arm, a gripper, a hand,
#: a thing.
_ARM_CELL, _GRIPPER_CELL, _HAND_CELL, _THING_CELL = .01, .003, .0015, .004

#: Most joints of an arm, and of a gripper.
_ARM_JOINTS, _GRIPPER_JOINTS = 8, 12

#: Longest side of a thing that is worth taking into the hand, and of a texture's image.
_MOST_M, _TEXTURE_PIXELS = .30, 256

_WIDEST_PHOTOGRAPH = 960


@dataclass(frozen=True)
class MeshSolid:
    """A mesh, by its index among those of the assets, with place, rotation (3, 3) and RGB."""

    mesh: int
    position: Floats
    rotation: Floats
    rgb: tuple[float, ...]


@dataclass(frozen=True)
class ArmPose:
    """
    An arm or a gripper in some position, in the frame of the flange between them.

    :ivar up: the vertical of an arm's base.
    """

    solids: tuple[MeshSolid, ...]
    up: Floats


@dataclass
class Assets:
    """
    What was found in a folder; empty lists where nothing was.

    :ivar arms: by name, each in several positions; ``grippers`` as well.
    :ivar things: things with a model.
    :ivar models: by name, a thing's mesh and its texture, as indices.
    :ivar textures: RGB uint8 (h, w, 3) each.
    :ivar photographs: their files.
    :ivar hand: solids by the name of the hand's body, in this body's frame.
    """

    meshes: list[Mesh] = field(default_factory=list)
    arms: dict[str, list[ArmPose]] = field(default_factory=dict)
    grippers: dict[str, list[ArmPose]] = field(default_factory=dict)
    things: list[Thing] = field(default_factory=list)
    models: dict[str, tuple[MeshSolid, int]] = field(default_factory=dict)
    textures: list[NDArray[np.uint8]] = field(default_factory=list)
    photographs: list[Path] = field(default_factory=list)
    hand: dict[str, list[MeshSolid]] = field(default_factory=dict)


def load_assets(folder: Path | None) -> Assets:
    """
    Load what a folder holds; nothing for None.

    :raises SimulationError: the folder is missing or holds nothing of use.
    """
    assets = Assets()
    if folder is None:
        return assets
    if not folder.is_dir():
        raise SimulationError(f'{folder}: no such folder of assets')
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob('robots/*/robot.xml')):
        if made := _positions(assets, path, rng, 'right_hand', _ARM_JOINTS, _ARM_CELL):
            assets.arms[path.parent.name] = made
    for path in sorted(folder.rglob('grippers/*.xml')):
        if made := _positions(assets, path, rng, 'world', _GRIPPER_JOINTS, _GRIPPER_CELL):
            assets.grippers[path.stem] = made
    for path in sorted(folder.rglob('*_objects/*/*.xml')):
        _load_thing(assets, path)
    for path in sorted(folder.rglob('textures/*.png')):
        if (image := _picture(path, _TEXTURE_PIXELS)) is not None:
            assets.textures.append(image)
    assets.photographs = _photographs(folder)
    for path in sorted(folder.rglob('allegro_hand_right.urdf')):
        _load_hand(assets, path)
    if not (assets.meshes or assets.textures or assets.photographs):
        raise SimulationError(f'{folder}: holds no arms, things, textures or backgrounds; '
                              'docs/real_cameras.md says how to fetch them')
    return assets


def _photographs(folder: Path) -> list[Path]:
    found = [path for form in ('jpg', 'png') for place in ('backgrounds', 'wallpapers')
             for path in folder.rglob(f'{place}/**/*.{form}') if path.stat().st_size > 50_000]
    sizes: dict[Path, list[Path]] = {}
    for path in found:      # a wallpaper is a folder of the same picture in several sizes
        several = path.parent if path.parent.name.startswith('images') else path
        sizes.setdefault(several, []).append(path)
    return sorted(min(files, key=lambda path: path.stat().st_size) for files in sizes.values())


def read_photograph(path: Path, rng: np.random.Generator, width: int, height: int,
                    ) -> NDArray[np.uint8]:
    """Return a random part of a photograph, RGB uint8 (height, width, 3); grey if unreadable."""
    image = _photograph(path)
    if image is None:
        return np.full((height, width, 3), 128, np.uint8)
    rows, columns, _ = image.shape
    wide = min(columns, rows * width / height) * rng.uniform(.35, 1.)
    high = wide * height / width
    x, y = rng.uniform(0, columns - wide), rng.uniform(0, rows - high)
    part = image[int(y):int(y + high) + 1, int(x):int(x + wide) + 1]
    if rng.random() < .5:
        part = part[:, ::-1]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(200)
def _photograph(path: Path) -> NDArray[np.uint8] | None:
    return _picture(path, _WIDEST_PHOTOGRAPH)


def _picture(path: Path, longest: int) -> NDArray[np.uint8] | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    scale = min(1., longest / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _positions(assets: Assets, path: Path, rng: np.random.Generator, frame: str,
               most_joints: int, cell: float, number: int = 60) -> list[ArmPose]:
    """Return random positions of a model, in the frame of a body; none if it is not of use."""
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        for geom in list(spec.geoms):   # what collides is not shown, and slow to compile
            if geom.group != 1:
                spec.delete(geom)
        model = spec.compile()
        flange = model.body(frame).id
    except (ValueError, KeyError):
        return []       # a torso or a dog, not an arm
    data = mujoco.MjData(model)
    shown = [g for g in range(model.ngeom) if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH
             and model.geom_group[g] == 1 and model.mesh_vertnum[model.geom_dataid[g]] > 20]
    if model.nq > most_joints or not shown:
        return []
    meshes = {g: _add_mesh(assets, simplified(mesh_of(model, model.geom_dataid[g]), cell))
              for g in shown}
    made = []
    for _ in range(number):
        limits = np.where(model.jnt_limited[:, None] > 0, model.jnt_range, [[-3.1, 3.1]])
        data.qpos[:] = rng.uniform(.8 * limits[:, 0], .8 * limits[:, 1])
        mujoco.mj_kinematics(model, data)
        origin, turn = data.xpos[flange], data.xmat[flange].reshape(3, 3)
        made.append(ArmPose(tuple(MeshSolid(
            meshes[g], turn.T @ (data.geom_xpos[g] - origin),
            turn.T @ data.geom_xmat[g].reshape(3, 3), _rgb(model, g)) for g in shown),
            turn.T @ np.array([0, 0, 1.])))
    return made


def _load_thing(assets: Assets, path: Path) -> None:
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        files = [texture.file for texture in spec.textures]
        model = spec.compile()
    except ValueError:
        return
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    shown = [g for g in range(model.ngeom) if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH]
    boxes = [g for g in range(model.ngeom) if model.geom_type[g] == BOX]
    if len(shown) != 1 or not boxes or len(boxes) > 40 or len(files) != 1:
        return
    centres = data.geom_xpos[boxes]
    middle = (centres.min(0) + centres.max(0)) / 2
    parts = tuple(Part(BOX, tuple(model.geom_size[g]), tuple(data.geom_xpos[g] - middle),
                       _quaternion(data.geom_xmat[g])) for g in boxes)
    name = path.stem
    thing = Thing(re.sub(r'^(red|green|blue|yellow|white|black|new|bigger)_', '', name), parts,
                  name)
    texture = _picture(path.parent / files[0], 2 * _TEXTURE_PIXELS)
    if 2 * float(thing.half_extents.max()) > _MOST_M or texture is None:
        return
    mesh = _add_mesh(assets, simplified(mesh_of(model, model.geom_dataid[shown[0]]), _THING_CELL))
    assets.textures.append(texture)
    assets.things.append(thing)
    assets.models[name] = (
        MeshSolid(mesh, data.geom_xpos[shown[0]] - middle,
                  data.geom_xmat[shown[0]].reshape(3, 3).copy(), (1., 1., 1.)),
        len(assets.textures) - 1)


def _load_hand(assets: Assets, path: Path) -> None:
    compiler = (f'<mujoco><compiler meshdir="{path.parent}" strippath="false" '
                'discardvisual="false" fusestatic="false" balanceinertia="true"/></mujoco>')
    text = path.read_text(encoding='utf-8')
    model = mujoco.MjSpec.from_string(re.sub(r'(<robot [^>]*>)', rf'\1{compiler}', text, count=1)
                                      ).compile()
    for g in range(model.ngeom):
        if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH and not model.geom_contype[g]:
            name = _hand_body(model.body(model.geom_bodyid[g]).name)
            if name is not None:
                turn = np.zeros(9)
                mujoco.mju_quat2Mat(turn, model.geom_quat[g])
                mesh = simplified(mesh_of(model, model.geom_dataid[g]), _HAND_CELL)
                assets.hand.setdefault(name, []).append(MeshSolid(
                    _add_mesh(assets, mesh), model.geom_pos[g].copy(), turn.reshape(3, 3),
                    _rgb(model, g)))


def _hand_body(link: str) -> str | None:
    """Return the body of allegro_hand.xml for a link of the URDF."""
    if link in ('base_link', 'palm', 'palm_link'):
        return 'palm'
    found = re.fullmatch(r'link_(\d+)\.0(_tip)?', link)
    if found is None:
        return None
    finger, joint = divmod(int(found[1]), 4)
    part = 'tip' if found[2] else ('base', 'proximal', 'middle', 'distal')[joint]
    return f'{("index", "middle", "ring", "thumb")[finger]}_{part}'


def _add_mesh(assets: Assets, mesh: Mesh) -> int:
    assets.meshes.append(mesh)
    return len(assets.meshes) - 1


def _rgb(model: mujoco.MjModel, geom: int) -> tuple[float, ...]:
    material = model.geom_matid[geom]
    rgba = model.geom_rgba[geom] if material < 0 else model.mat_rgba[material]
    return tuple(float(channel) for channel in rgba[:3])


def _quaternion(matrix: Floats) -> tuple[float, ...]:
    turn = np.zeros(4)
    mujoco.mju_mat2Quat(turn, matrix)
    return tuple(turn)
