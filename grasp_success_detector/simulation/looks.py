"""What a picture shows beside the grasp: the look of hand and arm, table, things, light."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.hand_model import HandModel
from grasp_success_detector.simulation.objects import BOX, CAPSULE, Part, SPHERE
from grasp_success_detector.simulation.studio import Light, Rgb, Solid, Studio, View
from grasp_success_detector.simulation.things import draw_thing, scaled, Thing

Floats = NDArray[np.float64]

#: Colours of hands, with how often each is drawn.
HANDS: tuple[tuple[float, Rgb], ...] = (
    (.7, (.09, .09, .095)), (.12, (.2, .2, .21)), (.06, (.5, .5, .52)), (.12, (.85, .85, .83)))
_TIPS: tuple[Rgb, ...] = ((.9, .9, .88), (.06, .06, .06), (.6, .6, .6), (.8, .75, .6))
_BOARDS: tuple[Rgb, ...] = (
    (.1, .4, .15), (.1, .2, .45), (.05, .05, .06), (.12, .5, .2))
_CABLES: tuple[Rgb, ...] = (
    (.03, .03, .03), (.03, .03, .03), (.6, .6, .6), (.7, .1, .08), (.85, .75, .1), (.1, .2, .6))
#: Clearance between a hand and things that it does not hold (m).
_CLEARANCE_M = .03


@dataclass
class Stage:
    """
    Solids of a picture, in the world's frame, and which of them are hand and held object.

    :ivar turn: rotation (3, 3) of the palm, whose place is the origin.
    """

    turn: Floats
    solids: list[Solid] = field(default_factory=list)
    hand: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)


def draw_colour(rng: np.random.Generator) -> Rgb:
    """Draw a colour: strong, pale or dark."""
    hue = rng.uniform(0, 1, 3)
    light = rng.choice([.25, .6, 1.], p=[.2, .4, .4])
    return tuple(np.clip(hue * light + rng.choice([0., .3]) * rng.random(), .02, 1.))


class HandLook:
    """The look of a hand: meshes or primitives, its colours, skins, boards and cables."""

    def __init__(self, rng: np.random.Generator, studio: Studio, plain: bool) -> None:
        """Draw a look; ``plain``: the hand as it is sold, without anything added to it."""
        self._rng, self._studio = rng, studio
        shares = np.array([share for share, _ in HANDS])
        base = HANDS[0 if plain else rng.choice(len(HANDS), p=shares)][1]
        self.link: Rgb = tuple(np.clip(np.array(base) * rng.uniform(.6, 1.5), 0, 1))
        self.shell: Rgb = tuple(np.clip(np.array(self.link) * rng.uniform(.7, 1.6), 0, 1))
        self.tip = _TIPS[rng.choice(4, p=[.55, .25, .1, .1])]
        self._tip_size = float(rng.choice([1., 1.15, 1.35], p=[.5, .3, .2]))
        self._meshes = bool(studio.assets.hand) and rng.random() < .7
        self._shine = float(rng.uniform(0, .6))
        extras = 0. if plain else 1.
        self._skins = rng.random() < .3 * extras
        self._wrapped = rng.random() < .4       # skins all around a link, such as sleeves
        self._skin: Rgb = _TIPS[rng.integers(3)] if rng.random() < .6 else draw_colour(rng)
        self._boards = int(rng.integers(1, 5)) if rng.random() < .4 * extras else 0
        self._cables = int(rng.integers(1, 7)) if rng.random() < .5 * extras else 0
        self._lamps = int(rng.integers(1, 8)) if rng.random() < .12 * extras else 0
        self._lamp: Rgb = ((.1, .3, 1.), (.1, 1., .2), (1., .1, .05))[rng.integers(3)]

    def add(self, stage: Stage, hand: HandModel, turn: Floats) -> None:
        """Add the hand, posed, with the palm at the origin and rotated by ``turn``."""
        first = len(stage.solids)
        for body, position, rotation in hand.bodies(turn):
            meshes = self._studio.assets.hand.get(body, []) if self._meshes else []
            for part in meshes:
                colour = self.tip if body.endswith('tip') else self.link
                stage.solids.append(self._studio.mesh_solid(
                    part, position, rotation, rgb=colour, shine=self._shine))
        for geom in hand.geoms(turn):
            if not (self._meshes and geom.part != 'tip') and not (
                    self._meshes and self._tip_size == 1.):
                tip = geom.part == 'tip'
                factor = self._tip_size if tip else 1.
                stage.solids.append(Solid(
                    geom.kind, tuple(factor * a for a in geom.size), geom.position, geom.rotation,
                    {'tip': self.tip, 'shell': self.shell}.get(geom.part, self.link),
                    shine=self._shine))
            if self._skins and geom.part == 'link' and 'palm' not in geom.body:
                a, b, c = geom.size
                aside = 0. if self._wrapped else a + .001
                stage.solids.append(Solid(
                    BOX, (a + .0015, b + .0015, c * .7) if self._wrapped else
                    (.002, b * .8, c * .8), geom.position + geom.rotation[:, 0] * aside,
                    geom.rotation, self._skin))
        stage.hand.extend(range(first, len(stage.solids)))
        self._add_electronics(stage, turn)

    def _add_electronics(self, stage: Stage, turn: Floats) -> None:
        rng = self._rng
        for _ in range(self._boards):
            size = rng.uniform((.002, .008, .008), (.012, .035, .035))
            place = np.array([-.032 - size[0], rng.uniform(-.03, .03), rng.uniform(-.16, -.0)])
            stage.solids.append(Solid(BOX, tuple(size), turn @ place, turn,
                                      _BOARDS[rng.integers(len(_BOARDS))]))
        for _ in range(self._lamps):
            place = np.array([-.034, rng.uniform(-.05, .05), rng.uniform(-.08, .1)])
            stage.solids.append(Solid(SPHERE, (.003,) * 3, turn @ place, turn, self._lamp,
                                      glow=1.))
        for _ in range(self._cables):
            start = np.array([-.03, rng.uniform(-.05, .05), rng.uniform(-.09, .09)])
            end = rng.uniform((-.1, -.09, -.35), (.05, .09, -.15))
            middle = (start + end) / 2 + rng.normal(0, .05, 3) + [-.05, 0, 0]
            along = np.linspace(0, 1, 8)[:, None]
            points = ((1 - along) ** 2 * start + 2 * along * (1 - along) * middle
                      + along ** 2 * end) @ turn.T
            cable, radius = _CABLES[rng.integers(len(_CABLES))], rng.uniform(.001, .0035)
            for a, b in pairwise(points):
                stage.solids.append(rod(a, b, radius, cable))


def rod(start: Floats, end: Floats, radius: float, rgb: Rgb, shine: float = .2,
        kind: mujoco.mjtGeom = CAPSULE) -> Solid:
    """Return a capsule or cylinder from one point to another."""
    way = end - start
    quaternion, flat = np.zeros(4), np.zeros(9)
    mujoco.mju_quatZ2Vec(quaternion, way / max(float(np.linalg.norm(way)), 1e-9))
    mujoco.mju_quat2Mat(flat, quaternion)
    return Solid(kind, (radius, float(np.linalg.norm(way)) / 2, 0.), (start + end) / 2,
                 flat.reshape(3, 3), rgb, shine=shine)


def upright(rng: np.random.Generator, down: Floats) -> Floats:
    """Return a rotation (3, 3) of the palm, so that ``down`` of its frame points downwards."""
    across = np.cross(down, rng.normal(0, 1, 3))
    across /= np.linalg.norm(across)
    return about_z(rng.uniform(0, 2 * np.pi)) @ np.stack([across, np.cross(-down, across), -down])


def about_z(yaw: float) -> Floats:
    """Return the rotation (3, 3) by an angle (radians) about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.]])


