"""When attempts begin, by the commands that a driver received or by the motion of its joints."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Closure, as a share of its range, above which a hand counts as closed, and below which as open.
_CLOSED, _OPEN = .6, .3
#: Smallest range of the closure that is a motion and no noise of the sensors, in rad.
_LEAST_CLOSURE = .3

#: Words in commands of the Allegro hand's drivers that open the hand or let it go.
_OPENING_WORDS = ('home', 'ready', 'open', 'off', 'release', 'save')


def first_component(positions: ArrayLike) -> NDArray[np.float64]:
    """
    Return how far a hand is closed, as one number for each sample.

    It is the joints' first principal component, with the sign for which most joints grow: the
    fingers of a hand move together, and flexion is positive in the Allegro hand's description.

    :param positions: joint positions (N, joints) in rad.
    :returns: float64 (N,), in rad.
    """
    samples = np.asarray(positions, float)
    if len(samples) < 2:
        return np.zeros(len(samples))
    centred = samples - np.median(samples, axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    return np.asarray(centred @ (direction * np.sign(direction.sum() or 1.)))


def opening_times(times_ns: Sequence[int], closures: NDArray[np.float64]) -> list[int]:
    """Return when a hand that had been closed is open again: there the next attempt begins."""
    if not len(closures):
        return []
    low, high = np.percentile(closures, (5, 95))
    if high - low < _LEAST_CLOSURE:
        return []
    found, closed = [], False
    for time, share in zip(times_ns, (closures - low) / (high - low), strict=True):
        if share > _CLOSED:
            closed = True
        elif closed and share < _OPEN:
            closed = False
            found.append(time)
    return found


def opens(command: str) -> bool:
    """Return whether a command, such as ``home``, opens the hand or lets it go."""
    return any(word in command.lower() for word in _OPENING_WORDS)


def command_times(commands: Sequence[tuple[int, str]]) -> list[int]:
    """
    Return when the next attempt begins, by the commands that a driver received.

    It begins with the first command after a grasp that opens the hand, or, where no command ever
    opens it, with each grasp.

    :param commands: time of recording in ns and text, such as ``grasp_3``, in order.
    """
    if not any(opens(text) for _, text in commands):
        return [time for time, _ in commands]
    return [time for (_, before), (time, text) in pairwise(commands)
            if opens(text) and not opens(before)]
