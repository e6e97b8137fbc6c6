"""The page about a data set, and a contact sheet of its frames."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import counted
from grasp_success_detector.datasets.dataset import ManifestRow
from grasp_success_detector.datasets.inspection import examples, Inspection, table
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import read_image, RgbImage
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.pictures import shown
from grasp_success_detector.reports.charts import Chart, label_colour, number_axis
from grasp_success_detector.reports.page import LABEL_COLOURS, render

# The contact sheet, in pixels
_TILE = 144, 108    # width, height
_GAP = 8
_TITLE = 34
_BACKGROUND = 250

_BINS = 32      # of a histogram


def contact_sheet(folder: Path, rows: Sequence[ManifestRow], columns: int = 8,
                  ) -> RgbImage:
    """
    Return a picture with evenly spread examples of each split and label.

    :param columns: number of frames side by side.
    :returns: RGB uint8 (H, W, 3).
    """
    blocks = []
    for split in SPLITS:
        for label in reversed(Label):
            some = [row for row in rows if row.split == split and row.label is label]
            if some:
                attempts = len({row.attempt for row in some})
                title = (f'{split}   {label.name.lower()}   {len(some)} frames of '
                         f'{counted(attempts, "attempt")}')
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
    """Return a picture scaled to fit a grey tile (height, width, 3); only grey if unreadable."""
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


def inspection_page(found: Inspection, name: str = '') -> str:
    """
    Return the page as HTML.

    :param name: name of the data set in its title; that of its folder if it is ''.
    """
    rows = found.rows
    success = sum(row.label is Label.SUCCESS for row in rows)
    sizes = Counter(f'{picture.width} x {picture.height}' for picture in found.pictures
                    if picture.width)
    return render(
        'dataset.html', title=f'Data set {name or found.folder.resolve().name}', found=found,
        numbers=[(len(rows), 'frames'), (len({row.attempt for row in rows}), 'attempts'),
                 (len({row.source for row in rows}), 'sources'),
                 (f'{success / len(rows):.0%}', 'success')],
        leaks=[_figure(found, row, f'{row.split}: {row.file}')
               for leaks in (found.exact, found.near)
               for leak in leaks[::max(1, len(leaks) // 4)][:4]
               for row in (leak.first, leak.second)],
        tables={by: table(rows, by) for by in ('split', 'source', 'attempt')},
        charts=_charts(found),
        refused={shown(file): reason for file, reason in found.refused.items()},
        sizes=[f'{size} ({count})' for size, count in sizes.most_common(6)],
        examples=[(label, [_figure(found, row, f'{row.split}, {row.attempt}') for row in examples(
            [row for row in rows if row.label is label], 12)]) for label in reversed(Label)])


def _figure(found: Inspection, row: ManifestRow, caption: str,
            ) -> tuple[ManifestRow, RgbImage, str]:
    return row, thumbnail(found.folder / row.file, 240, 180), caption


def _charts(found: Inspection) -> Iterator[tuple[str, Chart]]:
    """Yield histograms of the readable pictures, with their titles."""
    readable = [(row, picture) for row, picture in zip(found.rows, found.pictures, strict=True)
                if picture.width]
    if not readable:
        return
    rows, pictures = zip(*readable, strict=True)
    start: dict[str, int] = {}
    for row in rows:
        start[row.attempt] = min(row.stamp_ns, start.get(row.attempt, row.stamp_ns))
    for title, unit, values in (
            ('Time within the attempt', 'seconds',
             [(row.stamp_ns - start[row.attempt]) / 1e9 for row in rows]),
            ('Brightness', 'mean grey level, 0 to 255',
             [picture.brightness for picture in pictures]),
            ('Sharpness', "log10 of the Laplacian's variance",
             [float(np.log10(picture.sharpness + 1)) for picture in pictures]),
            ('File size', 'kB', [picture.size / 1000 for picture in pictures])):
        yield title, _histogram(title, unit, np.asarray(values),
                                np.array([row.label for row in rows]))


def _histogram(title: str, unit: str, values: NDArray[np.float64],
               labels: NDArray[np.int64]) -> Chart:
    """Draw stacked bars, success below failure."""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        low, high = low - .5, high + .5
    edges = np.linspace(low, high, _BINS + 1)
    counts = {label: np.histogram(values[labels == label], edges)[0]
              for label in reversed(Label)}
    chart = Chart(number_axis(unit, [low, high], tight=True),
                  number_axis('frames', [np.sum([*counts.values()], 0).max()], 0.),
                  f'Histogram: {title}', height=200)
    bottom = np.zeros(_BINS, int)
    for label, column in counts.items():
        chart.bars(((left, right, base, base + count, f'{count} {label.name.lower()} frames')
                    for left, right, base, count in zip(
                        edges[:-1], edges[1:], bottom, column, strict=True) if count),
                   label_colour(label))
        bottom += column
    return chart
