"""The part of a report that says which data it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from grasp_success_detector.data.manifest import read_marker
from grasp_success_detector.data.splits import SPLITS
from grasp_success_detector.data.topics import GROUND_TRUTH_TOPIC
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.html_page import label_key, section, table


@dataclass(frozen=True)
class LabelOrigin:
    """
    Where the labels of a data set come from.

    :ivar simulated: the data set says that the simulation gave them, and so the pictures.
    :ivar text: a sentence.
    """

    simulated: bool
    text: str


def label_origin(dataset: Path | None) -> LabelOrigin:
    """Ask a data set where its labels come from; that it is gone is an answer as well."""
    try:
        plan = {} if dataset is None else read_marker(dataset).get('plan')
    except DatasetError:
        return LabelOrigin(False, f'The data set is no longer at {dataset}, so that this page '
                                  'cannot tell where its labels come from.')
    if not plan:
        return LabelOrigin(False, 'The data set does not tell where its labels come from.')
    for field, text in (('labels', 'Labels from intervals in {}.'),
                        ('label', 'All frames were labelled {}.'),
                        ('label_topic', 'Labels from the topic {}.')):
        if plan.get(field) is not None:
            return LabelOrigin(False, text.format(plan[field]))
    # Only bags of the simulation need not be told where their labels are.
    return LabelOrigin(True, f'Simulated attempts: labels from the topic {GROUND_TRUTH_TOPIC} of '
                             'the simulation. No picture is a photograph.')


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
