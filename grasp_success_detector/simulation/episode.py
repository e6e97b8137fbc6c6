"""From a seed to one finished attempt: simulate, label, choose frames, render."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.labels import Label
from grasp_success_detector.simulation.attempt import (
    label_frames,
    Motion,
    Observation,
    outcome,
    run_attempt,
    STARTS,
    Unstable,
)
from grasp_success_detector.simulation.camera import Camera, Sensor
from grasp_success_detector.simulation.presets import PRESETS
from grasp_success_detector.simulation.scene import build_scene

#: Share of chosen frames from before lift-off, where the answer is always failure.
_EARLY_SHARE = .25


@dataclass(frozen=True)
class Frame:
    """
    One rendered frame.

    :ivar image: RGB uint8 (H, W, 3).
    :ivar label: None where the attempt is ambiguous at this moment.
    :ivar joints: the 16 joint angles (radians).
    """

    time_s: float
    image: NDArray[np.uint8]
    label: Label | None
    joints: NDArray[np.float64]


@dataclass(frozen=True)
class Episode:
    """A finished attempt; ``success`` is the physical outcome at its end."""

    frames: tuple[Frame, ...]
    success: bool
    approach: str
    kind: str
    bad: bool
    slips: bool


def make_episode(seed: int, index: int, preset: str, fps: float, frames: int | None,
                 camera: Camera) -> Episode:
    """
    Simulate and film attempt number ``index`` of a seed; the same arguments, the same pixels.

    Attempts without a clear end (unstable physics, neither held nor lost, or lost in the last
    moment) are drawn again.

    :param frames: how many labelled frames, spread over the attempt; None for all at ``fps``.
    """
    ranges, retry = PRESETS[preset], 0
    while True:
        rng = np.random.default_rng([seed, index, retry])
        retry += 1
        scene = build_scene(rng, ranges)
        motion = Motion.draw(rng, scene, ranges.wrist_tilt)
        try:
            observations = run_attempt(scene, motion, fps)
        except Unstable:
            continue
        labels = label_frames(observations)
        result = outcome(observations)
        if result is not None and result == labels[-1]:
            break
    sensor = Sensor.draw(rng, ranges)
    camera.look_at(scene.model)
    chosen = (range(len(observations)) if frames is None
              else choose_frames(observations, labels, frames, rng))
    return Episode(
        tuple(Frame(observations[i].time_s,
                    sensor.expose(camera.render(observations[i].qpos), rng),
                    labels[i], observations[i].joints) for i in chosen),
        result == Label.SUCCESS, scene.approach, scene.shape.kind, scene.bad, scene.slips)


def choose_frames(observations: list[Observation], labels: list[Label | None], count: int,
                  rng: np.random.Generator) -> list[int]:
    """
    Choose labelled frames: a quarter before lift-off, the rest after it, each spread evenly.

    :returns: indices in order of time; fewer than ``count`` only if fewer are labelled.
    """
    labelled = [i for i, label in enumerate(labels) if label is not None]
    early = [i for i in labelled if observations[i].time_s < STARTS['lift']]
    late = [i for i in labelled if observations[i].time_s >= STARTS['lift']]
    n_early = min(len(early), max(round(count * _EARLY_SHARE), count - len(late)))
    return _spread(early, n_early, rng) + _spread(late, min(len(late), count - n_early), rng)


def _spread(candidates: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Draw one from each of ``count`` equal stretches."""
    return [int(rng.choice(stretch)) for stretch in np.array_split(candidates, count)
            ] if count else []
