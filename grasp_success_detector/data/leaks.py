"""Pictures that are in more than one split: what makes a wrong accuracy look right."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.data.manifest import ManifestRow
from grasp_success_detector.data.near_duplicates import close_pairs


class Leak(NamedTuple):
    """
    Two frames that are the same picture, or look the same, in two splits.

    :ivar distance: differing bits of their fingerprints; 0 also for the same bytes.
    """

    first: ManifestRow
    second: ManifestRow
    distance: int


def exact_leaks(rows: Sequence[ManifestRow]) -> list[Leak]:
    """Return a pair for each file whose bytes are also in another split."""
    seen: dict[str, dict[str, ManifestRow]] = defaultdict(dict)
    leaks = []
    for row in rows:
        of_other_splits = [other for split, other in seen[row.sha256].items()
                           if split != row.split]
        if of_other_splits:
            leaks.append(Leak(of_other_splits[0], row, 0))
        seen[row.sha256].setdefault(row.split, row)
    return leaks


def near_leaks(rows: Sequence[ManifestRow], looks: NDArray[np.uint64], bits: int) -> list[Leak]:
    """
    Return a pair for each frame that looks like one of another split.

    :param looks: fingerprints (N, words), as ``near_duplicates.fingerprints`` gives them.
    :param bits: fingerprints count as the same with up to so many differing bits.
    """
    splits = [row.split for row in rows]
    best: dict[int, Leak] = {}
    for i, j, distance in close_pairs(looks, bits, splits):
        if i not in best or distance < best[i].distance:
            best[i] = Leak(rows[j], rows[i], distance)
    return [best[i] for i in sorted(best)]


def describe_leaks(leaks: Sequence[Leak]) -> str:
    """Return one line with the number of leaks and an example."""
    first, second, distance = leaks[0]
    kind = 'the same picture as' if distance == 0 and first.sha256 == second.sha256 else (
        'nearly the same picture as')
    return (f'{len(leaks)} frames leak between splits: {second.file} ({second.split}) is {kind} '
            f'{first.file} ({first.split})')
