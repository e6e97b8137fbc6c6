"""One self-contained HTML page about a finished training."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from grasp_success_detector import checkpoint
from grasp_success_detector.data.frame_writer import write_atomically
from grasp_success_detector.evaluation.curve_sections import (
    calibration_section,
    trade_off_section,
)
from grasp_success_detector.evaluation.data_section import (
    badge,
    data_section,
    label_origin,
    LabelOrigin,
)
from grasp_success_detector.evaluation.error_section import error_section, frame_from
from grasp_success_detector.evaluation.number_sections import (
    all_numbers,
    confusion_section,
    headline,
)
from grasp_success_detector.evaluation.run_folder import read_run, Run
from grasp_success_detector.evaluation.training_section import training_section
from grasp_success_detector.html_page import page, section, table


def write_report(run: Path) -> Path:
    """
    Write ``report.html`` into a finished run folder, over an earlier one.

    :returns: the page's path.
    :raises RunError: no finished run folder.
    :raises CheckpointError: its checkpoint cannot be loaded.
    """
    path = run / 'report.html'
    write_atomically(path, report_page(read_run(run)).encode())
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
        error_section(test, threshold, checkpoint.load(run.checkpoint),
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