def pick_thing(rng: np.random.Generator, studio: Studio) -> Thing:
    """Draw a thing: half of them from the assets, where there are any."""
    if studio.assets.things and rng.random() < .5:
        thing = studio.assets.things[rng.integers(len(studio.assets.things))]
        return scaled(thing, float(rng.uniform(.75, 1.15)))
    return draw_thing(rng)


def thing_solids(rng: np.random.Generator, studio: Studio, thing: Thing, position: Floats,
                 rotation: Floats, rgb: Rgb | None = None) -> list[Solid]:
    """Return the solids of a thing: its model, or its parts in random colours and textures."""
    shine = float(rng.uniform(0, .7))
    if thing.model:
        model, texture = studio.assets.models[thing.model]
        return [studio.mesh_solid(model, position, rotation, thing.scale, (1., 1., 1.), texture,
                                  shine)]
    colour = draw_colour(rng) if rgb is None else rgb
    texture = int(rng.integers(studio.textures)) if rng.random() < .4 and rgb is None else -1
    if texture >= 0 and rng.random() < .5:
        colour = (1., 1., 1.)
    return part_solids(thing.parts, position, rotation, colour, texture, shine)


def part_solids(parts: Sequence[Part], position: Floats, rotation: Floats,
                colour: Rgb = (1., 1., 1.), texture: int = -1, shine: float = .2) -> list[Solid]:
    """Return the solids of primitives; colour and texture are for parts without a colour."""
    solids = []
    for part in parts:
        flat = np.zeros(9)
        mujoco.mju_quat2Mat(flat, np.array(part.quat, np.float64))
        solids.append(Solid(
            part.geom, part.size, position + rotation @ np.array(part.pos),
            rotation @ flat.reshape(3, 3), colour if part.rgb is None else part.rgb,
            texture if part.rgb is None else -1, shine=shine))
    return solids


