"""The part of a report that shows how a training went, epoch by epoch."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from grasp_success_detector.evaluation.charts import (
    Axis,
    Chart,
    epoch_axis,
    key,
    number_axis,
    percent,
    SERIES,
    share_axis,
)
from grasp_success_detector.html_page import label_colour, section, table
from grasp_success_detector.labels import Label

Epochs = Sequence[Mapping[str, Any]]


def training_section(epochs: Epochs, best_epoch: int) -> str:
    """
    Return loss and accuracy after each epoch.

    :param epochs: the lines of ``metrics.jsonl``.
    :param best_epoch: the one that was kept.
    """
    if not epochs:
        return ''
    x = epoch_axis([epoch['epoch'] for epoch in epochs])
    classes = [epoch[name] for epoch in epochs for name in ('val_classes', 'train_classes')
               if epoch.get(name)]
    measured = [accuracy for entry in classes for accuracy in entry.values()]
    measured += [epoch[name] for epoch in epochs for name in ('val_frames', 'val_attempts')]
    # One scale for all three, so that they can be compared by eye.
    lowest = min(accuracy['wilson_95'][0] for accuracy in measured)
    y = share_axis('right', math.floor(lowest * 5) / 5 if lowest < .5 else
                   .5 if lowest < .75 else .75 if lowest < .9 else .9)
    parts = [
        ('Loss', _loss(epochs, x, best_epoch)),
        ('Accuracy, validation attempts', _accuracies(
            epochs, x, y, best_epoch, [('val_attempts', 'by attempt', SERIES[0]),
                                       ('val_frames', 'by frame', SERIES[1])])),
        ('Class accuracy, frames of validation attempts', _class_accuracy(
            epochs, 'val_classes', x, y, best_epoch))]
    if any(epoch.get('train_classes') for epoch in epochs):
        parts.append(('Class accuracy, training images (no measure of quality)',
                      _class_accuracy(epochs, 'train_classes', x, y, best_epoch)))
    charts = ''.join(f'<div><h3>{title}</h3>{chart}</div>' for title, chart in parts)
    return section(
        'Training', f'After each epoch; epoch {best_epoch}, with the lowest validation loss, was '
        'kept. Frames count as success from P(success) = 0.5 on here, as the threshold was chosen '
        'at the end. Shaded: Wilson 95 % intervals.', f'<div class="charts two">{charts}</div>',
        f'<details><summary>Every epoch in numbers</summary>{_numbers(epochs)}</details>')


def _loss(epochs: Epochs, x: Axis, best: int) -> str:
    lines = {name: [(epoch['epoch'], epoch[name]) for epoch in epochs
                    if epoch[name] is not None] for name in ('train_loss', 'val_loss')}
    y = number_axis('cross entropy', [v for points in lines.values() for _, v in points], 0.)
    chart = Chart(x, y, 'Training and validation loss by epoch', height=250)
    chart.upright(best, 'kept')
    entries = []
    for (name, points), colour, dashed in zip(
            lines.items(), ('var(--accent5)', SERIES[0]), (True, False), strict=True):
        chart.line(points, colour, dashed)
        chart.dots(((e, v, 2.5, f'epoch {e}: {v:.4f}') for e, v in points), colour)
        entries.append((colour, {'train_loss': 'training'}.get(name, 'validation'), dashed))
    return chart.svg() + key(entries)


def _accuracies(epochs: Epochs, x: Axis, y: Axis, best: int,
                shown: Sequence[tuple[str, str, str]]) -> str:
    chart = Chart(x, y, 'Accuracy by epoch', height=250)
    chart.upright(best, 'kept')
    for field, name, colour in shown:
        _add(chart, [(epoch['epoch'], epoch[field]) for epoch in epochs], name, colour)
    return chart.svg() + key((colour, name, False) for _, name, colour in shown)


def _class_accuracy(epochs: Epochs, field: str, x: Axis, y: Axis, best: int) -> str:
    chart = Chart(x, y, 'Accuracy of each class by epoch', height=250)
    chart.upright(best, 'kept')
    names = {label.name.lower(): label_colour(label) for label in reversed(Label)}
    for name, colour in names.items():
        _add(chart, [(epoch['epoch'], epoch[field][name]) for epoch in epochs
                     if epoch.get(field)], name, colour)
    return chart.svg() + key((colour, name, False) for name, colour in names.items())


def _add(chart: Chart, points: Sequence[tuple[int, Mapping[str, Any]]], name: str, colour: str,
         ) -> None:
    known = [(e, accuracy) for e, accuracy in points if accuracy['value'] is not None]
    chart.band([(e, *accuracy['wilson_95']) for e, accuracy in known], colour)
    chart.line([(e, accuracy['value']) for e, accuracy in known], colour)
    chart.dots(((e, accuracy['value'], 2.5, f'epoch {e}, {name}: {percent(accuracy["value"])} '
                 f'({accuracy["correct"]}/{accuracy["total"]})') for e, accuracy in known),
               colour)


def _numbers(epochs: Epochs) -> str:
    names = [name.name.lower() for name in reversed(Label)]
    head = ['epoch', 'training loss', 'validation loss', 'validation attempts',
            'validation frames', *(f'validation {name}' for name in names),
            *(f'training {name}' for name in names)]
    return table(head, ([
        str(epoch['epoch']), _loss_value(epoch['train_loss']), _loss_value(epoch['val_loss']),
        *(_share(epoch[field]) for field in ('val_attempts', 'val_frames')),
        *(_share(epoch[field][name] if epoch.get(field) else None)
          for field in ('val_classes', 'train_classes') for name in names)]
        for epoch in epochs))


def _share(accuracy: Mapping[str, Any] | None) -> str:
    return '–' if accuracy is None or accuracy['value'] is None else percent(accuracy['value'])


def _loss_value(loss: float | None) -> str:
    return '–' if loss is None else f'{loss:.4f}'
