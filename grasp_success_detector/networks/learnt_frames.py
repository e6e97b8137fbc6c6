"""Which frames a checkpoint learnt from: hashes of their encoded pictures, in its metadata."""

import base64
from collections.abc import Iterable, Mapping
import hashlib
from typing import Any, NamedTuple

from grasp_success_detector.errors import CheckpointError

#: Entry of ``CheckpointMetadata.training``: a record of each training, the newest first. Each
#: has the number of all frames and the smallest hashes (base64 of 8 bytes each, sorted).
ENTRY = 'learnt_frames'

#: Hashes of a record, 8 bytes each: of more frames the smallest ones, a random sample, are kept.
MOST_HASHES = 4096

#: Records that a checkpoint keeps, of trainings one after the other.
_MOST_RECORDS = 4

#: Digits of a frame's hash, which begins its SHA-256.
DIGITS = 16

# Of more bytes, as raw images have, some are hashed: all take a third of an extraction's time.
_ALL_BYTES = 1 << 17
_EVERY = 61     # prime, so that the bytes are of all columns and colours


class Learnt(NamedTuple):
    """
    How many frames of an evaluation a checkpoint learnt from.

    :ivar checked: number of frames that were looked up: of a record that holds a sample, those
        whose hashes it could hold.
    :ivar asked: number of all frames.
    """

    frames: int
    checked: int
    asked: int

    def __str__(self) -> str:
        part = f' looked up, of {self.asked},' if self.checked < self.asked else ''
        return (f'{self.frames} of {self.checked} frames{part} were used to make this checkpoint: '
                'the figures say little about new ones')


def frame_hash(data: Any) -> str:
    """
    Return the first ``DIGITS`` hexadecimal digits of the SHA-256 of a frame's bytes.

    :param data: bytes of a compressed or raw image, or its pixels; of more than 128 KiB every 61st
        byte counts.
    """
    content = memoryview(data)
    if content.nbytes > _ALL_BYTES:
        content = memoryview(content.cast('B')[::_EVERY].tobytes())
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def with_record(hashes: Iterable[str], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Return the entry of ``training`` for frames that were learnt from.

    :param before: ``training`` of the checkpoint that learning began with.
    """
    known = sorted(set(hashes))
    record = {'frames': len(known), 'hashes': base64.b64encode(
        bytes.fromhex(''.join(known[:MOST_HASHES]))).decode()}
    return {ENTRY: [record, *(before or {}).get(ENTRY, ())][:_MOST_RECORDS]}


def count_learnt(training: Mapping[str, Any], hashes: Iterable[str]) -> Learnt | None:
    """
    Count the frames that a checkpoint learnt from; None if it does not tell.

    :param training: ``training`` of its metadata.
    :raises CheckpointError: its records are damaged.
    """
    if ENTRY not in training:
        return None     # and the frames need not be read
    known, limits = set[str](), ['']
    try:
        for record in training[ENTRY]:
            text = base64.b64decode(record['hashes'], validate=True).hex()
            kept = [text[i:i + DIGITS] for i in range(0, len(text), DIGITS)]
            known.update(kept)
            # Of hashes above the last one of a record that is not whole nothing is known.
            limits.append('g' if len(kept) == record['frames'] else kept[-1])
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f'metadata: {ENTRY} cannot be used ({error!r})') from error
    asked = list(hashes)
    checked = [each for each in asked if each <= max(limits)]
    return Learnt(sum(each in known for each in checked), len(checked), len(asked))
