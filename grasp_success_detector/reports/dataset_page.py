"""A self-contained HTML page about a data set: one file, no script, nothing loaded from afar."""


from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from grasp_success_detector.datasets.inspection import examples, Inspection, table
from grasp_success_detector.datasets.leaks import Leak
from grasp_success_detector.datasets.manifest import ManifestRow
from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.decoding import read_image, RgbImage
from grasp_success_detector.labels import Label
from grasp_success_detector.reports.page import (
    cards,
    image,
    label_colour,
    LABEL_COLOURS,
    label_key,
    page,
)

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


def inspection_page(found: Inspection) -> str:
    """Return the page's HTML."""
    rows = found.rows
    attempts = len({row.attempt for row in rows})
    success = sum(row.label is Label.SUCCESS for row in rows)
    numbers = [(len(rows), 'frames'), (attempts, 'attempts'),
               (len({row.source for row in rows}), 'sources'),
               (f'{success / len(rows):.0%}', 'success')]
    name = found.folder.resolve().name
    return page(
        f'Data set {name}', f'<h1>Data set {escape(name)}</h1>',
        f'<p class="soft">{escape(str(found.folder))}</p>', label_key(),
        cards((str(value), name, '') for value, name in numbers),
        _verdict(found), _table(rows, 'split', 'Splits'), _charts(found), _examples(found),
        _table(rows, 'source', 'Sources'), _table(rows, 'attempt', 'Attempts'))


def _verdict(found: Inspection) -> str:
    lines = []
    for name, leaks in (('the same bytes', found.exact), ('nearly the same picture', found.near)):
        if leaks:
            lines.append(f'<p><b>{len(leaks)} frames leak</b>: {name} in two splits.</p>'
                         + _pairs(found, leaks))
    if found.faults:
        lines.append(f'<p><b>{len(found.faults)} frames are not what the manifest says.</b></p>'
                     + ''.join(f'<p><code>{escape(row.file)}</code>: {escape(fault)}</p>'
                               for row, fault in found.faults[:10]))
    if found.unlisted:
        lines.append(f'<p><b>{len(found.unlisted)} files are not in the manifest</b>, such as '
                     f'<code>{escape(found.unlisted[0])}</code>.</p>')
    if not lines:
        lines = ['<p>No picture is in two splits, neither the same bytes nor nearly the same '
                 'picture; no attempt is divided; every file is what the manifest says.</p>']
    return (f'<section class="verdict{"" if found.sound else " bad"}"><h2>'
            f'{"Sound" if found.sound else "Not to be trusted"}</h2>{"".join(lines)}</section>')


def _pairs(found: Inspection, leaks: Sequence[Leak]) -> str:
    some = leaks[::max(1, len(leaks) // 4)][:4]
    return '<div class="frames">' + ''.join(
        _figure(found, row, f'{row.split}: {row.file}') for leak in some
        for row in (leak.first, leak.second)) + '</div>'


def _table(rows: Sequence[ManifestRow], by: str, title: str) -> str:
    entries = table(rows, by)
    if by == 'split':
        entries.sort(key=lambda entry: SPLITS.index(entry[0]))
    most = max(success + failure for _, success, failure, _ in entries)
    body = ''.join(
        f'<tr><td>{escape(value)}</td><td>{success}</td><td>{failure}</td><td>{attempts}</td>'
        f'<td><div class="bar"><i style="width:{success / most:.1%}"></i>'
        f'<i style="width:{failure / most:.1%}"></i></div></td></tr>'
        for value, success, failure, attempts in entries[:500])
    more = f'<p class="soft">{len(entries) - 500} more</p>' if len(entries) > 500 else ''
    return (f'<section><h2>{title}</h2><div class="scroll"><table><thead><tr><th>{by}'
            '</th><th>success</th><th>failure</th><th>attempts</th><th></th></tr></thead>'
            f'<tbody>{body}</tbody></table>{more}</div></section>')


def _charts(found: Inspection) -> str:
    rows = found.rows
    start: dict[str, int] = {}
    for row in rows:
        start[row.attempt] = min(row.stamp_ns, start.get(row.attempt, row.stamp_ns))
    values = [
        ('Time within the attempt (s)', [(r.stamp_ns - start[r.attempt]) / 1e9 for r in rows]),
        ('Brightness (0 to 255)', [look.brightness for look in found.looks]),
        ("Sharpness (log of the Laplacian's variance)",
         [float(np.log10(look.sharpness + 1)) for look in found.looks]),
        ('File size (kB)', [look.size / 1000 for look in found.looks])]
    sizes = Counter(f'{look.width} x {look.height}' for look in found.looks)
    listed = ', '.join(f'{size} ({count})' for size, count in sizes.most_common(6))
    return ('<section><h2>Distributions</h2><div class="charts two">' + ''.join(
        f'<div>{escape(title)}{_histogram(data, rows)}</div>' for title, data in values)
        + f'</div><p class="soft">Picture sizes: {listed}</p></section>')


def _histogram(values: Sequence[float], rows: Sequence[ManifestRow]) -> str:
    """Draw stacked bars, success below failure."""
    data = np.asarray(values)
    low, high = float(data.min()), float(data.max())
    if high - low < 1e-9:
        low, high = low - .5, high + .5
    labels = np.array([row.label for row in rows])
    bins = 32
    counts = [np.histogram(data[labels == label], bins, (low, high))[0]
              for label in reversed(Label)]
    most = max(1, int(sum(counts).max()))  # type: ignore[union-attr]
    width, height, base = 400, 130, 112
    bars = []
    for i in range(bins):
        bottom = float(base)
        for label, column in zip(reversed(Label), counts, strict=True):
            tall = column[i] / most * (base - 6)
            if tall:
                bars.append(f'<rect x="{i * width / bins:.1f}" y="{bottom - tall:.1f}" '
                            f'width="{width / bins - 1.5:.1f}" height="{tall:.1f}" '
                            f'fill="{label_colour(label)}"/>')
                bottom -= tall
    return (f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(bars)}'
            f'<line x1="0" x2="{width}" y1="{base}" y2="{base}" stroke="var(--soft)"/>'
            f'<text x="0" y="{height - 4}">{low:.3g}</text>'
            f'<text x="{width}" y="{height - 4}" text-anchor="end">{high:.3g}</text>'
            f'<text x="{width}" y="11" text-anchor="end">tallest: {most} frames</text></svg>')


def _examples(found: Inspection) -> str:
    parts = []
    for label in reversed(Label):
        some = examples([row for row in found.rows if row.label is label], 12)
        if some:
            parts.append(f'<section><h2>Examples of {label.name.lower()}</h2>'
                         '<div class="frames">' + ''.join(
                             _figure(found, row, f'{row.split}, {row.attempt}') for row in some)
                         + '</div></section>')
    return ''.join(parts)


def _figure(found: Inspection, row: ManifestRow, caption: str) -> str:
    return (f'<figure title="{escape(row.file)}">'
            + image(thumbnail(found.folder / row.file, 240, 180), row.label.name.lower(),
                    row.label)
            + f'<figcaption>{escape(caption)}</figcaption></figure>')
