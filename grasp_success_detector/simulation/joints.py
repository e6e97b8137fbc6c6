"""What the driver of the simulated hand measures and publishes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.simulation.attempt import Observation

#: Standard deviation of a joint's zero position from attempt to attempt, and of the encoder's
#: noise, in radians; of the noise of the speed in rad/s, and of the torque in Nm. Assumed, as the
#: maker states no figures.
_ZERO, _ANGLE_NOISE, _SPEED_NOISE, _TORQUE_NOISE = .01, .004, .02, .02

#: Largest reading of a tactile sensor that nothing touches, and standard deviation of its noise
#: (N). Assumed too.
_TACTILE_ZERO, _TACTILE_NOISE = .3, .02

#: Torques below this (Nm) are published as 0, as friction hides them.
_DEAD_ZONE = .03


@dataclass(frozen=True)
class JointSample:
    """
    One joint state and the command of that moment; arrays (16,): index, middle, ring, thumb.

    :ivar time_s: time since the start of the attempt.
    :ivar position: measured angles in radians.
    :ivar velocity: measured speeds in rad/s.
    :ivar effort: torques in Nm.
    :ivar commanded: angles that the joints were told to reach, in radians.
    :ivar tactile: force on the sensor of each link, in N.
    """

    time_s: float
    position: NDArray[np.float64]
    velocity: NDArray[np.float64]
    effort: NDArray[np.float64]
    commanded: NDArray[np.float64]
    tactile: NDArray[np.float64]


def measure_joints(observations: Sequence[Observation], rng: np.random.Generator,
                   touch: np.random.Generator) -> list[JointSample]:
    """
    Return what the driver publishes: the state of the joints with errors of measurement.

    :param touch: random numbers of the tactile sensors.
    """
    zero = rng.normal(0, _ZERO, 16)
    untouched = touch.uniform(0, _TACTILE_ZERO, 16)
    samples = []
    for seen in observations:
        effort = seen.torques + rng.normal(0, _TORQUE_NOISE, 16)
        samples.append(JointSample(
            seen.time_s, seen.joints + zero + rng.normal(0, _ANGLE_NOISE, 16),
            seen.velocities + rng.normal(0, _SPEED_NOISE, 16),
            np.where(np.abs(effort) < _DEAD_ZONE, 0., effort), seen.commanded,
            seen.pressed + untouched + touch.normal(0, _TACTILE_NOISE, 16)))
    return samples
