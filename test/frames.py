"""Labelled frames that any network can tell apart, for tests of training."""

from types import SimpleNamespace

import numpy as np

from grasp_success_detector.datasets.dataset import (
    LabelledFrame,
    ManifestRow,
    Split,
    write_manifest,
    write_marker,
)
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import CLASS_NAMES, Label


def colour_frames(attempts=20, per_attempt=3, every=2, source='made'):
    """Make frames in which green is success and red failure; every n-th attempt succeeds."""
    rng = np.random.default_rng(0)
    frames = []
    for attempt in range(attempts):
        label = Label(attempt % every == 0)
        for i in range(per_attempt):
            image = rng.integers(0, 60, (40, 40, 3), np.uint8)
            image[..., int(label)] += 160
            frames.append(LabelledFrame(
                SimpleNamespace(format='jpeg', data=encode_jpeg(image)), label, source,
                f'{source}/{attempt}', i * 10 ** 8))
    return frames


def split_frames(frames):
    """Return the split of an attempt: of 16 attempts 8 are train, 4 val and 4 test."""
    attempts = list(dict.fromkeys(frame.attempt for frame in frames))
    parts = [[], [], []]
    for frame in frames:
        parts[(0, 0, 1, 2)[attempts.index(frame.attempt) // 4 % 4]].append(frame)
    return Split(*map(tuple, parts))


def write_dataset(folder, split):
    """Write frames as extract_frames leaves them."""
    from hashlib import sha256
    rows = []
    for label in CLASS_NAMES:
        (folder / label).mkdir(parents=True)
    for name in ('train', 'val', 'test'):
        for frame in getattr(split, name):
            file = (f'{frame.label.name.lower()}/{frame.attempt.replace("/", "_")}_'
                    f'{frame.stamp_ns}.jpg')
            (folder / file).write_bytes(frame.message.data)
            rows.append(ManifestRow(file, frame.label, frame.source, '/camera', frame.stamp_ns,
                                    frame.attempt, name, sha256(frame.message.data).hexdigest()))
    write_manifest(folder, rows)
    write_marker(folder, {'frames': len(rows)})
    return folder
