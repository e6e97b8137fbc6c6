"""One self-contained HTML page about a finished training."""


from collections.abc import Mapping, Sequence
from html import escape
import math
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.evaluation.frame_sources import label_origin, LabelOrigin
from grasp_success_detector.files import write_whole
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.reports.charts import (
    Axis,
    Chart,
    epoch_axis,
    key,
    number_axis,
    percent,
    SERIES,
    share_axis,
)
from grasp_success_detector.reports.page import label_colour, label_key, page, section, table
from grasp_success_detector.reports.sections import (
    all_numbers,
    calibration_section,
    confusion_section,
    error_section,
    frame_from,
    headline,
    trade_off_section,
)
from grasp_success_detector.training.run_folder import read_run, Run

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


def badge(origin: LabelOrigin) -> str:
    """Return a mark for the page's head if the data are simulated."""
    return '<span class="badge">simulated data</span>' if origin.simulated else ''


def data_section(data: Mapping[str, Mapping[str, Any]], folders: Mapping[str, str | None],
                 origin: LabelOrigin) -> str:
    """
    Return counts by split.

    :param data: by split: sources, frames, attempts, success_frames.
    :param folders: where the data sets were, by what they were used for.
    :param origin: of the test frames' labels.
    """
    most = max([1, *(of['frames'] for of in data.values())])
    rows = []
    for split in (split for split in SPLITS if split in data):
        of = data[split]
        success, frames = of['success_frames'], of['frames']
        rows.append([split, str(of['attempts']), str(frames), str(success),
                     str(frames - success),
                     f'<div class="bar"><i style="width:{success / most:.1%}"></i>'
                     f'<i style="width:{(frames - success) / most:.1%}"></i></div>',
                     escape(', '.join(of['sources']))])
    return section(
        'Data', f'{origin.text} Attempts are never divided between splits.',
        table(['split', 'attempts', 'frames', 'success', 'failure', '', 'sources'], rows),
        label_key(), *(f'<p class="soft small">{escape(use)}: <code>{escape(folder)}</code></p>'
                       for use, folder in folders.items() if folder is not None))


def write_report(run: Path) -> Path:
    """
    Write ``report.html`` into a finished run folder, over an earlier one.

    :returns: the page's path.
    :raises RunError: no finished run folder.
    :raises CheckpointError: its checkpoint cannot be loaded.
    """
    path = run / 'report.html'
    write_whole(path, report_page(read_run(run)).encode())
    return path


def report_page(run: Run) -> str:
    """Return the page's HTML."""
    metrics, test = run.metrics, run.of('test')
    threshold, origin = metrics['threshold'], label_origin(run.test_dataset)
    data = f'{"simulated " if origin.simulated else ""}test'
    return page(
        f'{run.name}: training report', _title(run, origin),
        headline(metrics['test'], data, metrics['max_false_positive_rate']),
        confusion_section(metrics['test'], data),
        trade_off_section(test, threshold, data),
        calibration_section(test, metrics['test'], metrics['temperature'], data),
        error_section(test, threshold, Checkpoint.open(run.checkpoint),
                      frame_from(run.test_dataset), data),
        training_section(run.epochs, run.summary['best_epoch']),
        all_numbers({'validation': metrics['val'], 'test': metrics['test']}),
        data_section(run.summary['data'], _folders(run), origin),
        _layers(run.summary), _recipe(run))


def _title(run: Run, origin: LabelOrigin) -> str:
    about = run.summary
    minutes = about['seconds'] / 60
    took = f'{about["seconds"]:.0f} s' if minutes < 2 else f'{minutes:.0f} min'
    parts = [about['architecture'], f'{about["epochs_run"]} epochs in {took}',
             f'{sum(about["parameters"].values()) / 1e6:.2f} M parameters',
             f'judged on {about["device"]}']
    return (f'<h1>{escape(run.name)}</h1><p class="soft">{escape(" · ".join(parts))} '
            f'{badge(origin)}</p>')


def _folders(run: Run) -> dict[str, str | None]:
    train, test = run.summary['dataset'], run.summary['test_dataset']
    return {'all': train} if train == test else {'train and val': train, 'test': test}


def _layers(about: Mapping[str, Any]) -> str:
    lists = ''.join(
        f'<details><summary>{len(about[kind])} {title}, {about["parameters"][count]:,} '
        f'values</summary><div class="columns small">'
        + ''.join(f'<code>{escape(name)}</code><br>' for name in about[kind])
        + '</div></details>'
        for kind, count, title in (('frozen', 'frozen', 'frozen parameters'),
                                   ('trainable', 'trainable', 'trainable parameters')))
    return section('Layers', 'Frozen parameters keep the pre-trained weights, and their BatchNorm '
                   'its statistics; the others learnt.', lists)


def _recipe(run: Run) -> str:
    config = yaml.safe_dump(dict(run.config), sort_keys=False)
    rows = [[escape(name), escape(str(version))]
            for name, version in run.summary['versions'].items()]
    return section('Recipe and versions', 'What is needed to repeat this training.',
                   f'<div class="split"><div><pre>{escape(config)}</pre></div>'
                   f'<div>{table(["", "version"], rows)}</div></div>')
