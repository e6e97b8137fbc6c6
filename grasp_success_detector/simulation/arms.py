"""Arms, and the grippers at their ends that are no Allegro hand."""

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.assets import ArmPose
from grasp_success_detector.simulation.grippers import draw_gripper
from grasp_success_detector.simulation.looks import about_z, HANDS, part_solids, rod, Stage
from grasp_success_detector.simulation.objects import CYLINDER, SPHERE
from grasp_success_detector.simulation.studio import Rgb, Solid, Studio

Floats = NDArray[np.float64]

#: Colours of arms.
_ARMS: tuple[Rgb, ...] = (
    (.88, .88, .87), (.7, .7, .72), (.45, .45, .47), (.1, .1, .11), (.95, .42, .08), (.3, .33, .4))

#: Where an arm ends, in the palm's frame (m).
WRIST = np.array([-.005, 0, -.095])


def add_arm(rng: np.random.Generator, stage: Stage, studio: Studio, turn: Floats,
            table: float) -> None:
    """Add an arm, of the assets or of primitives, that ends at the wrist of the hand."""
    wrist = turn @ WRIST
    colour = np.array(_ARMS[rng.integers(len(_ARMS))])
    names = sorted(studio.assets.arms)
    if names and rng.random() < .75:
        poses = studio.assets.arms[str(rng.choice(names))]
        yaws = rng.uniform(0, 2 * np.pi, 4)
        placed: list[tuple[float, ArmPose, Floats]] = []
        for pose in poses:
            for yaw in yaws:
                to_world = turn @ about_z(yaw)
                ends = np.array([part.position for part in pose.solids]) @ to_world.T + wrist
                below = float((ends[:, 2] < table + .05).mean())
                fit = (to_world @ pose.up)[2] - below + rng.uniform(0, .3)
                placed.append((fit, pose, to_world))
        _, pose, to_world = max(placed, key=lambda item: item[0])
        gap = turn @ np.array([0, 0, -rng.uniform(0, .03)])
        _add_positioned(rng, stage, studio, pose, wrist + gap, to_world, colour)
        return
    way, point, radius = -turn[:, 2], wrist, float(rng.uniform(.03, .05))
    dark: Rgb = (.12, .12, .13) if rng.random() < .6 else tuple(colour * .6)
    for length in (rng.uniform(.01, .05), rng.uniform(.08, .2), rng.uniform(.2, .4), .4):
        end = point + way * length
        stage.solids.append(rod(point, end, radius, tuple(colour), .3, CYLINDER))
        stage.solids.append(Solid(SPHERE, (radius * 1.05,) * 3, end, np.eye(3),
                                  dark if rng.random() < .4 else tuple(colour)))
        ring = rod(end - way * .006, end + way * .006, radius * 1.06, dark, .3, CYLINDER)
        stage.solids.append(ring)
        way = way + rng.normal(0, .6, 3) + [0, 0, .25 if point[2] < table + .2 else 0.]
        way, point, radius = way / np.linalg.norm(way), end, radius * float(rng.uniform(1., 1.2))


def add_gripper(rng: np.random.Generator, stage: Stage, studio: Studio) -> None:
    """Add a gripper in the hand's place: of the assets, or of primitives."""
    grippers = studio.assets.grippers
    if grippers and rng.random() < .75:
        poses = grippers[str(rng.choice(sorted(grippers)))]
        _add_positioned(rng, stage, studio, poses[rng.integers(len(poses))],
                        stage.turn @ WRIST, stage.turn @ about_z(rng.uniform(0, 2 * np.pi)),
                        np.array(HANDS[rng.integers(len(HANDS))][1]))
        return
    stage.solids += part_solids(draw_gripper(rng), np.zeros(3), stage.turn)


def _add_positioned(rng: np.random.Generator, stage: Stage, studio: Studio, pose: ArmPose,
                    place: Floats, to_world: Floats, colour: Floats) -> None:
    """Add an arm or a gripper, in its own colours, or in half of the pictures in this one."""
    recoloured = rng.random() < .5
    for part in pose.solids:
        shade = colour if recoloured and np.mean(part.rgb) > .25 else np.array(part.rgb)
        stage.solids.append(studio.mesh_solid(part, place, to_world, rgb=tuple(shade), shine=.3))
