"""Index the pictures of a folder or zip file: order, label, attempt and split of each."""

from collections.abc import Mapping
from typing import Final

from grasp_success_detector.labels import Label
from grasp_success_detector.recordings import reader
from grasp_success_detector.recordings.index import IndexedFrame, RecordingIndex
from grasp_success_detector.recordings.picture_attempts import AttemptRule, attempts_of
from grasp_success_detector.recordings.picture_labels import (
    label_pictures,
    no_labels,
    PictureRows,
    rows_beside,
)
from grasp_success_detector.recordings.pictures import natural
from grasp_success_detector.recordings.sources import Source
from grasp_success_detector.recordings.storage import MessageLocation

#: Pictures have no time: in the order of their names they count as taken this long, in ns, after
#: one another, so that successive pictures of an attempt are averaged as frames of a camera are.
PICTURE_PERIOD_NS: Final = 100_000_000


class PictureGroundTruth:
    """
    Label and attempt of each picture of one source.

    :ivar rule: by what pictures were put together into attempts.
    """

    def __init__(self, found: Mapping[int, tuple[Label | None, str]], rule: AttemptRule) -> None:
        self._found, self.rule = found, rule

    def label_and_attempt(self, received_ns: int, elapsed_ns: int, pauses_attempt: str,
                          ) -> tuple[Label | None, str | None]:
        """Return label (None without one) and attempt of the picture with this time."""
        return self._found[received_ns]


def index_pictures(source: Source, label: str | None, rows: PictureRows, unlabelled: bool,
                   ) -> tuple[RecordingIndex, PictureGroundTruth]:
    """
    Index the pictures of a source; where names tell no attempts, the pictures are decoded.

    :param label: label of all pictures; None to take it from ``rows`` or folders.
    :param rows: rows of the labels file that was given, by picture (``PictureRows``); empty
        without one, so that a CSV file in the folder is used.
    :param unlabelled: whether a source without any label is accepted.
    :raises DatasetError: labels are missing or contradictory.
    """
    truths, notes = label_pictures(source, label, rows or rows_beside(source), not rows)
    if not unlabelled and all(truth.label is None for truth in truths):
        raise no_labels(source)
    truths.sort(key=lambda truth: (natural(truth.place), natural(truth.picture.member)))
    attempts, rule, faults = attempts_of(truths, source.path)
    index = RecordingIndex([reader.StorageFile(source.path)])
    index.damage += faults + notes
    index.frames[reader.PICTURES] = [
        IndexedFrame(i * PICTURE_PERIOD_NS, i * PICTURE_PERIOD_NS, 0,
                     MessageLocation(-1, truth.picture.number, truth.picture.size),
                     truth.picture.member, truth.split)
        for i, truth in enumerate(truths)]
    return index, PictureGroundTruth(
        {i * PICTURE_PERIOD_NS: (truth.label, attempt) for i, (truth, attempt) in enumerate(
            zip(truths, attempts, strict=True))}, rule)

