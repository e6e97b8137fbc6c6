"""
A studio that renders any solids: one OpenGL context for all pictures, nothing is compiled again.

Compiling a model and making its context takes 0.2 s, drawing a frame a tenth of that. Therefore
textures and meshes are loaded once, and a picture's solids are handed to the renderer one by one.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.assets import Assets, MeshSolid
from grasp_success_detector.simulation.objects import noise_texture
from grasp_success_detector.simulation.rendering import make_gl_context

Floats = NDArray[np.float64]
Rgb = tuple[float, ...]

#: How many textures are drawn at random, and in how many repetitions each can be used.
_DRAWN_TEXTURES, _REPEATS = 40, (1., 3.)

_LIGHTS = 3
_MOST_SOLIDS = 2000

#: Nearest and farthest distance that is drawn (m).
NEAR_M, FAR_M = .02, 12.

_MESH = mujoco.mjtGeom.mjGEOM_MESH
BOX = mujoco.mjtGeom.mjGEOM_BOX


class Solid(NamedTuple):
    """
    Something to draw.

    :ivar geom: a primitive of MuJoCo, or a mesh.
    :ivar size: its half sizes as MuJoCo has them; of a mesh the factor on its size, three times.
    :ivar position: (3,) in metres.
    :ivar rotation: (3, 3).
    :ivar rgb: colour, 0 to 1, multiplied with that of the texture.
    :ivar texture: index of the texture, or -1.
    :ivar repeats: whether the texture is repeated.
    :ivar mesh: index among the meshes of the assets, or -1.
    :ivar shine: specular reflection, 0 to 1.
    :ivar glow: emitted light, 0 to 1.
    """

    geom: mujoco.mjtGeom
    size: tuple[float, ...]
    position: Floats
    rotation: Floats
    rgb: Rgb
    texture: int = -1
    repeats: bool = False
    mesh: int = -1
    shine: float = .2
    glow: float = 0.


@dataclass
class Light:
    """A lamp at a position (m) that shines at a point: RGB, 0 to 1."""

    position: Floats
    target: Floats
    rgb: Floats


@dataclass
class View:
    """
    Camera and light of a picture.

    :ivar position: of the camera (3,) in metres.
    :ivar rotation: (3, 3): its x to the right, y up, z backwards.
    :ivar fovy: vertical field of view in degrees.
    :ivar ambient: light from everywhere, RGB.
    :ivar head: light from the camera, RGB.
    """

    position: Floats
    rotation: Floats
    fovy: float
    ambient: Floats
    head: Floats
    lights: list[Light] = field(default_factory=list)
    shadows: bool = False

    def project(self, points: Floats, width: int, height: int) -> tuple[Floats, Floats]:
        """Return columns and rows (n, 2), and distances along the axis (n,), of points (n, 3)."""
        seen = (points - self.position) @ self.rotation
        depth = -seen[:, 2]
        focal = height / 2 / np.tan(np.radians(self.fovy) / 2)
        safe = np.maximum(depth, 1e-3)
        return np.stack([width / 2 + focal * seen[:, 0] / safe,
                         height / 2 - focal * seen[:, 1] / safe], 1), depth


class Studio:
    """Renders solids; SimulationError if MuJoCo gets no OpenGL context."""

    def __init__(self, width: int, height: int, assets: Assets, shadow_pixels: int = 1024) -> None:
        self.assets, self.width, self.height = assets, width, height
        self._model, self.textures = _compile(assets, width, height, shadow_pixels)
        self._data = mujoco.MjData(self._model)
        self._gl = make_gl_context(width, height)
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(self._model, _MOST_SOLIDS)
        self._option, self._view = mujoco.MjvOption(), mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = 0
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._mesh_turns = np.zeros((len(assets.meshes), 3, 3))
        for turn, quaternion in zip(self._mesh_turns, self._model.mesh_quat, strict=True):
            flat = np.zeros(9)
            mujoco.mju_quat2Mat(flat, quaternion)
            turn[:] = flat.reshape(3, 3)

    def render(self, solids: list[Solid], view: View) -> tuple[NDArray[np.uint8], Floats]:
        """Return RGB uint8 (H, W, 3), and the distances (H, W) in metres, infinite for nothing."""
        self._gl.make_current()     # there may be another studio in this thread
        self._arrange(view)
        for solid in solids:
            self._add(solid)
        image = np.empty((self.height, self.width, 3), np.uint8)
        depth = np.empty((self.height, self.width), np.float32)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(image, depth, self._rect, self._context)
        with np.errstate(divide='ignore'):
            metres = NEAR_M / (1 - depth[::-1].astype(np.float64) * (1 - NEAR_M / FAR_M))
        metres[depth[::-1] >= 1.] = np.inf
        return np.ascontiguousarray(image[::-1]), metres

    def mesh_solid(self, part: MeshSolid, position: Floats, rotation: Floats, scale: float = 1.,
                   rgb: Rgb | None = None, texture: int = -1, shine: float = .2) -> Solid:
        """Return a mesh of the assets whose frame lies at a position with a rotation."""
        return Solid(_MESH, (scale,) * 3, position + scale * (rotation @ part.position),
                     rotation @ part.rotation, part.rgb if rgb is None else rgb, texture, False,
                     part.mesh, shine)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._context.free()
        self._gl.free()

    def _arrange(self, view: View) -> None:
        model, data = self._model, self._data
        model.cam_pos[0], model.cam_fovy[0] = view.position, view.fovy
        mujoco.mju_mat2Quat(model.cam_quat[0], np.ascontiguousarray(view.rotation).ravel())
        headlight = model.vis.headlight
        headlight.ambient[:], headlight.diffuse[:] = view.ambient, view.head
        model.light_active[:] = False
        for i, light in enumerate(view.lights[:_LIGHTS]):
            way = light.target - light.position
            model.light_active[i], model.light_castshadow[i] = True, view.shadows and not i
            model.light_pos[i], model.light_dir[i] = light.position, way / np.linalg.norm(way)
            model.light_diffuse[i] = light.rgb
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        mujoco.mjv_updateScene(model, data, self._option, None, self._view,
                               mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = view.shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._scene.ngeom = 0

    def _add(self, solid: Solid) -> None:
        scene = self._scene
        if scene.ngeom >= _MOST_SOLIDS:
            return
        geom = scene.geoms[scene.ngeom]
        position, rotation = solid.position, solid.rotation
        if solid.mesh >= 0:     # MuJoCo keeps a mesh in a frame of its own
            position = position + solid.size[0] * (rotation @ self._model.mesh_pos[solid.mesh])
            rotation = rotation @ self._mesh_turns[solid.mesh] * solid.size[0]
        mujoco.mjv_initGeom(geom, solid.geom, np.array(solid.size, np.float64), position,
                            rotation.ravel(), np.array([*solid.rgb, 1.], np.float32))
        geom.category = mujoco.mjtCatBit.mjCAT_DYNAMIC
        geom.specular, geom.shininess, geom.emission = solid.shine, .5, solid.glow
        if solid.texture >= 0:
            geom.matid = len(_REPEATS) * solid.texture + solid.repeats
        if solid.mesh >= 0:
            geom.dataid = 2 * solid.mesh
            geom.texcoord = self.assets.meshes[solid.mesh].coordinates is not None
        scene.ngeom += 1


def _compile(assets: Assets, width: int, height: int, shadow_pixels: int,
             ) -> tuple[mujoco.MjModel, int]:
    """Return a model of textures, meshes, lamps and a camera, and its number of textures."""
    spec = mujoco.MjSpec()
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples = shadow_pixels, 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.stat.extent, spec.visual.map.znear, spec.visual.map.zfar = 1., NEAR_M, FAR_M
    spec.worldbody.add_camera(name='camera')
    for _ in range(_LIGHTS):
        spec.worldbody.add_light(type=mujoco.mjtLightType.mjLIGHT_SPOT, cutoff=60,
                                 castshadow=False)
    rng = np.random.default_rng(0)
    images = [*assets.textures, *(noise_texture(rng, i % 2 == 0) if i % 4 else pattern_texture(rng)
                                  for i in range(_DRAWN_TEXTURES))]
    for i, image in enumerate(images):
        texture = spec.add_texture()
        texture.name, texture.type = f'{i}', mujoco.mjtTexture.mjTEXTURE_2D
        texture.height, texture.width, texture.nchannel = image.shape
        texture.data = np.ascontiguousarray(image[::-1]).tobytes()
        for repeat in _REPEATS:
            material = spec.add_material()
            material.name = f'{i} {repeat}'
            material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f'{i}'
            material.texrepeat = [repeat, repeat]
    for i, mesh in enumerate(assets.meshes):
        made = spec.add_mesh(name=f'{i}')
        made.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        made.uservert, made.userface = mesh.vertices.ravel(), mesh.faces.ravel()
        if mesh.coordinates is not None:
            points, indices = mesh.coordinates
            made.usertexcoord, made.userfacetexcoord = points.ravel(), indices.ravel()
    return spec.compile(), len(images)


def pattern_texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw checks, stripes or patches of a few colours, as on cloths, boxes and labels."""
    colours = rng.integers(20, 256, (3, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:128, :128] // int(rng.choice([8, 16, 32]))
    kind = rng.integers(3)
    if kind == 0:
        chosen = (rows + columns) % 2
    elif kind == 1:
        chosen = columns % 3
    else:
        chosen = rng.integers(0, 3, (rows.max() + 1, columns.max() + 1))[rows, columns]
    return np.asarray(colours[chosen], np.uint8)
