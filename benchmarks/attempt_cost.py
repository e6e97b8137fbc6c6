"""
Tell where the CPU time of a simulated attempt goes: physics, and what of a picture costs how much.

Parts of a picture are left out one at a time; what is saved overlaps. With a GPU, CPU time tells
nothing about pictures.

    python benchmarks/attempt_cost.py
"""

import argparse
from collections.abc import Callable
import os
import platform
import statistics
import time

import mujoco
import numpy as np
from OpenGL import GL

from grasp_success_detector.simulation.attempt import Motion, run_attempt
from grasp_success_detector.simulation.presets import Preset, RANGES
from grasp_success_detector.simulation.rendering import SimulatedCamera
from grasp_success_detector.simulation.scene import build_scene

WITHOUT: dict[str, dict[str, int]] = {
    'as it is': {}, 'without shadows': {}, 'a quarter of the shadow map': {'shadowsize': 512},
    'without multi-sampling': {'offsamples': 0},
    'a seventh of the triangles of round shapes': {'numslices': 8, 'numstacks': 8}}


def cpu_ms(work: Callable[..., object], *arguments: object) -> float:
    started = time.process_time()
    work(*arguments)
    return (time.process_time() - started) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--attempts', type=int, default=6)
    args = parser.parse_args()
    camera = SimulatedCamera(320, 240)
    print(f'{platform.machine()}, load {os.getloadavg()[0]:.1f}, '
          f'{GL.glGetString(GL.GL_RENDERER).decode()}; {args.attempts} attempts of rig, '
          '320 x 240; CPU ms, means')
    physics: list[float] = []
    pictures: dict[str, list[float]] = {name: [] for name in WITHOUT}
    for number in range(args.attempts):
        rng = np.random.default_rng([1, number, 0])
        scene = build_scene(rng, RANGES[Preset.RIG])
        motion = Motion(rng, scene, 18.)
        physics.append(cpu_ms(run_attempt, scene, motion, 45.))
        for name, quality in WITHOUT.items():
            before = {key: getattr(scene.model.vis.quality, key) for key in quality}
            for key, value in quality.items():
                setattr(scene.model.vis.quality, key, value)
            camera.load(scene.model)
            if name == 'without shadows':
                camera._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
            camera.render(scene.model.qpos0)    # compiles shaders
            pictures[name] += [cpu_ms(camera.render, scene.model.qpos0) for _ in range(3)]
            for key, value in before.items():
                setattr(scene.model.vis.quality, key, value)
    print(f'{"physics of an attempt":44}{statistics.mean(physics):7.0f}')
    for name, taken in pictures.items():
        print(f'{"a picture, " + name:44}{statistics.mean(taken):7.1f}')


if __name__ == '__main__':
    main()
