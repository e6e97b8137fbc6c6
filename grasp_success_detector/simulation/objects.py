"""Objects to grasp: primitives and household-like compounds, with sizes that the hand spans."""


from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

_SIZE = 128


def noise_texture(rng: np.random.Generator, varied: bool) -> NDArray[np.uint8]:
    """
    Draw octaves of smooth noise between two colours; stretched noise looks like wood grain.

    :param varied: any hue; else wood and greys.
    :returns: RGB uint8 (128, 128, 3).
    """
    stretch = int(rng.choice([1, 1, 6]))
    field = np.zeros((_SIZE, _SIZE), np.float32)
    for octave, cells in enumerate((4, 8, 16, 32, 64)):
        grid = rng.random((max(1, cells // stretch) + 1, cells + 1), dtype=np.float32)
        field += .6 ** octave * cv2.resize(grid, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)
    field = (field - field.min()) / np.ptp(field)
    tint = rng.normal(0, .12, 3) if varied else rng.uniform(0, .12) * np.array([1., 0., -1.])
    light = np.clip(rng.uniform(.3, .85) + tint, 0, 1)
    dark = np.clip(light * rng.uniform(.55, 1.1), 0, 1)
    mixed = field[..., None] * light + (1 - field[..., None]) * dark  # (128, 128, 3)
    return np.asarray(mixed * 255, np.uint8)


def add_material(spec: mujoco.MjSpec, name: str, rng: np.random.Generator, repeat: float,
                 varied: bool) -> None:
    """Add a material with a texture of its own; ``repeat`` tiles per metre or face."""
    image = noise_texture(rng, varied)
    texture = spec.add_texture()
    texture.name, texture.type = name, mujoco.mjtTexture.mjTEXTURE_2D
    texture.height, texture.width, texture.nchannel = image.shape
    texture.data = image.tobytes()
    material = spec.add_material()
    material.name = name
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    material.texrepeat = [repeat, repeat]
    material.specular, material.shininess = rng.uniform(0, .5), rng.uniform(0, .8)
    if varied and name == 'object':  # plain, strongly coloured things are common on tables
        material.rgba = [*rng.uniform(.3, 1., 3), 1.]


Box, Sphere = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE
Capsule, Cylinder = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
Rgb = tuple[float, float, float]

#: What each approach direction can get its fingers round.
KINDS = {
    'side': ('box', 'cylinder', 'capsule', 'can', 'mug', 'spray_bottle', 'toy'),
    'top': ('box', 'cylinder', 'capsule', 'sphere', 'mug', 'toy'),
}


@dataclass(frozen=True)
class Part:
    """One geom of an object: kind, half sizes, place and turn in the object, colour."""

    geom: mujoco.mjtGeom
    size: tuple[float, ...]
    pos: tuple[float, float, float] = (0., 0., 0.)
    quat: tuple[float, float, float, float] = (1., 0., 0., 0.)
    rgb: Rgb | None = None


@dataclass(frozen=True)
class ObjectShape:
    """
    An object standing upright with its origin in the middle of its height.

    :ivar radius: half width at grasp height, towards the palm (metres).
    :ivar half_height: origin to table (metres).
    :ivar yaw: range of its turn about the vertical (radians) that the hand can cope with.
    """

    kind: str
    parts: tuple[Part, ...]
    radius: float
    half_height: float
    yaw: tuple[float, float] = (-np.pi, np.pi)


#: A quarter turn about x: lays a geom's z axis along y.
LYING = (np.sqrt(0.5), np.sqrt(0.5), 0., 0.)


def draw_shape(rng: np.random.Generator, approach: str, kind: str | None = None) -> ObjectShape:
    """
    Draw an object of random size for an approach direction.

    :param approach: ``'side'`` (taller objects) or ``'top'`` (flatter ones).
    :param kind: one of ``KINDS[approach]``; drawn if not given.
    """
    kind = kind or str(rng.choice(KINDS[approach]))
    tall = approach == 'side'
    r = rng.uniform(.020, .038) if tall else rng.uniform(.022, .040)
    h = rng.uniform(.055, .080) if tall else rng.uniform(.024, .048)
    accent: Rgb = tuple(rng.uniform(.1, .95, 3))
    if kind == 'sphere':
        return ObjectShape(kind, (Part(Sphere, (r, 0, 0)),), r, r)
    if kind == 'box':
        width = float(np.clip(r * rng.uniform(.6, 1.2), .015, .038))
        return ObjectShape(kind, (Part(Box, (r, width, h)),), r, h, (-.6, .6))
    if kind == 'cylinder':
        return ObjectShape(kind, (Part(Cylinder, (r, h, 0)),), r, h)
    if kind == 'capsule':
        if tall:  # a capsule on its end tips over; flat feet let it stand
            straight = max(h - r, .012)
            foot = Part(Cylinder, (r * .75, .004, 0), (0, 0, -straight - r + .004))
            return ObjectShape(kind, (Part(Capsule, (r, straight, 0)), foot), r, straight + r)
        return ObjectShape(
            kind, (Part(Capsule, (r, max(h - r, .015), 0), quat=LYING),), r, r, (-.5, .5))
    if kind == 'can':
        r, h = rng.uniform(.026, .034), rng.uniform(.050, .062)
        rims = tuple(Part(Cylinder, (r * .93, .003, 0), (0, 0, s * h), rgb=(.75, .75, .77))
                     for s in (-1, 1))
        label = Part(Cylinder, (r + .0004, h * rng.uniform(.3, .8), 0), rgb=accent)
        return ObjectShape(kind, (Part(Cylinder, (r, h, 0)), label, *rims), r, h + .003)
    if kind == 'mug':
        r, h = rng.uniform(.030, .038), rng.uniform(.040, .050)
        x = r + .018
        handle = (Part(Box, (.004, .006, h * .5), (x, 0, 0)),
                  Part(Box, (.011, .006, .004), (x - .008, 0, h * .5)),
                  Part(Box, (.011, .006, .004), (x - .008, 0, -h * .5)))
        inside = Part(Cylinder, (r * .85, .001, 0), (0, 0, h), rgb=(.12, .1, .09))
        # The handle points away from a side grasp's palm (+x) or anywhere from a top one.
        return ObjectShape(kind, (Part(Cylinder, (r, h, 0)), inside, *handle), r, h + .001,
                           (-.5, .9) if tall else (-np.pi, np.pi))
    if kind == 'spray_bottle':
        r, h = rng.uniform(.026, .033), rng.uniform(.052, .065)
        neck, head = h + .012, h + .030
        return ObjectShape(kind, (
            Part(Cylinder, (r, h, 0)),
            Part(Cylinder, (r * .4, .014, 0), (0, 0, neck), rgb=accent),
            Part(Box, (.026, .010, .009), (.010, 0, head), rgb=accent),
            Part(Box, (.003, .006, .016), (.024, 0, head - .020), rgb=accent)), r, h, (-.6, .6))
    if kind == 'toy':  # a tower of rings, each of its own colour
        rings = 5 if tall else 3
        r = rng.uniform(.028, .036)
        half = rng.uniform(.011, .014)
        tops = rng.uniform(.55, .85)
        parts = []
        for i in range(rings):
            z = (2 * i + 1 - rings) * half
            ring = r * (1 + (tops - 1) * i / (rings - 1))
            parts.append(Part(Cylinder, (ring, half, 0), (0, 0, z),
                              rgb=tuple(rng.uniform(.1, .95, 3))))
        return ObjectShape(kind, tuple(parts), r * (1 + tops) / 2, rings * half)
    raise ValueError(f'unknown kind {kind}')


def add_parts(body: mujoco.MjsBody, shape: ObjectShape, mass: float, friction: float,
              material: str, name: str) -> None:
    """
    Add an object's geoms to a body; mass (kg) is shared out by volume.

    Parts without a colour of their own show ``material``.
    """
    geoms = []
    for i, part in enumerate(shape.parts):
        geom = body.add_geom(
            name=f'{name}_{i}', type=part.geom, size=_three(part.size), pos=part.pos,
            quat=part.quat, friction=[friction, .005, .0002], condim=4, group=2)
        if part.rgb is None:
            geom.material = material
        else:
            geom.rgba = [*part.rgb, 1.]
        geoms.append(geom)
    volumes = [_volume(part) for part in shape.parts]
    for geom, volume in zip(geoms, volumes, strict=True):
        geom.mass = mass * volume / sum(volumes)


def _three(size: tuple[float, ...]) -> list[float]:
    return [*size, 0., 0.][:3]


def _volume(part: Part) -> float:
    a, b, c = _three(part.size)
    if part.geom == Box:
        return 8 * a * b * c
    if part.geom == Cylinder:
        return 2 * np.pi * a * a * b
    sphere = 4 / 3 * np.pi * a ** 3
    return sphere if part.geom == Sphere else sphere + 2 * np.pi * a * a * b
