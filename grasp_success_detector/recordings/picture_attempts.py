"""Which pictures of a folder or zip file belong to one attempt."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from itertools import pairwise
import os
from pathlib import Path, PurePosixPath
import re
from typing import Final
from zlib import crc32

from grasp_success_detector.errors import DatasetError, ImageDecodeError
from grasp_success_detector.recordings.picture_labels import PictureTruth
from grasp_success_detector.recordings.pictures import PictureReader, shown

#: Stem and running number of names such as ``take3_0012``.
_NUMBERED: Final = re.compile(r'(.*?)[ _.-]*?(\d+)', re.DOTALL)

#: A stem of more than this share of all pictures, such as IMG_, comes from the camera.
_LARGEST_SHARE: Final = .5

#: Fewest attempts of each label by names: with one of each, names tell labels, not attempts.
_FEWEST: Final = 2


class AttemptRule(Enum):
    """By what pictures were put together into attempts."""

    CSV = 'the column attempt of the CSV file'
    NAMES = 'names with a running number'
    NEAR_DUPLICATES = 'near duplicates together'
    EACH = 'each picture on its own'


def attempts_of(truths: Sequence[PictureTruth], root: Path,
                ) -> tuple[list[str], AttemptRule, Counter[str]]:
    """
    Return the attempt of each picture, by the first rule that says something.

    Pictures of different given splits are never put together, identical files always are.

    :param root: folder or zip of the pictures.
    :returns: names of attempts, the rule, and numbers of faults by kind.
    :raises DatasetError: the CSV file has an attempt in two splits.
    """
    faults = Counter[str]()
    places = _own_names(truths)
    if any(truth.attempt for truth in truths):
        _check_splits(truths, root)
        names = [shown(truth.attempt) if truth.attempt else place
                 for truth, place in zip(truths, places, strict=True)]
        _count_contradictions(truths, _same_files(truths, root), faults)
        return names, AttemptRule.CSV, faults
    same = _same_files(truths, root)
    _count_contradictions(truths, same, faults)
    rule, keys = AttemptRule.NAMES, _by_names(truths, places)
    if keys is None:
        look = _looks(truths, root)
        rule = AttemptRule.NEAR_DUPLICATES
        keys = places if len(set(look)) == len(look) else [places[first] for first in look]
        if keys is places:
            rule = AttemptRule.EACH
    return _united([f'{truth.split}/{key}' if truth.split else key
                    for truth, key in zip(truths, keys, strict=True)],
                   [(truth.split, first) for truth, first in zip(truths, same, strict=True)],
                   ), rule, faults


def _check_splits(truths: Iterable[PictureTruth], root: Path) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for truth in truths:
        if truth.attempt:
            splits[truth.attempt].add(truth.split or 'none')
    if wrong := [f'{shown(attempt)} ({", ".join(sorted(names))})'
                 for attempt, names in splits.items() if len(names) > 1]:
        raise DatasetError(f'{shown(root)}: the CSV file has attempts in several splits: '
                           f'{", ".join(wrong[:5])}{", ..." * (len(wrong) > 5)}; expected whole '
                           'attempts in one split')


def _own_names(truths: Sequence[PictureTruth]) -> list[str]:
    """Return a name for each picture that no other has: its place, else its whole path."""
    places = [_without_suffix(truth.place) for truth in truths]
    times = Counter(places)
    return [shown(place if times[place] == 1 else truth.picture.member
                  if truth.picture.number < 0 else
                  f'{truth.picture.member}:{truth.picture.number}')
            for place, truth in zip(places, truths, strict=True)]


def _without_suffix(place: str) -> str:
    return place[:len(place) - len(PurePosixPath(place).suffix)]


def _by_names(truths: Sequence[PictureTruth], own: Sequence[str]) -> list[str] | None:
    """Return the stem of each name, or its own name; None if stems do not look like attempts."""
    stems, counts = [], Counter[str]()
    for truth, single in zip(truths, own, strict=True):
        folder, _, name = _without_suffix(truth.place).rpartition('/')
        found = _NUMBERED.fullmatch(name)
        stem = single if found is None or not found[1] else shown(
            f'{folder}/{found[1]}' if folder else found[1])
        stems.append(stem)
        counts[stem] += 1
    by_label: dict[Hashable, set[str]] = defaultdict(set)
    any_label = any(truth.label is not None for truth in truths)
    for stem, truth in zip(stems, truths, strict=True):
        if truth.label is not None or not any_label:
            by_label[truth.label].add(stem)
    several = max(counts.values(), default=0) > 1
    if (not several or counts.most_common(1)[0][1] > _LARGEST_SHARE * len(truths)
            or min(map(len, by_label.values())) < _FEWEST):
        return None
    return stems


def _same_files(truths: Sequence[PictureTruth], root: Path) -> list[int]:
    """Return for each picture the index of the first one with the same bytes."""
    sizes = Counter(truth.picture.size for truth in truths)
    first: dict[Hashable, int] = {}
    with PictureReader(root) as reader:
        found = []
        for i, truth in enumerate(truths):
            member, number, size, crc = truth.picture
            if sizes[size] > 1 and crc < 0:
                try:
                    crc = crc32(reader.read(member, number))
                except ValueError:
                    crc = -2 - i    # it will be counted when it is read for its pixels
            found.append(first.setdefault((size, crc), i) if sizes[size] > 1 else i)
    return found


def _count_contradictions(truths: Sequence[PictureTruth], same: Sequence[int],
                          faults: Counter[str]) -> None:
    labels: dict[int, set[Hashable]] = defaultdict(set)
    for truth, first in zip(truths, same, strict=True):
        if truth.label is not None:
            labels[first].add(truth.label)
    faults['identical file with the other label'] += sum(
        len(labels[first]) > 1 and first != i for i, first in enumerate(same))


def _looks(truths: Sequence[PictureTruth], root: Path) -> list[int]:
    """Return for each picture the index of the first one of its split that looks like it."""
    from grasp_success_detector.images.fingerprints import close_groups
    by_split: dict[str, list[int]] = defaultdict(list)
    for i, truth in enumerate(truths):
        by_split[truth.split].append(i)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
                            else os.cpu_count()) as pool:
        step = max(1, len(truths) // 64)
        parts = pool.map(lambda start: _fingerprints(truths[start:start + step], root),
                         range(0, len(truths), step))
        prints = [value for part in parts for value in part]
    first = list(range(len(truths)))
    for members in by_split.values():
        known = [i for i in members if prints[i] is not None]
        groups = close_groups([prints[i] or 0 for i in known])
        for i, group in zip(known, groups, strict=True):
            first[i] = known[group]
    return first


def _fingerprints(truths: Sequence[PictureTruth], root: Path) -> list[int | None]:
    """Return the fingerprint of each picture, None for one that cannot be read."""
    from grasp_success_detector.images.fingerprints import fingerprint
    from grasp_success_detector.images.picture_files import decode_picture
    values: list[int | None] = []
    with PictureReader(root) as reader:
        for truth in truths:
            try:
                data = reader.read(truth.picture.member, truth.picture.number)
                values.append(fingerprint(decode_picture(
                    data, lambda height, width: min(height, width) >= 256)))
            except (ValueError, ImageDecodeError):
                values.append(None)
    return values


def _united(names: Sequence[str], together: Sequence[Hashable]) -> list[str]:
    """Give attempts that share a member of ``together`` the name of the first of them."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name] = parent[parent[name]]
        return name

    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    by_key: dict[Hashable, list[str]] = defaultdict(list)
    for name, key in zip(names, together, strict=True):
        by_key[key].append(name)
    for members in by_key.values():
        for before, after in pairwise(members):
            a, b = sorted((root(before), root(after)), key=order.__getitem__)
            parent[b] = a
    return [root(name) for name in names]
