"""One picture that shows what a data set holds: a row of frames for each label and split."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from grasp_success_detector.data.inspection import examples
from grasp_success_detector.data.manifest import ManifestRow
from grasp_success_detector.data.splits import SPLITS
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.html_page import LABEL_COLOURS
from grasp_success_detector.image import read_image, RgbImage
from grasp_success_detector.labels import Label

_TILE = 144, 108    # width, height
_GAP = 8
_TITLE = 34
_BACKGROUND = 250


def contact_sheet(folder: Path, rows: Sequence[ManifestRow], columns: int = 8,
                  ) -> RgbImage:
    """
    Draw evenly spread examples of each split and label.

    :return: RGB uint8 (H, W, 3).
    """
    blocks = []
    for split in SPLITS:
        for label in reversed(Label):
            some = [row for row in rows if row.split == split and row.label is label]
            if some:
                attempts = len({row.attempt for row in some})
                title = (f'{split}   {label.name.lower()}   {len(some)} frames of {attempts} '
                         f'attempt{"s" if attempts > 1 else ""}')
                blocks.append(_block(folder, title, label, examples(some, 2 * columns), columns))
    return np.concatenate(blocks)


def _block(folder: Path, title: str, label: Label, rows: Sequence[ManifestRow],
           columns: int) -> RgbImage:
    width, height = _TILE
    lines = -(-len(rows) // columns)
    sheet = np.full((_TITLE + lines * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3),
                    _BACKGROUND, np.uint8)
    colour = LABEL_COLOURS[label]
    cv2.rectangle(sheet, (_GAP, 10), (_GAP + 13, 23), colour, -1)
    cv2.putText(sheet, title, (_GAP + 22, 22), cv2.FONT_HERSHEY_SIMPLEX, .5, (40, 40, 40), 1,
                cv2.LINE_AA)
    for i, row in enumerate(rows):
        top = _TITLE + i // columns * (height + _GAP)
        left = _GAP + i % columns * (width + _GAP)
        sheet[top:top + height, left:left + width] = thumbnail(folder / row.file, width, height)
        cv2.rectangle(sheet, (left, top), (left + width - 1, top + height - 1), colour, 2)
    return sheet


def thumbnail(path: Path, width: int, height: int) -> RgbImage:
    """Return a picture made small, in its own proportions, on grey; grey if it's unreadable."""
    tile = np.full((height, width, 3), 225, np.uint8)
    try:
        rgb = read_image(path)
    except ImageDecodeError:
        return tile
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    tile[top:top + size[1], left:left + size[0]] = small
    return tile
