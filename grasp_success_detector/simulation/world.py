"""
Pictures of the preset ``world``: one attempt to hold, seen with many looks.

The physics of an attempt depends on the seed and the attempt's number alone, and so do its labels;
each picture then has a hand, an arm, a table, things, a camera and light of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Label
from grasp_success_detector.simulation import arms, looks, photo
from grasp_success_detector.simulation.hand_model import HandModel
from grasp_success_detector.simulation.holds import (
    CLOSE_S,
    FALL_S,
    Pose,
    random_down,
    run_hold,
)
from grasp_success_detector.simulation.looks import Stage
from grasp_success_detector.simulation.rendering import Box, Episode, RenderedFrame
from grasp_success_detector.simulation.studio import Solid, Studio, View
from grasp_success_detector.simulation.things import Thing

Floats = NDArray[np.float64]

#: Poses are observed at this rate (frames/s).
POSE_HZ = 20.

#: Width of the hand in the picture, as a share of its width: drawn evenly on a logarithmic scale.
HAND_SHARE = (.08, .85)

#: Share of attempts that succeed; more than half, as their pictures show empty hands too: open,
#: closing, and gripping nothing.
SUCCESS_SHARE = .8

#: Share of pictures of a grip that show it empty: how the fingers are bent must not tell it.
_EMPTY_GRIP_SHARE = .3

#: Least share of the hand that must be seen, and of its box that a held object must fill.
_HAND_SEEN, _OBJECT_SEEN = .35, .04

#: Width of a hand (m).
_HAND_M = .2

#: Shares of pictures: with nothing but the hand, with something behind instead of walls, of
#: pictures without a table, of empty hands with the object in line behind or before the hand.
_PLAIN_SHARE, _BEHIND_SHARE, _NO_TABLE_SHARE, _IN_LINE_SHARE = .2, .6, .2, .3

#: Pictures of an attempt without a hand, and share of them with another gripper in its place.
_NO_HAND_PICTURES, _GRIPPER_SHARE = 2, .6

_TRIES = 12

#: Branches of an attempt's random numbers, which keep its physics apart from its pictures.
_CHOICE, _LOOK, _OUTCOME, _NO_HAND = 1_000_001, 1_000_002, 1_000_003, 1_000_004

#: Between the stamps of two looks of one frame (s).
_LOOK_S = .0001


@dataclass(frozen=True)
class Hold:
    """
    An attempt to hold a thing.

    :ivar thing: what is held, or not.
    :ivar poses: its labelled poses, in order of time.
    :ivar success: whether the hand holds it at the end.
    """

    thing: Thing
    poses: tuple[Pose, ...]
    success: bool


@dataclass(frozen=True)
class Shot:
    """
    A picture.

    :ivar image: RGB uint8 (H, W, 3).
    :ivar box: the hand's left, top, right and bottom, in pixels, inside the picture.
    """

    image: NDArray[np.uint8]
    box: Box


def make_hold(seed: int, number: int, studio: Studio) -> Hold:
    """
    Simulate the attempt with this number; unstable and undecided ones are replaced.

    Poses of the open and the closing hand count as failure, as do some grips that are shown empty;
    pictures of failures show the thing elsewhere, never between the fingers.
    """
    wanted = Label(bool(np.random.default_rng([seed, number, _OUTCOME]).random() < SUCCESS_SHARE))
    for retry in count():
        rng = np.random.default_rng([seed, number, retry])
        thing = looks.pick_thing(rng, studio)
        poses = run_hold(rng, thing, POSE_HZ)
        if poses is None or poses[-1].label is not wanted:
            continue
        early = [pose for pose in poses if CLOSE_S < pose.time_s < FALL_S]
        known = [replace(pose, label=Label.FAILURE) for pose in early]
        known += [replace(pose, label=Label.FAILURE)
                  if pose.label is Label.SUCCESS and rng.random() < _EMPTY_GRIP_SHARE else pose
                  for pose in poses if pose.label is not None]
        return Hold(thing, tuple(known), wanted is Label.SUCCESS)
    raise AssertionError    # never reached


def make_world_episode(seed: int, number: int, frames: int, looks_each: int, studio: Studio,
                       hand: HandModel) -> Episode:
    """
    Simulate one attempt and take its pictures; the same arguments give the same pixels.

    The last two pictures have neither hand nor box nor label: from them a hand finder learns what
    is none.

    :param frames: number of labelled poses that are chosen: two thirds of them after gravity
        began.
    :param looks_each: pictures of each; their times are 0.1 ms apart.
    """
    hold = make_hold(seed, number, studio)
    shown = []
    chosen = _choose(np.random.default_rng([seed, number, _CHOICE]), hold.poses, frames)
    for at in chosen:
        pose = hold.poses[at]
        for look in range(looks_each):
            shot = take_shot(np.random.default_rng([seed, number, _LOOK, at, look]), studio, hand,
                             hold, pose)
            if shot is None:    # such as a small object deep in the hand
                continue
            shown.append(RenderedFrame(pose.time_s + look * _LOOK_S, shot.image, pose.label,
                                       shot.box))
    last = hold.poses[chosen[-1]]
    for i in range(_NO_HAND_PICTURES):
        rng = np.random.default_rng([seed, number, _NO_HAND, i])
        shown.append(RenderedFrame(last.time_s + (looks_each + i) * _LOOK_S,
                                   take_shot_without_hand(rng, studio, hand, hold, last), None))
    return Episode(tuple(shown), (), hold.success, 'any', hold.thing.kind)


def _choose(rng: np.random.Generator, poses: Sequence[Pose], most: int) -> list[int]:
    """Return indices, in order of time: a third before gravity begins, two thirds after it."""
    parts = [[i for i, pose in enumerate(poses) if (pose.time_s >= FALL_S) is late]
             for late in (False, True)]
    numbers = [most // 3, most - most // 3]
    return [int(rng.choice(part)) for candidates, number in zip(parts, numbers, strict=True)
            if candidates and number
            for part in np.array_split(candidates, min(number, len(candidates)))]


def take_shot(rng: np.random.Generator, studio: Studio, hand: HandModel, hold: Hold, pose: Pose,
              ) -> Shot | None:
    """Draw looks until hand and held object are seen, and return the picture; None if none is."""
    for _ in range(_TRIES):
        stage, view, behind = _draw(rng, studio, hand, hold, pose)
        image, distances = studio.render(stage.solids, view)
        box = _box(view, hand.points(stage.turn), studio)
        if (_hand_seen(stage, view, distances) > _HAND_SEEN
                and _object_seen(stage, studio, view, distances, box) > _OBJECT_SEEN):
            if behind:
                image = photo.composite(image, distances, photo.background(rng, studio))
            return Shot(photo.expose(rng, image), box)
    return None


def take_shot_without_hand(rng: np.random.Generator, studio: Studio, hand: HandModel, hold: Hold,
                           pose: Pose) -> NDArray[np.uint8]:
    """Return a picture, RGB uint8 (H, W, 3), of an arm without this hand, often with a gripper."""
    stage, view, behind = _draw(rng, studio, hand, hold, replace(pose, label=Label.FAILURE))
    stage.solids = [solid for i, solid in enumerate(stage.solids) if i not in stage.hand]
    if rng.random() < _GRIPPER_SHARE:
        arms.add_gripper(rng, stage, studio)
    image, distances = studio.render(stage.solids, view)
    if behind:
        image = photo.composite(image, distances, photo.background(rng, studio))
    return photo.expose(rng, image)


def _box(view: View, points: Floats, studio: Studio) -> Box:
    corners, _ = view.project(points, studio.width, studio.height)
    limits = np.array([studio.width, studio.height])
    left, top = np.clip(corners.min(0), 0, limits - 2).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), (left + 1, top + 1), limits).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _draw(rng: np.random.Generator, studio: Studio, hand: HandModel, hold: Hold, pose: Pose,
          ) -> tuple[Stage, View, bool]:
    down = pose.down
    held = pose.label is Label.SUCCESS
    if not held and rng.random() < .5:      # an empty hand may be held in any direction
        down = random_down(rng)
    turn = looks.upright(rng, down)
    stage = Stage(turn=turn)
    hand.pose(pose.joints)
    looks.HandLook(rng, studio, plain=bool(rng.random() < .4)).add(stage, hand, turn)
    colour = (tuple(rng.uniform(.02, .12) * np.ones(3)) if rng.random() < .1 else None)
    lowest = float(hand.points(turn)[:, 2].min())
    if held:
        place = turn @ pose.position
        first = len(stage.solids)
        stage.solids += looks.thing_solids(rng, studio, hold.thing, place, turn @ pose.rotation,
                                           colour)
        stage.held.extend(range(first, len(stage.solids)))
        lowest = min(lowest, float(place[2] - np.linalg.norm(hold.thing.half_extents)))
    table = lowest - float(np.exp(rng.uniform(np.log(.005), np.log(.4))))
    view = _camera(rng, studio)
    if rng.random() > _PLAIN_SHARE:
        arms.add_arm(rng, stage, studio, turn, table)
    behind = bool(rng.random() < _BEHIND_SHARE)
    if rng.random() > _NO_TABLE_SHARE:
        looks.add_surroundings(rng, stage, studio, table, behind)
        looks.add_things(rng, stage, studio, hold.thing, held, table, lowest)
    else:
        behind = True
    if not held and rng.random() < _IN_LINE_SHARE:
        looks.add_in_line(rng, stage, studio, hand, hold.thing, view)
    looks.draw_light(rng, view)
    return stage, view, behind


def _camera(rng: np.random.Generator, studio: Studio) -> View:
    fovy = rng.uniform(20., 60.)
    share = float(np.exp(rng.uniform(*np.log(HAND_SHARE))))
    focal = studio.height / 2 / np.tan(np.radians(fovy) / 2)
    distance = focal * _HAND_M / (share * studio.width)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.triangular(-15, 15, 80))
    z = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation),
                  np.sin(elevation)])
    x = np.cross([0, 0, 1.], z)
    x /= np.linalg.norm(x)
    roll = rng.normal(0, .08)
    y = np.cross(z, x)
    rotation = np.stack([np.cos(roll) * x + np.sin(roll) * y,
                         np.cos(roll) * y - np.sin(roll) * x, z], 1)
    # The hand lies in the middle square of the picture, which is what a network sees.
    room = max(.5 - .5 * share * studio.width / studio.height, .08) * studio.height
    aside = rng.uniform(-room, room, 2) * distance / focal
    return View(z * distance + rotation[:, :2] @ aside, rotation, fovy, np.zeros(3), np.zeros(3))


def _hand_seen(stage: Stage, view: View, distances: Floats) -> float:
    """Return the share of the hand's solids whose middle, or a point near it, is seen."""
    solids = [stage.solids[i] for i in stage.hand]
    points = np.array([solid.position for solid in solids])
    radii = np.array([_radius(solid) for solid in solids])
    height, width = distances.shape
    pixels, depth = view.project(points, width, height)
    x, y = pixels.round().astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth > 0)
    front = distances[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return float((inside & (front > depth - radii - .005)).mean())


def _object_seen(stage: Stage, studio: Studio, view: View, distances: Floats, box: Box) -> float:
    """Return how many pixels of the held object are seen, as a share of the hand's box; else 1."""
    if not stage.held:
        return 1.
    others = [solid for i, solid in enumerate(stage.solids) if i not in stage.held]
    _, without = studio.render(others, view)
    left, top, right, bottom = box
    return float((distances < without - 1e-4).sum()) / ((right - left) * (bottom - top))


def _radius(solid: Solid) -> float:
    return .06 if solid.mesh >= 0 else float(max(solid.size))
