"""Objects to grasp: primitives and simple household items, of sizes that the hand can span."""

from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray


def noise_texture(rng: np.random.Generator, varied: bool) -> NDArray[np.uint8]:
    """
    Draw a texture of smooth noise between two colours, often stretched to look like wood grain.

    :param varied: draw any hue; if False, only wood colours and greys.
    :returns: RGB uint8 (128, 128, 3).
    """
    stretch = int(rng.choice([1, 1, 6]))
    field = np.zeros((128, 128), np.float32)
    for octave, cells in enumerate((4, 8, 16, 32, 64)):
        grid = rng.random((max(1, cells // stretch) + 1, cells + 1), dtype=np.float32)
        field += .6 ** octave * cv2.resize(grid, field.shape, interpolation=cv2.INTER_LINEAR)
    field = (field - field.min()) / np.ptp(field)
    tint = rng.normal(0, .12, 3) if varied else rng.uniform(0, .12) * np.array([1., 0., -1.])
    light = np.clip(rng.uniform(.3, .85) + tint, 0, 1)
    dark = np.clip(light * rng.uniform(.55, 1.1), 0, 1)
    mixed = field[..., None] * light + (1 - field[..., None]) * dark  # (128, 128, 3)
    return np.asarray(mixed * 255, np.uint8)


def add_material(spec: mujoco.MjSpec, name: str, rng: np.random.Generator, repeat: float,
                 varied: bool) -> None:
    """Add a material whose random texture (see :func:`noise_texture`) repeats ``repeat`` times."""
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
    if varied and name == 'object':  # many household objects have strong colours
        material.rgba = [*rng.uniform(.3, 1., 3), 1.]


BOX, SPHERE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE
CAPSULE, CYLINDER = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER
_Triple = tuple[float, float, float]

#: Kinds of objects that the fingers can enclose, by direction of approach.
KINDS = {
    'side': ('box', 'cylinder', 'capsule', 'can', 'mug', 'spray_bottle', 'toy'),
    'top': ('box', 'cylinder', 'capsule', 'sphere', 'mug', 'toy'),
}


@dataclass(frozen=True)
class Part:
    """A geom of an object: type, half sizes (m), position (m), quaternion (w, x, y, z), RGB."""

    geom: mujoco.mjtGeom
    size: _Triple
    pos: _Triple = (0., 0., 0.)
    quat: tuple[float, ...] = (1., 0., 0., 0.)
    rgb: _Triple | None = None


def _cylinder(radius: float, half_length: float, z: float = 0.,
              rgb: _Triple | None = None) -> Part:
    return Part(CYLINDER, (radius, half_length, 0), (0, 0, z), rgb=rgb)


@dataclass(frozen=True)
class ObjectShape:
    """
    The shape of an object that stands upright, with its origin at half its height.

    :ivar radius: half the width towards the palm at the height of the grasp (m).
    :ivar half_height: height of the origin above the table (m).
    :ivar yaw: range of rotation about the vertical (radians) in which the hand can grasp it.
    """

    kind: str
    parts: tuple[Part, ...]
    radius: float
    half_height: float
    yaw: tuple[float, float] = (-np.pi, np.pi)


def draw_shape(rng: np.random.Generator, approach: str) -> ObjectShape:
    """Draw a tall object for the approach ``'side'``, or a flat one for ``'top'``."""
    kind = str(rng.choice(KINDS[approach]))
    tall = approach == 'side'
    r = rng.uniform(.020, .038) if tall else rng.uniform(.022, .040)
    h = rng.uniform(.055, .080) if tall else rng.uniform(.024, .048)
    accent: _Triple = tuple(rng.uniform(.1, .95, 3))
    if kind == 'sphere':
        return ObjectShape(kind, (Part(SPHERE, (r, 0, 0)),), r, r)
    if kind == 'box':
        width = float(np.clip(r * rng.uniform(.6, 1.2), .015, .038))
        return ObjectShape(kind, (Part(BOX, (r, width, h)),), r, h, (-.6, .6))
    if kind == 'cylinder':
        return ObjectShape(kind, (_cylinder(r, h),), r, h)
    if kind == 'capsule' and tall:  # a capsule on its end tips over; a flat foot lets it stand
        straight = max(h - r, .012)
        foot = _cylinder(r * .75, .004, -straight - r + .004)
        return ObjectShape(kind, (Part(CAPSULE, (r, straight, 0)), foot), r, straight + r)
    if kind == 'capsule':
        lying = Part(CAPSULE, (r, max(h - r, .015), 0), quat=(np.sqrt(.5), np.sqrt(.5), 0., 0.))
        return ObjectShape(kind, (lying,), r, r, (-.5, .5))
    if kind == 'can':
        r, h = rng.uniform(.026, .034), rng.uniform(.050, .062)
        rims = (_cylinder(r * .93, .003, sign * h, (.75, .75, .77)) for sign in (-1, 1))
        label = _cylinder(r + .0004, h * rng.uniform(.3, .8), rgb=accent)
        return ObjectShape(kind, (_cylinder(r, h), label, *rims), r, h + .003)
    if kind == 'mug':
        r, h = rng.uniform(.030, .038), rng.uniform(.040, .050)
        x = r + .018
        handle = (Part(BOX, (.004, .006, h * .5), (x, 0, 0)),
                  *(Part(BOX, (.011, .006, .004), (x - .008, 0, z)) for z in (h * .5, -h * .5)))
        inside = _cylinder(r * .85, .001, h, (.12, .1, .09))
        # The handle points away from a side grasp's palm (+x) or anywhere from a top one.
        return ObjectShape(kind, (_cylinder(r, h), inside, *handle), r, h + .001,
                           (-.5, .9) if tall else (-np.pi, np.pi))
    if kind == 'spray_bottle':
        r, h = rng.uniform(.026, .033), rng.uniform(.052, .065)
        head = h + .030
        return ObjectShape(kind, (
            _cylinder(r, h), _cylinder(r * .4, .014, h + .012, accent),
            Part(BOX, (.026, .010, .009), (.010, 0, head), rgb=accent),
            Part(BOX, (.003, .006, .016), (.024, 0, head - .020), rgb=accent)), r, h, (-.6, .6))
    rings = 5 if tall else 3    # a toy: a tower of rings, each of its own colour
    r, half, taper = rng.uniform(.028, .036), rng.uniform(.011, .014), rng.uniform(.55, .85)
    parts = tuple(_cylinder(r * (1 + (taper - 1) * i / (rings - 1)), half,
                            (2 * i + 1 - rings) * half, tuple(rng.uniform(.1, .95, 3)))
                  for i in range(rings))
    return ObjectShape(kind, parts, r * (1 + taper) / 2, rings * half)


def add_parts(body: mujoco.MjsBody, shape: ObjectShape, mass: float, friction: float,
              name: str) -> None:
    """
    Add an object's geoms to a body, with ``mass`` (kg) divided among them by volume.

    :param friction: coefficient of sliding friction.
    :param name: material of parts without a colour, and prefix of the names of the geoms.
    """
    total = sum(volume(part) for part in shape.parts)
    for i, part in enumerate(shape.parts):
        geom = body.add_geom(
            name=f'{name}_{i}', type=part.geom, size=part.size, pos=part.pos, quat=part.quat,
            friction=[friction, .005, .0002], condim=4, group=2,
            mass=mass * volume(part) / total)
        if part.rgb is None:
            geom.material = name
        else:
            geom.rgba = [*part.rgb, 1.]


def volume(part: Part) -> float:
    """Return the volume of a part (m3)."""
    a, b, c = part.size
    if part.geom == BOX:
        return 8 * a * b * c
    cylinder = 2 * np.pi * a * a * b
    return cylinder if part.geom == CYLINDER else 4 / 3 * np.pi * a ** 3 + cylinder
