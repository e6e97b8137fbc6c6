"""The page about a finished training: report.html of its run folder."""

from collections.abc import Mapping, Sequence
import math
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector.evaluation.frame_sources import label_origin
from grasp_success_detector.files import write_whole
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.reports.charts import (
    Axis,
    Chart,
    KeyEntry,
    label_colour,
    number_axis,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import Accuracy, percent, render
from grasp_success_detector.reports.pictures import find_errors, frame_from
from grasp_success_detector.reports.result_charts import result_charts
from grasp_success_detector.training.run_folder import read_run, Run

#: The lines of metrics.jsonl.
Epochs = Sequence[Mapping[str, Any]]


def write_report(run: Path) -> Path:
    """
    Write ``report.html`` into a finished run folder, over an earlier one.

    :returns: the page's path.
    :raises RunError: the folder is no finished run.
    :raises CheckpointError: its checkpoint cannot be loaded.
    """
    path = run / 'report.html'
    write_whole(path, training_page(read_run(run)))
    return path


def training_page(run: Run) -> str:
    """Return the page as HTML."""
    metrics, test, about = run.metrics, run.of('test'), run.summary
    origin = label_origin(run.test_dataset)
    minutes = about['seconds'] / 60
    train_set, test_set = about['dataset'], about['test_dataset']
    return render(
        'training.html', title=f'{run.name}: training report', run=run, origin=origin,
        facts=[about['architecture'],
               f'{about["epochs_run"]} epochs in '
               + (f'{about["seconds"]:.0f} s' if minutes < 2 else f'{minutes:.0f} min'),
               f'{sum(about["parameters"].values()) / 1e6:.2f} M parameters',
               f'judged on {about["device"]}'],
        summary=metrics['test'], data=f'{"simulated " if origin.simulated else ""}test',
        charts=result_charts(test, metrics['test'], metrics['temperature']),
        errors=find_errors(test, metrics['threshold'], Checkpoint.open(run.checkpoint),
                           frame_from(run.test_dataset)),
        epochs=run.epochs,
        epoch_charts=_epoch_charts(run.epochs, about['best_epoch']) if run.epochs else [],
        folders={'all': train_set} if train_set == test_set else {
            'train and val': train_set, 'test': test_set},
        recipe=yaml.safe_dump(dict(run.config), sort_keys=False))


def _epoch_charts(epochs: Epochs, best: int) -> list[tuple[str, Chart]]:
    """Return loss and accuracies after each epoch, with their titles."""
    numbers = [epoch['epoch'] for epoch in epochs]
    x = Axis('epoch', min(numbers) - .25, max(numbers) + .25,
             tuple(numbers[::max(1, -(-len(numbers) // 10))]))
    measured = [epoch[name] for epoch in epochs for name in ('val_frames', 'val_attempts')]
    measured += [accuracy for epoch in epochs for name in ('val_classes', 'train_classes')
                 for accuracy in (epoch.get(name) or {}).values()]
    # One scale for all charts, so that they can be compared by eye.
    lowest = min(accuracy['wilson_95'][0] for accuracy in measured)
    y = share_axis('right', math.floor(lowest * 5) / 5 if lowest < .5 else
                   .5 if lowest < .75 else .75 if lowest < .9 else .9)

    def accuracies(*shown: tuple[str, str, list[tuple[int, Accuracy]]]) -> Chart:
        chart = _epoch_chart(x, y, 'Accuracy by epoch', best)
        for name, colour, points in shown:
            _add_accuracy(chart, name, colour, points)
        return chart

    def classes(field: str) -> Chart:
        return accuracies(*(
            (label.name.lower(), label_colour(label),
             [(epoch['epoch'], epoch[field][label.name.lower()]) for epoch in epochs
              if epoch.get(field)]) for label in reversed(Label)))

    charts = [
        ('Loss', _loss_chart(epochs, x, best)),
        ('Accuracy, validation attempts', accuracies(*(
            (name, colour, [(epoch['epoch'], epoch[field]) for epoch in epochs])
            for name, colour, field in (('by attempt', SERIES[0], 'val_attempts'),
                                        ('by frame', SERIES[1], 'val_frames'))))),
        ('Class accuracy, frames of validation attempts', classes('val_classes'))]
    if any(epoch.get('train_classes') for epoch in epochs):
        charts.append(('Class accuracy, training images (no measure of quality)',
                       classes('train_classes')))
    return charts


def _epoch_chart(x: Axis, y: Axis, describe: str, best: int) -> Chart:
    chart = Chart(x, y, describe, height=250)
    chart.upright(best, 'kept')
    return chart


def _loss_chart(epochs: Epochs, x: Axis, best: int) -> Chart:
    lines = {name: [(epoch['epoch'], epoch[name]) for epoch in epochs if epoch[name] is not None]
             for name in ('train_loss', 'val_loss')}
    y = number_axis('cross entropy', [loss for line in lines.values() for _, loss in line], 0.)
    chart = _epoch_chart(x, y, 'Training and validation loss by epoch', best)
    for field, name, colour, dashed in (('train_loss', 'training', SERIES[4], True),
                                        ('val_loss', 'validation', SERIES[0], False)):
        chart.line(lines[field], colour, dashed)
        chart.dots(((epoch, loss, 2.5, f'epoch {epoch}: {loss:.4f}')
                    for epoch, loss in lines[field]), colour)
        chart.key.append(KeyEntry(colour, name, 'dashed' if dashed else 'line'))
    return chart


def _add_accuracy(chart: Chart, name: str, colour: str,
                  points: Sequence[tuple[int, Accuracy]]) -> None:
    known = [(epoch, accuracy) for epoch, accuracy in points if accuracy['value'] is not None]
    chart.band([(epoch, *accuracy['wilson_95']) for epoch, accuracy in known], colour)
    chart.line([(epoch, accuracy['value']) for epoch, accuracy in known], colour)
    chart.dots(((epoch, accuracy['value'], 2.5,
                 f'epoch {epoch}, {name}: {percent(accuracy["value"])} '
                 f'({accuracy["correct"]}/{accuracy["total"]})') for epoch, accuracy in known),
               colour)
    chart.key.append(KeyEntry(colour, name))