def add_things(rng: np.random.Generator, stage: Stage, studio: Studio, thing: Thing, held: bool,
               table: float, lowest: float) -> None:
    """Put things on the table, clear of the hand; the one that is not held is among them."""
    count = int(rng.integers(0, 6))
    things = [pick_thing(rng, studio) for _ in range(count)]
    if rng.random() < (.25 if held else .7):
        things.append(thing)
    for on_table in things:
        reach = float(np.linalg.norm(on_table.half_extents))
        tall = float(on_table.half_extents[2])
        beside = .16 + reach if table + 2 * tall + _CLEARANCE_M > lowest else 0.
        angle, away = rng.uniform(0, 2 * np.pi), beside + abs(rng.normal(0, .15))
        place = np.array([away * np.cos(angle), away * np.sin(angle), table + tall])
        stage.solids += thing_solids(rng, studio, on_table, place,
                                           about_z(rng.uniform(0, 2 * np.pi)))


def add_in_line(rng: np.random.Generator, stage: Stage, studio: Studio, hand: HandModel,
                thing: Thing, view: View) -> None:
    """Put the thing behind the hand as the camera sees it, or before it, clear of the hand."""
    reach = float(np.linalg.norm(thing.half_extents))
    to_camera = view.rotation[:, 2]
    points = hand.points(stage.turn)
    along = points @ to_camera
    away = rng.uniform(_CLEARANCE_M, .3) + reach
    at = (along.min() - away) if rng.random() < .75 else (along.max() + away)
    aside = view.rotation[:, :2] @ rng.normal(0, .05, 2)
    stage.solids += thing_solids(rng, studio, thing, points.mean(0) + aside
                                       + to_camera * (at - points.mean(0) @ to_camera),
                                       about_z(rng.uniform(0, 2 * np.pi)))


def add_surroundings(rng: np.random.Generator, stage: Stage, studio: Studio, table: float,
                     behind: bool) -> None:
    """
    Add a table with its top at height ``table``, what stands on it, and walls.

    :param behind: whether a photograph is put behind: there are no floor and no walls then.
    """
    turn = about_z(rng.uniform(0, np.pi))
    size = rng.uniform((.25, .25, .01), (.9, .7, .03))
    place = np.array([*rng.normal(0, .08, 2), table - size[2]])
    textured = rng.random() < .7
    white = rng.random() < .3
    colour: Rgb = ((rng.uniform(.75, 1.),) * 3 if white else
                   (1., 1., 1.) if textured and rng.random() < .6 else draw_colour(rng))
    stage.solids.append(Solid(
        BOX, tuple(size), place, turn, colour, int(rng.integers(studio.textures))
        if textured and not white else -1, bool(rng.random() < .5), shine=rng.uniform(0, .3)))
    if rng.random() < .3:       # a cloth or a mat
        mat = rng.uniform((.1, .1, .0008), (.3, .25, .0015))
        stage.solids.append(Solid(
            BOX, tuple(mat), np.array([*rng.normal(0, .08, 2), table + mat[2]]),
            about_z(rng.uniform(0, np.pi)), draw_colour(rng), int(rng.integers(studio.textures))
            if rng.random() < .6 else -1, True))
    if not behind:
        floor, wall = (int(rng.integers(studio.textures)) for _ in range(2))
        shade: Rgb = tuple(np.clip(rng.choice([.08, .5, .8, 1.]) + rng.normal(0, .04, 3), 0, 1))
        stage.solids.append(Solid(BOX, (5., 5., .01), np.array([0, 0, table - .75]), np.eye(3),
                                  tuple(rng.uniform(.2, 1.) * np.ones(3)), floor, True))
        distance = rng.uniform(.6, 2.5)
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            stage.solids.append(Solid(
                BOX, (.01 if x else 5., .01 if y else 5., 3.),
                turn @ np.array([x * distance, y * distance, 0]), turn, shade,
                wall if rng.random() < .6 else -1, bool(rng.random() < .5), shine=0.))
        for _ in range(rng.integers(0, 9)):     # clutter
            size = rng.uniform(.03, .35, 3)
            angle, away = rng.uniform(0, 2 * np.pi), distance * rng.uniform(.8, 1.)
            stage.solids.append(Solid(
                BOX, tuple(size), np.array([away * np.cos(angle), away * np.sin(angle),
                                            rng.uniform(-.7, .8)]),
                about_z(angle), draw_colour(rng), int(rng.integers(studio.textures))
                if rng.random() < .4 else -1))


def draw_light(rng: np.random.Generator, view: View) -> None:
    """Draw lamps, their colours and shadows into a view."""
    tint = np.clip(rng.normal(1, .06, 3), .7, 1.2)
    view.ambient = tint * rng.uniform(.35, .8)
    view.head = tint * (rng.uniform(.2, .6) if rng.random() < .8 else 0.)
    for _ in range(rng.integers(1, 4)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(.6, 2.)
        position = np.array([away * np.cos(angle), away * np.sin(angle), rng.uniform(.5, 2.5)])
        colour = np.clip(rng.uniform(.15, .6) * rng.normal(1, .1, 3), .02, 1.)
        view.lights.append(Light(position, rng.normal(0, .1, 3), colour))
    view.shadows = bool(rng.random() < .5)
