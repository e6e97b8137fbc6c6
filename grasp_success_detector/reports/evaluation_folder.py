"""The folder that an evaluation leaves: numbers, predictions, report, doubtful frames."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import csv
import io
import json
import os
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.attempts import AttemptResult, FrameVerdict
from grasp_success_detector.evaluation.evaluation import Evaluation
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.label_errors import Suspicion
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.recordings.sources import safe_name
from grasp_success_detector.reports.annotated_video import write_videos
from grasp_success_detector.reports.evaluation_report import Additions, evaluation_page
from grasp_success_detector.reports.pictures import key_of, read_pictures
from grasp_success_detector.reports.timeline import worst_first

#: Pictures written of each doubtful stretch.
_MOST_FRAMES = 12

_LABEL_ERRORS = 'label_errors'


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """
    Give a folder that gets its name when the block ends well; else it is gone.

    :raises ConfigError: the name is taken, or the folder cannot be made.
    """
    if out.exists():
        raise ConfigError(f'{out}: exists already and is not overwritten; choose another --out')
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f'{out}: cannot be made ({error.strerror})') from error
        yield partial
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_evaluation(evaluation: Evaluation, folder: Path, timelines: int, videos: int = 0,
                     first: Sequence[str] = ()) -> None:
    """
    Write an evaluation's files.

    :param timelines: so many attempts are shown over time, at most.
    :param videos: so many attempts get an annotated video, the worst ones.
    :raises ConfigError: this OpenCV cannot write videos.
    :param first: HTML sections to show first.
    """
    (folder / 'metrics.json').write_text(json.dumps(evaluation.to_json(), indent=1) + '\n')
    (folder / 'predictions.csv').write_text(predictions_csv(evaluation.attempts))
    links = _write_doubtful(evaluation.recordings, evaluation.suspicions, folder)
    (folder / f'{_LABEL_ERRORS}.csv').write_text(_csv(
        ['attempt', 'source', 'label', 'frames', 'start_s', 'end_s', 'believed', 'pictures'],
        ([*suspicion.to_json().values(), links.get(suspicion.attempt, '')]
         for suspicion in evaluation.suspicions)))
    if videos:
        (folder / 'videos').mkdir()
        write_videos(evaluation.recordings, worst_first(evaluation.attempts)[:videos],
                     evaluation.decision.threshold, folder / 'videos')
    (folder / 'report.html').write_text(
        evaluation_page(evaluation, timelines, Additions(first, links)))


def predictions_csv(attempts: Iterable[AttemptResult]) -> str:
    """Return every frame with P(success) and the verdict after it, as CSV."""
    return _csv(FrameVerdict._fields, (
        frame[:5] + ('' if frame.label is None else frame.label.name.lower(), *frame[6:8],
                     frame.verdict.value, '' if frame.reason is None else frame.reason.value,
                     frame.window_probability)
        for attempt in attempts for frame in attempt.frames))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _write_doubtful(recordings: Sequence[Recording], suspicions: Sequence[Suspicion],
                    folder: Path) -> Mapping[str, str]:
    """Write frames of the stretches to look at; return each attempt's folder, with a slash."""
    links: dict[str, str] = {}
    for suspicion in suspicions:
        step = -(-len(suspicion.frames) // _MOST_FRAMES)
        wanted = suspicion.frames[::step]
        pictures = read_pictures(recordings, wanted, encode_jpeg)
        if not pictures:
            continue
        place = f'{_LABEL_ERRORS}/{safe_name(suspicion.attempt)}'
        (folder / place).mkdir(parents=True, exist_ok=True)
        for frame in wanted:
            if key_of(frame) in pictures:
                (folder / place / f'{frame.stamp_ns}.jpg').write_bytes(pictures[key_of(frame)])
        links[suspicion.attempt] = f'{place}/'
    return links
