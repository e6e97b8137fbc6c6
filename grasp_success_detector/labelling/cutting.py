"""Cut a recording into attempts by what it holds: messages, motion, pauses, or its pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.ground_truth import AttemptEvent, GroundTruth

#: A pause is longer than this, in seconds, and than ``_PAUSE_STEPS`` usual steps between frames.
_PAUSE_S, _PAUSE_STEPS = .8, 2.5

#: Mean difference between successive small grey pictures (0 to 255) from which on the scene has
#: changed; it must also exceed ``_SCENE_TIMES`` the 90th percentile of these differences.
_SCENE_CHANGE, _SCENE_TIMES = 8., 3.
#: Mean difference below which nothing moves, and for how long, in seconds, between two attempts.
_STILL, _STILL_S = .6, 1.


@dataclass(frozen=True)
class Cuts:
    """
    Where the attempts of a recording begin.

    :ivar starts: index of each attempt's first frame; the first is 0.
    :ivar outside: those of ``starts`` whose frames belong to no attempt.
    :ivar how: by what the recording was cut, in words for the page.
    """

    starts: tuple[int, ...] = (0,)
    outside: frozenset[int] = frozenset()
    how: str = 'not cut: nothing in it separates attempts'


def cut_by_events(received_ns: Sequence[int], events: Sequence[AttemptEvent]) -> Cuts | None:
    """Cut where recorded messages say that attempts begin and end; None without messages."""
    if not events or not received_ns:
        return None
    truth = GroundTruth(None, None, [], 0, events)
    names = [truth.label_and_attempt(time, 0, '')[1] for time in received_ns]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return Cuts(tuple(starts), frozenset(i for i in starts if names[i] is None),
                'messages about attempts in the recording')


def cut_by_labels(received_ns: Sequence[int], bools: Sequence[tuple[int, bool]]) -> Cuts | None:
    """Cut where labels in the recording go from success back to failure; None if none does."""
    truth = GroundTruth(None, None, bools, float('inf'), ())
    labels = [truth.label_and_attempt(time, 0, '')[0] for time in received_ns]
    return _cut_at([i for i, (before, after) in enumerate(pairwise(labels), 1)
                    if before is Label.SUCCESS and after is Label.FAILURE],
                   'labels in the recording')


def cut_by_times(received_ns: Sequence[int], begins_ns: Sequence[int], how: str) -> Cuts | None:
    """Cut at the first frame at or after each of some times; None if no cut comes out."""
    return _cut_at(np.searchsorted(received_ns, begins_ns).tolist(), how, len(received_ns))


def cut_by_pauses(elapsed_ns: Sequence[int]) -> Cuts | None:
    """Cut where no frame comes for much longer than usual; None if there is no such pause."""
    steps = np.diff(np.asarray(elapsed_ns, float)) / 1e9
    if not steps.size:
        return None
    longest = max(_PAUSE_S, _PAUSE_STEPS * float(np.percentile(steps, 75)))
    return _cut_at((np.flatnonzero(steps > longest) + 1).tolist(), 'pauses between frames')


def cut_by_changes(times_s: ArrayLike, differences: ArrayLike) -> Cuts | None:
    """
    Cut where the scene changes at once, and in the middle of the times when nothing moves.

    :param times_s: time of each frame in seconds, (N,).
    :param differences: mean difference of each small grey picture to the one before, (N,); the
        first is 0.
    :returns: None if no cut comes out.
    """
    times, apart = np.asarray(times_s, float), np.asarray(differences, float)
    if len(times) < 3:
        return None
    least = max(_SCENE_CHANGE, _SCENE_TIMES * float(np.percentile(apart[1:], 90)))
    scenes = np.flatnonzero(apart > least)
    moving = np.flatnonzero(apart > _STILL)
    still = [int(np.searchsorted(times, (times[a] + times[b]) / 2))
             for a, b in pairwise(moving) if times[b] - times[a] > _STILL_S]
    # A scene that changes ends a still time; the change is the cut.
    still = [i for i in still if not any(
        abs(times[i] - times[scene]) < _STILL_S for scene in scenes)]
    return _cut_at(sorted({*scenes.tolist(), *still}), 'changes in the picture')


def _cut_at(starts: Sequence[int], how: str, count: int | None = None) -> Cuts | None:
    kept = sorted({i for i in starts if i > 0 and (count is None or i < count)})
    return Cuts((0, *kept), how=how) if kept else None
