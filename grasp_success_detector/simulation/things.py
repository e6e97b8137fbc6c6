"""Things to hold or to put on the table: shapes of a home and a lab, and models of a folder."""

from dataclasses import dataclass, field, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.objects import (
    BOX,
    CAPSULE,
    CYLINDER,
    draw_shape,
    Part,
    SPHERE,
    volume,
)

_HALF = (float(np.sqrt(.5)), float(np.sqrt(.5)), 0., 0.)    # a quarter turn about x

#: Kinds of things made of primitives, beside those of :data:`objects.KINDS`.
KINDS = ('stick', 'tool', 'cup', 'bowl', 'plate', 'cube', 'ball', 'blob', 'bottle', 'ring',
         'carton', 'disc', 'sheet')


@dataclass(frozen=True)
class Thing:
    """
    A thing of convex parts around its middle.

    :ivar kind: what it is.
    :ivar parts: its parts, which collide, and are seen unless it has a model.
    :ivar model: name of the model that is seen instead, of :class:`assets.Assets`; '' for none.
    :ivar scale: factor on the size of this model.
    """

    kind: str
    parts: tuple[Part, ...]
    model: str = ''
    scale: float = 1.
    half_extents: NDArray[np.float64] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        reach = np.max([np.abs(part.pos) + _half_extents(part) for part in self.parts], axis=0)
        object.__setattr__(self, 'half_extents', reach)


def _half_extents(part: Part) -> NDArray[np.float64]:
    a, b, c = part.size
    local = {SPHERE: (a, a, a), CYLINDER: (a, a, b), CAPSULE: (a, a, a + b)}.get(
        part.geom, (a, b, c))
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.array(part.quat, float))
    return np.asarray(np.abs(matrix.reshape(3, 3)) @ np.array(local))


def add_collisions(body: mujoco.MjsBody, thing: Thing, mass: float, friction: float) -> None:
    """Add a thing's parts to a body; ``mass`` (kg) is divided among them by volume."""
    total = sum(volume(part) for part in thing.parts)
    for part in thing.parts:
        body.add_geom(type=part.geom, size=part.size, pos=part.pos, quat=part.quat, condim=4,
                      friction=[friction, .005, .0002], mass=mass * volume(part) / total)


def draw_thing(rng: np.random.Generator) -> Thing:
    """Draw a thing of primitives: some that fill the hand, thin, hollow, and larger ones."""
    if rng.random() < .35:
        shape = draw_shape(rng, str(rng.choice(['side', 'top'])))
        return Thing(shape.kind, shape.parts)
    kind = str(rng.choice(KINDS))
    thing = Thing(kind, tuple(_parts(rng, kind)))
    return scaled(thing, float(rng.uniform(.8, 1.25)))


def scaled(thing: Thing, factor: float) -> Thing:
    """Return the thing with all lengths multiplied by ``factor``."""
    parts = tuple(replace(part, size=_times(factor, part.size), pos=_times(factor, part.pos))
                  for part in thing.parts)
    return replace(thing, parts=parts, scale=thing.scale * factor)


def _times(factor: float, lengths: tuple[float, float, float]) -> tuple[float, float, float]:
    a, b, c = lengths
    return factor * a, factor * b, factor * c


def _parts(rng: np.random.Generator, kind: str) -> list[Part]:
    def colour() -> tuple[float, float, float]:
        return tuple(rng.uniform(.03, .95, 3))

    if kind == 'stick':
        r, h = rng.uniform(.005, .014), rng.uniform(.06, .13)
        return [Part(CYLINDER, (r, h, 0)) if rng.random() < .5 else Part(BOX, (r, r, h))]
    if kind == 'tool':      # hammer, brush, screwdriver, paddle
        r, h = rng.uniform(.008, .016), rng.uniform(.05, .09)
        head = rng.uniform((.012, .01, .008), (.05, .03, .03))
        return [Part(CYLINDER, (r, h, 0), rgb=colour()),
                Part(BOX, tuple(head), (rng.uniform(-.01, .02), 0, h + head[2]), rgb=colour())]
    if kind in ('cup', 'bowl'):
        r = rng.uniform(.03, .042) if kind == 'cup' else rng.uniform(.05, .08)
        h, n = (rng.uniform(.035, .055) if kind == 'cup' else rng.uniform(.02, .03)), 10
        wall = [Part(BOX, (.0025, r * np.tan(np.pi / n), h),
                     (r * np.cos(a), r * np.sin(a), 0), (np.cos(a / 2), 0, 0, np.sin(a / 2)))
                for a in np.arange(n) * 2 * np.pi / n]
        return [*wall, Part(CYLINDER, (r, .003, 0), (0, 0, -h))]
    if kind == 'plate':
        return [Part(BOX, tuple(rng.uniform((.03, .04, .004), (.08, .1, .012))))]
    if kind == 'disc':      # a frisbee, a lid, a big plate
        return [Part(CYLINDER, (rng.uniform(.05, .12), rng.uniform(.003, .012), 0))]
    if kind == 'sheet':     # a card, a banknote, a book
        return [Part(BOX, tuple(rng.uniform((.03, .05, .001), (.08, .11, .006))))]
    if kind == 'cube':
        return [Part(BOX, (a := rng.uniform(.018, .04), a, a))]
    if kind == 'ball':
        return [Part(SPHERE, (rng.uniform(.018, .05), 0, 0))]
    if kind == 'blob':      # toys, fruit, plush
        return [Part(SPHERE, (rng.uniform(.014, .032), 0, 0), tuple(rng.normal(0, .022, 3)),
                     rgb=colour() if rng.random() < .4 else None)
                for _ in range(rng.integers(2, 6))]
    if kind == 'bottle':
        r, h = rng.uniform(.022, .04), rng.uniform(.05, .09)
        return [Part(CYLINDER, (r, h, 0)),
                Part(CYLINDER, (r * .4, .02, 0), (0, 0, h + .02), rgb=colour())]
    if kind == 'ring':      # tape, a lid
        r, n, h = rng.uniform(.03, .05), 10, rng.uniform(.005, .02)
        return [Part(CAPSULE, (rng.uniform(.005, .009), r * np.tan(np.pi / n), 0),
                     (r * np.cos(a), r * np.sin(a), 0),
                     tuple(_turned(a))) for a in np.arange(n) * 2 * np.pi / n] if h < .01 else [
            Part(BOX, (.003, r * np.tan(np.pi / n), h), (r * np.cos(a), r * np.sin(a), 0),
                 (np.cos(a / 2), 0, 0, np.sin(a / 2))) for a in np.arange(n) * 2 * np.pi / n]
    return [Part(BOX, tuple(rng.uniform((.02, .03, .04), (.05, .07, .11))))]    # a carton


def _turned(angle: float) -> NDArray[np.float64]:
    turn = np.zeros(4)
    mujoco.mju_mulQuat(turn, np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)]),
                       np.array(_HALF))
    return turn
