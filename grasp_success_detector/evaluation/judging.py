"""Run a classifier over recordings and data sets, in this process or in many."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.datasets.cores import ahead, one_opencv_thread, usable_cores
from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.datasets.torch_dataset import FrameDataset
from grasp_success_detector.datasets.workers import Task, Workers
from grasp_success_detector.decision import DecisionConfig, Reason
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.attempts import Judged, SPARSE
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.images import visibility
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.inference.classifier import BATCH_SIZE, GraspClassifier
from grasp_success_detector.inference.hand_finder import View
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.recordings.reader import ChosenFrame, RefusedFrame

#: Attempts with more frames than this were recorded continuously, and are decided as by the node.
_CONTINUOUS = 20

#: Frames that a worker process judges at a time: whole batches, so that the result is the same.
_PART_FRAMES = 8 * BATCH_SIZE

#: What the classifier is shown, and how the whole image looks.
_Input = tuple[View, visibility.Appearance]
_Prepared = tuple[ChosenFrame, _Input | RefusedFrame]


def decision_for(attempts: Sequence[str], threshold: float) -> DecisionConfig:
    """
    Return the node's settings, or ``SPARSE`` if attempts have 20 frames or fewer on average.

    :param attempts: for each frame the name of its attempt.
    """
    continuous = len(attempts) > _CONTINUOUS * len(set(attempts))
    return replace(DecisionConfig() if continuous else SPARSE, threshold=threshold)


class DatasetAnswers(NamedTuple):
    """
    What a classifier says of frames of a data set.

    :ivar logits: float32 (N, 2), before temperature scaling.
    :ivar features: pooled features and mean logits, float32 (N, C + 1), of which familiarity is
        computed; None for an architecture that has none.
    :ivar no_hand: bool (N,), whether a hand was looked for and none found.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None
    no_hand: NDArray[np.bool_]


