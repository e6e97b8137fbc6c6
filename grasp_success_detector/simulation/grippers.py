"""Grippers of primitives that are no Allegro hand: fingers, suction cups, tools."""

import mujoco
import numpy as np

from grasp_success_detector.simulation.objects import BOX, CYLINDER, Part

Rgb = tuple[float, float, float]

#: Height of the flange, where a gripper begins, in the palm's frame (m).
_FLANGE_M = -.09


def draw_gripper(rng: np.random.Generator) -> tuple[Part, ...]:
    """
    Draw a gripper in the palm's frame, where the hand's fingers would point along z.

    Two to four fingers, straight or bent once, one to four suction cups, or a tool; each part has
    a colour.
    """
    colour = _grey(rng) if rng.random() < .6 else tuple(rng.uniform(.05, .9, 3))
    darker = rng.uniform(.3, 1.)
    half = rng.uniform((.02, .02, .015), (.04, .06, .05))
    round_base = rng.random() < .4
    base = Part(CYLINDER if round_base else BOX,
                (half[0], half[2], 0.) if round_base else tuple(half),
                (0., 0., _FLANGE_M + half[2]), rgb=colour)
    front = _FLANGE_M + 2 * half[2]
    draw = (_fingers, _cups, _tool)[rng.choice(3, p=[.65, .25, .1])]
    red, green, blue = colour
    return base, *draw(rng, front, (darker * red, darker * green, darker * blue))


def _fingers(rng: np.random.Generator, front: float, rgb: Rgb) -> list[Part]:
    count, opened = int(rng.integers(2, 5)), rng.uniform(.01, .06)
    thick, length = rng.uniform(.005, .014), rng.uniform(.04, .13)
    bent = rng.random() < .5
    pads = rgb if rng.random() < .5 else _grey(rng)
    round_fingers, lean = rng.random() < .3, rng.uniform(-.5, .2)
    parts = []
    for i in range(count):
        angle = 2 * np.pi * i / count + np.pi / 2
        aside = np.array([np.cos(angle), np.sin(angle), 0.])
        start, way = aside * (opened + thick) + [0, 0, front], np.array([0, 0, 1.])
        for part, share in enumerate((.5, .5) if bent else (1.,)):
            if part:
                way = way + lean * aside
                way = way / np.linalg.norm(way)
            middle = start + way * length * share / 2
            quat = _turn(angle, np.arctan2(way @ aside, way[2]))
            size = ((thick, length * share / 2, 0.) if round_fingers
                    else (thick, thick, length * share / 2))
            parts.append(Part(CYLINDER if round_fingers else BOX, size, tuple(middle), quat,
                              pads if part else rgb))
            start = start + way * length * share
    return parts


def _cups(rng: np.random.Generator, front: float, rgb: Rgb) -> list[Part]:
    count, radius = int(rng.integers(1, 5)), rng.uniform(.01, .035)
    length, cup = rng.uniform(.03, .1), _grey(rng)
    spread = 0. if count == 1 else radius * rng.uniform(1.5, 2.5)
    parts = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        x, y = spread * np.cos(angle), spread * np.sin(angle)
        parts += [Part(CYLINDER, (.3 * radius, length / 2, 0.), (x, y, front + length / 2),
                       rgb=rgb),
                  Part(CYLINDER, (radius, .01, 0.), (x, y, front + length), rgb=cup)]
    return parts


def _tool(rng: np.random.Generator, front: float, rgb: Rgb) -> list[Part]:
    parts = []
    for radius in sorted(rng.uniform(.004, .025, int(rng.integers(1, 4))), reverse=True):
        length = rng.uniform(.02, .08)
        parts.append(Part(CYLINDER, (radius, length / 2, 0.), (0., 0., front + length / 2),
                          rgb=rgb))
        front += length
    return parts


def _grey(rng: np.random.Generator) -> Rgb:
    light = rng.uniform(.05, .9)
    return light, light, light


def _turn(yaw: float, tilt: float) -> tuple[float, ...]:
    """Return the quaternion that tilts about y, away from z, and then turns about z (radians)."""
    quat = np.zeros(4)
    mujoco.mju_mulQuat(quat, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]),
                       np.array([np.cos(tilt / 2), 0, np.sin(tilt / 2), 0]))
    return tuple(quat)
