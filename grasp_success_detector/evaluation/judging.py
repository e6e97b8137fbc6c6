"""Let a classifier judge recordings: pictures are decoded while the network is at work."""


from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from grasp_success_detector.console import progress_bar
from grasp_success_detector.datasets.dataset import LabelledFrame
from grasp_success_detector.datasets.torch_dataset import prepare
from grasp_success_detector.datasets.workers import usable_cores
from grasp_success_detector.decision import DecisionConfig, Reason
from grasp_success_detector.evaluation.frame_sources import Recording
from grasp_success_detector.evaluation.predictions import Prediction
from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.visibility import (
    Appearance,
    appearance,
    VisibilityCheck,
    VisibilityConfig,
)
from grasp_success_detector.inference.classifier import BATCH_SIZE, GraspClassifier
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.recordings.reader import ChosenFrame, RefusedFrame

#: An attempt with more frames than this was filmed as a whole, and is decided as the node does.
_FILMED = 20


def ask(classifier: GraspClassifier, frames: Sequence[LabelledFrame],
        description: str) -> NDArray[np.float32]:
    """
    Return the classifier's logits for every frame.

    :param description: of the frames, for the progress bar.
    :returns: float32 (N, 2), before the checkpoint's temperature.
    :raises DatasetError: a frame cannot be read.
    """
    logits = np.empty((len(frames), len(Label)), np.float32)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(description, total=len(frames))
        for start in range(0, len(frames), BATCH_SIZE):
            batch = frames[start:start + BATCH_SIZE]
            logits[start:start + len(batch)] = classifier.engine.logits(
                np.stack([prepare(frame, classifier.preprocessing) for frame in batch]))
            progress.advance(task, len(batch))
    return logits


def predictions_of(frames: Sequence[LabelledFrame], logits: NDArray[np.float32],
                   temperature: float, split: str) -> list[Prediction]:
    """Put frames and the answers to them together; parameters as of :func:`ask`."""
    calibrated, uncalibrated = (
        success_probabilities(logits, divisor).tolist() for divisor in (temperature, 1.))
    return [Prediction(split, frame.source, frame.attempt, frame.stamp_ns, frame.file,
                       frame.label, after, before)
            for frame, after, before in zip(frames, calibrated, uncalibrated, strict=True)]


class OfAttempt(Protocol):
    """A frame that knows its attempt."""

    @property
    def attempt(self) -> str:
        """Return the attempt's name."""


def decision_for(frames: Sequence[OfAttempt], threshold: float) -> DecisionConfig:
    """Return how attempts are decided: as the node does, or on what few frames there are."""
    filmed = len(frames) > _FILMED * len({frame.attempt for frame in frames})
    return replace(DecisionConfig() if filmed else SPARSE, threshold=threshold)


#: For attempts that are recorded as a few frames only: the verdict rests on what there is.
SPARSE = DecisionConfig(min_frames=1)


OnFrames = Callable[[int], None]

#: The classifier's input made of a frame, RGB uint8 (h, w, 3), and how the frame looks.
_Input = tuple[NDArray[np.uint8], Appearance]
_Prepared = tuple[ChosenFrame, _Input | RefusedFrame]


@dataclass(frozen=True)
class Judged:
    """
    The answers to one recording.

    :ivar probabilities: P(success) of each frame, calibrated, float32 (N,); NaN where the picture
        could not be decoded, or nothing can be seen on it.
    :ivar uncalibrated: the same before temperature scaling.
    :ivar blind: frames, by their place, on which nothing can be seen, and why.
    :ivar refused: frames without P(success), by reason.
    """

    recording: Recording
    probabilities: NDArray[np.float32]
    uncalibrated: NDArray[np.float32]
    blind: dict[int, Reason]
    refused: dict[str, int]


class Judge:
    """A classifier at work on recordings; memory does not grow with their length."""

    def __init__(self, classifier: GraspClassifier) -> None:
        """Take a classifier."""
        self._classifier = classifier

    def judge(self, recording: Recording, on_frames: OnFrames = lambda count: None) -> Judged:
        """
        Judge every frame of a recording.

        :param on_frames: called with the number of frames just judged.
        """
        logits = np.full((len(recording.frames), 2), np.nan, np.float32)
        place = {frame.number: i for i, frame in enumerate(recording.frames)}
        refused: Counter[str] = Counter()
        blind: dict[int, Reason] = {}
        # As the node does. The frames of a data set were chosen: they need not follow each other.
        check = None if recording.files is None else VisibilityCheck(VisibilityConfig())
        for batch in self._batches(recording):
            inputs = []
            places = []
            for frame, prepared in batch:
                if isinstance(prepared, RefusedFrame):
                    refused[prepared.reason] += 1
                elif check and (reason := check.judge(prepared[1], frame.stamp_ns)):
                    refused[reason.value] += 1
                    blind[place[frame.number]] = reason
                else:
                    places.append(place[frame.number])
                    inputs.append(prepared[0])
            if inputs:
                logits[places] = self._classifier.engine.logits(np.stack(inputs))
            on_frames(len(batch))
        temperature = self._classifier.metadata.temperature
        return Judged(recording, success_probabilities(logits, temperature),
                      success_probabilities(logits), blind, dict(refused))

    def _prepare(self, picture: RgbImage) -> _Input:
        # The region of interest is cut out where frames are decoded: only small pictures wait.
        return self._classifier.preprocessing.crop_and_resize(picture), appearance(picture)

    def _batches(self, recording: Recording) -> Iterator[list[_Prepared]]:
        """Yield prepared pictures; some batches are made while earlier ones are judged."""
        threads = usable_cores()
        opencv_threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # these threads share the cores already
        pool = ThreadPoolExecutor(threads)
        waiting: deque[Future[list[_Prepared]]] = deque()
        work = self._tasks(recording)
        # What is read in sequence is read by one thread, a batch ahead.
        ahead = 1 if recording.sequential else threads + 2
        try:
            while True:
                while len(waiting) < ahead and (task := next(work, None)) is not None:
                    waiting.append(pool.submit(task))
                if not waiting:
                    return
                batch = waiting.popleft().result()
                if recording.sequential and not batch:
                    return
                if (task := next(work, None)) is not None:
                    waiting.append(pool.submit(task))
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            cv2.setNumThreads(opencv_threads)

    def _tasks(self, recording: Recording) -> Iterator[Callable[[], list[_Prepared]]]:
        frames = recording.frames
        if recording.sequential:
            pictures = self._pictures(recording, frames)
            while True:
                yield partial(_take, pictures)
        for start in range(0, len(frames), BATCH_SIZE):
            yield partial(self._read, recording, frames[start:start + BATCH_SIZE])

    def _read(self, recording: Recording, frames: Sequence[ChosenFrame]) -> list[_Prepared]:
        return list(self._pictures(recording, frames))

    def _pictures(self, recording: Recording, frames: Sequence[ChosenFrame],
                  ) -> Iterator[_Prepared]:
        return recording.read(frames, self._prepare, self._classifier.preprocessing.half_suffices)


def _take(pictures: Iterator[_Prepared]) -> list[_Prepared]:
    return list(islice(pictures, BATCH_SIZE))
