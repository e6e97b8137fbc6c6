"""Run a classifier over recordings and data sets; images are decoded while the network works."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.datasets.torch_dataset import prepare
from grasp_success_detector.datasets.workers import usable_cores
from grasp_success_detector.decision import DecisionConfig, Reason
from grasp_success_detector.evaluation.attempts import Judged
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.images import visibility
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.inference.classifier import BATCH_SIZE, GraspClassifier
from grasp_success_detector.inference.hand_finder import View
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.familiarity import FAMILIARITY_QUANTILE
from grasp_success_detector.recordings.reader import ChosenFrame, RefusedFrame

#: For attempts that are recorded as a few frames only: one frame is enough for a verdict.
SPARSE = DecisionConfig(min_frames=1)

#: Attempts with more frames than this were recorded continuously, and are decided as by the node.
_CONTINUOUS = 20

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


def logits_of(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
              description: str) -> NDArray[np.float32]:
    """
    Return the classifier's logits for every frame of a data set.

    :param description: text of the progress bar.
    :returns: float32 (N, 2), before temperature scaling.
    :raises DatasetError: a frame cannot be read.
    """
    logits = np.empty((len(frames), len(Label)), np.float32)
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task(description, total=len(frames))
        for start in range(0, len(frames), BATCH_SIZE):
            batch = frames[start:start + BATCH_SIZE]
            logits[start:start + len(batch)] = classifier.engine.logits(
                np.stack([prepare(frame, classifier.preprocessing) for frame in batch]))
            progress.advance(task, len(batch))
    return logits


def predictions_of(frames: Sequence[LabelledFrame], logits: NDArray[np.float32],
                   temperature: float, split: str) -> list[Prediction]:
    """
    Return the predictions for the frames of a split.

    :param logits: float32 (N, 2), as :func:`logits_of` returns them.
    :param temperature: divisor of the logits for the calibrated P(success).
    """
    calibrated, uncalibrated = (
        success_probabilities(logits, divisor).tolist() for divisor in (temperature, 1.))
    return [Prediction(split, frame.source, frame.attempt, frame.stamp_ns, frame.file,
                       frame.label, after, before)
            for frame, after, before in zip(frames, calibrated, uncalibrated, strict=True)]


def judge(classifier: GraspClassifier, recording: Recording,
          on_frames: Callable[[int], None] = lambda count: None,
          familiarity_quantile: float = FAMILIARITY_QUANTILE) -> Judged:
    """
    Return P(success) of every frame of a recording; memory does not grow with its length.

    :param on_frames: called with the number of frames just judged.
    :param familiarity_quantile: share of known frames that count as familiar; 0: all frames do.
    """
    logits = np.full((len(recording.frames), 2), np.nan, np.float32)
    index = {frame.number: i for i, frame in enumerate(recording.frames)}
    refused: Counter[str] = Counter()
    blind: dict[int, Reason] = {}
    # As the node does. The frames of a data set were chosen: they need not follow each other.
    # Pictures have no time in which they could be frozen.
    config = visibility.VisibilityConfig()
    check = None if recording.files is None else visibility.VisibilityCheck(
        config if recording.continuous else replace(config, frozen_after_s=0.))
    for batch in _batches(classifier, recording):
        inputs, places = [], []
        for frame, prepared in batch:
            if isinstance(prepared, RefusedFrame):
                refused[prepared.reason] += 1
            elif check and (reason := check.judge(prepared[1], frame.stamp_ns)):
                refused[reason.value] += 1
                blind[index[frame.number]] = reason
            elif prepared[0].no_hand:
                refused[Reason.NO_HAND.value] += 1
                blind[index[frame.number]] = Reason.NO_HAND
            else:
                places.append(index[frame.number])
                inputs.append(prepared[0].image)
        if inputs:
            logits[places] = classifier.engine.logits(np.stack(inputs))
            strange = classifier.unfamiliar(len(places), familiarity_quantile)
            for place in (place for place, odd in zip(places, strange, strict=True) if odd):
                refused[Reason.UNFAMILIAR.value] += 1
                blind[place] = Reason.UNFAMILIAR
        on_frames(len(batch))
    temperature = classifier.metadata.temperature
    return Judged(recording, success_probabilities(logits, temperature),
                  success_probabilities(logits), blind, dict(refused))


def unjudged(recording: Recording) -> Judged:
    """Return a recording whose frames no classifier has judged: times and labels alone."""
    nothing = np.full(len(recording.frames), np.nan, np.float32)
    return Judged(recording, nothing, nothing, {}, {})


def _batches(classifier: GraspClassifier, recording: Recording) -> Iterator[list[_Prepared]]:
    """Yield prepared images; some batches are made while earlier ones are judged."""
    def prepare_image(picture: RgbImage) -> _Input:
        # The region of interest is cut out where frames are decoded: only small images wait.
        return classifier.look(picture), visibility.appearance(picture)

    def read(frames: Sequence[ChosenFrame]) -> Iterator[_Prepared]:
        return recording.read(frames, prepare_image, classifier.preprocessing.half_suffices)

    threads = usable_cores()
    starts = range(0, len(recording.frames), BATCH_SIZE)
    work: Iterator[Callable[[], list[_Prepared]]]
    if recording.sequential:
        # One thread reads in sequence, one batch ahead.
        images, ahead = read(recording.frames), 1
        work = (lambda: list(islice(images, BATCH_SIZE)) for _ in starts)
    else:
        ahead = threads + 2
        work = (partial(lambda start: list(read(recording.frames[start:start + BATCH_SIZE])),
                        start) for start in starts)
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # these threads share the cores already
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[list[_Prepared]]] = deque()
    try:
        waiting.extend(pool.submit(task) for task in islice(work, ahead))
        while waiting:
            batch = waiting.popleft().result()
            waiting.extend(pool.submit(task) for task in islice(work, 1))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(opencv_threads)