def answers_of(classifier: GraspClassifier, frames: FrameDataset, description: str,
               most: int | None = None) -> DatasetAnswers:
    """
    Return what a classifier says of frames of a data set.

    :param description: text of the progress bar.
    :param most: the most frames that are judged, spread evenly over all; None: all are.
    :raises DatasetError: a frame cannot be read.
    """
    count = len(frames.frames)
    numbers = range(0, count, 1 if most is None else max(1, -(-count // most)))
    logits = np.empty((len(numbers), len(Label)), np.float32)
    no_hand = np.empty(len(numbers), np.bool_)
    features = []
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task(description, total=len(numbers))
        parts = (slice(start, start + BATCH_SIZE) for start in range(0, len(numbers), BATCH_SIZE))
        for part, views in ahead((part, frames.views(numbers[part])) for part in parts):
            logits[part] = classifier.engine.logits(np.stack([seen.image for seen in views]))
            no_hand[part] = [seen.no_hand for seen in views]
            if classifier.engine.features is not None:
                features.append(classifier.engine.features)
            progress.advance(task, len(views))
    return DatasetAnswers(logits, np.concatenate(features) if features else None, no_hand)


def predictions_of(frames: Sequence[LabelledFrame], logits: NDArray[np.float32],
                   temperature: float, split: str) -> list[Prediction]:
    """
    Return the predictions for the frames of a split.

    :param logits: float32 (N, 2), as :func:`answers_of` returns them.
    :param temperature: divisor of the logits for the calibrated P(success).
    """
    calibrated, uncalibrated = (
        success_probabilities(logits, divisor).tolist() for divisor in (temperature, 1.))
    return [Prediction(split, frame.source, frame.attempt, frame.stamp_ns, frame.file,
                       frame.label, after, before)
            for frame, after, before in zip(frames, calibrated, uncalibrated, strict=True)]


class Answers(NamedTuple):
    """
    What a classifier says of some frames of a recording, which do not depend on others.

    :ivar logits: float32 (N, 2); NaN where the frame cannot be decoded or shows no hand.
    :ivar looks: how each frame looks, or why it cannot be decoded.
    :ivar blind: why a frame that can be decoded is not judged all the same.
    """

    frames: Sequence[ChosenFrame]
    logits: NDArray[np.float32]
    looks: list[visibility.Appearance | str]
    blind: list[Reason | None]


@dataclass(frozen=True)
class SharedClassifier:
    """
    A classifier that worker processes open by themselves, once each.

    :ivar path: absolute path of the checkpoint, which all of them see.
    :ivar sha256: of the checkpoint, which may not change meanwhile.
    :ivar options: further arguments of :class:`GraspClassifier`, as pairs.
    """

    path: Path
    sha256: str
    options: tuple[tuple[str, Any], ...]

    def open(self) -> tuple[GraspClassifier, Lock]:
        """Return the classifier of this process, and the lock for its network."""
        return _opened(self)


@lru_cache(2)
def _opened(shared: SharedClassifier) -> tuple[GraspClassifier, Lock]:
    checkpoint = Checkpoint.open(shared.path)
    if checkpoint.sha256 != shared.sha256:
        raise ConfigError(f'{shared.path}: is another checkpoint for a worker, or was replaced')
    return GraspClassifier(checkpoint, **dict(shared.options)), Lock()


def judge(classifier: GraspClassifier, recording: Recording,
          on_frames: Callable[[int], None] = lambda count: None,
          familiarity_quantile: float = FAMILIARITY_QUANTILE) -> Judged:
    """
    Return P(success) of every frame of a recording; memory does not grow with its length.

    :param on_frames: called with the number of frames just judged.
    :param familiarity_quantile: share of known frames that count as familiar; 0: all frames do.
    """
    def answers() -> Iterator[Answers]:
        for batch in _batches(classifier, recording):
            yield _answers(classifier, batch, familiarity_quantile)
            on_frames(len(batch))

    return _judged(recording, answers(), classifier.metadata.temperature)


def judge_all(shared: SharedClassifier, temperature: float, recordings: Sequence[Recording],
              workers: Workers, on_frames: Callable[[int], None],
              familiarity_quantile: float) -> tuple[list[Judged], str]:
    """
    Do what :func:`judge` does for all recordings, with worker processes of one core each.

    :returns: what :func:`judge` returns for each recording, and the engines that judged.
    """
    tasks = [[partial(_judge_part, shared, part, familiarity_quantile)
              for part in _parts(recording)] for recording in recordings]
    answers: dict[Task, list[Answers]] = {}
    engines = set()
    for task, (engine, made) in workers.run(deque(chain.from_iterable(tasks)),
                                            reads=lambda task: task.args[1].paths):
        answers[task] = made
        engines.add(engine)
        on_frames(sum(len(each.frames) for each in made))
    return [_judged(recording, chain.from_iterable(answers[task] for task in parts), temperature)
            for recording, parts in zip(recordings, tasks, strict=True)
            ], ' and '.join(sorted(engines))


def _parts(recording: Recording) -> Iterator[Recording]:
    """Yield parts of a recording, by absolute paths, as workers may run in another folder."""
    whole = replace(recording, path=recording.path.absolute(), files=recording.files and tuple(
        replace(file, path=file.path.absolute()) for file in recording.files))
    # A video is read from its start each time, so that it is one part.
    size = len(recording.frames) if recording.sequential else _PART_FRAMES
    for start in range(0, len(recording.frames), size):
        yield replace(whole, frames=recording.frames[start:start + size])


def _judge_part(shared: SharedClassifier, part: Recording, familiarity_quantile: float,
                ) -> tuple[str, list[Answers]]:
    classifier, lock = shared.open()
    prepared, made = _reading(classifier, part)(part.frames), []
    while batch := list(islice(prepared, BATCH_SIZE)):
        with lock:  # workers of a cluster may have several threads
            made.append(_answers(classifier, batch, familiarity_quantile))
    return str(classifier.engine), made


def _answers(classifier: GraspClassifier, batch: Sequence[_Prepared],
             familiarity_quantile: float) -> Answers:
    logits = np.full((len(batch), 2), np.nan, np.float32)
    blind: list[Reason | None] = [
        None if isinstance(seen, RefusedFrame) or not seen[0].no_hand else Reason.NO_HAND
        for _, seen in batch]
    shown = {i: seen[0].image for i, (_, seen) in enumerate(batch)
             if not (isinstance(seen, RefusedFrame) or blind[i])}
    if shown:
        logits[[*shown]] = classifier.engine.logits(np.stack([*shown.values()]))
        for i, strange in zip(shown, classifier.unfamiliar(len(shown), familiarity_quantile),
                              strict=True):
            blind[i] = Reason.UNFAMILIAR if strange else None
    return Answers([frame for frame, _ in batch], logits, [
        seen.reason if isinstance(seen, RefusedFrame) else seen[1] for _, seen in batch], blind)


def _judged(recording: Recording, answers: Iterable[Answers], temperature: float) -> Judged:
    """Put answers, in recorded order, together; only here are frames compared with each other."""
    logits = np.full((len(recording.frames), 2), np.nan, np.float32)
    index = {frame.number: i for i, frame in enumerate(recording.frames)}
    refused: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    blind: dict[int, Reason] = {}
    # As the node does. The frames of a data set were chosen: they need not follow each other.
    # Pictures have no time in which they could be frozen.
    config = visibility.VisibilityConfig()
    check = None if recording.files is None else visibility.VisibilityCheck(
        config if recording.continuous else replace(config, frozen_after_s=0.))
    for batch in answers:
        for frame, said, look, unseen in zip(*batch, strict=True):
            if isinstance(look, str):
                refused[look] += 1
                if file := recording.file_of(frame):
                    unreadable[file] = look
                continue
            hidden = check and check.judge(look, frame.stamp_ns)
            if reason := hidden or unseen:
                refused[reason.value] += 1
                blind[index[frame.number]] = reason
            if not hidden:
                logits[index[frame.number]] = said
    return Judged(recording, success_probabilities(logits, temperature),
                  success_probabilities(logits), blind, dict(refused), unreadable)


def unjudged(recording: Recording) -> Judged:
    """Return a recording whose frames no classifier has judged: times and labels alone."""
    nothing = np.full(len(recording.frames), np.nan, np.float32)
    return Judged(recording, nothing, nothing, {}, {})


def _batches(classifier: GraspClassifier, recording: Recording) -> Iterator[list[_Prepared]]:
    """Yield prepared images; some batches are made while earlier ones are judged."""
    read = _reading(classifier, recording)
    if recording.sequential:    # one thread reads in sequence
        images = read(recording.frames)
        with one_opencv_thread():
            yield from ahead(iter(lambda: list(islice(images, BATCH_SIZE)), []))
        return
    threads = usable_cores()
    work = (partial(lambda start: list(read(recording.frames[start:start + BATCH_SIZE])), start)
            for start in range(0, len(recording.frames), BATCH_SIZE))
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[list[_Prepared]]] = deque()
    with one_opencv_thread():   # these threads share the cores already
        try:
            waiting.extend(pool.submit(task) for task in islice(work, threads + 2))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(task) for task in islice(work, 1))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _reading(classifier: GraspClassifier, recording: Recording,
             ) -> Callable[[Sequence[ChosenFrame]], Iterator[_Prepared]]:
    """Return what reads frames and prepares them for the classifier."""
    def prepare_image(picture: RgbImage) -> _Input:
        # The region of interest is cut out where frames are decoded: only small images wait.
        return classifier.look(picture), visibility.appearance(picture)

    return lambda frames: recording.read(frames, prepare_image,
                                         classifier.preprocessing.half_suffices)
