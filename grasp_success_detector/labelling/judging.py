"""Judge attempts with a checkpoint in the background, the one on the page first."""

from collections.abc import Mapping
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from grasp_success_detector.errors import GraspSuccessDetectorError, one_line
from grasp_success_detector.labelling import BACKGROUND
from grasp_success_detector.labelling.frame_cache import FrameCache
from grasp_success_detector.labelling.hand import Hands
from grasp_success_detector.labelling.marks import Mark, SourceMarks, Span
from grasp_success_detector.labelling.suggestions import curve_frames, suggest, Suggestion

if TYPE_CHECKING:   # loads torch, for which the page does not wait
    from grasp_success_detector.inference.classifier import GraspClassifier

#: Attempts of one or a few frames are judged together, up to this many frames at once.
_BATCH = 16


class Judging:
    """
    P(success) of the attempts, one thread computes it; its methods may be called from any thread.

    :param sources: sources as they are labelled; may change at any time.
    :param pictures: reads their frames.
    :param checkpoint: checkpoint to begin with.
    :param hands: joint states of the recordings, which take part in what is suggested.
    :ivar checkpoint: checkpoint that judges.
    :ivar failure: why nothing can be judged, '' if it can.
    :ivar version: grows with every judged attempt.
    :ivar threshold: the checkpoint's threshold; 0.5 before it is loaded.
    :ivar thread: the thread.
    """

    def __init__(self, sources: Mapping[str, SourceMarks], pictures: FrameCache,
                 checkpoint: Path, hands: Hands) -> None:
        self._sources, self._pictures, self._hands = sources, pictures, hands
        self.checkpoint, self.failure, self.version, self.threshold = checkpoint, '', 0, .5
        self._curves: dict[str, dict[int, float | None]] = {}
        self._suggestions: dict[tuple[str, Span], Suggestion | None] = {}
        self._current: tuple[str, Span] | None = None
        self._classifier: GraspClassifier | None = None
        self._ended, self._changed = False, Condition()
        self.thread = Thread(target=self._run, name=f'{BACKGROUND}judging', daemon=True)

    def start(self) -> None:
        """Begin to judge."""
        self.thread.start()

    def close(self) -> None:
        """Stop after what is judged at the moment."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def use(self, checkpoint: Path) -> None:
        """Judge everything again, with another checkpoint."""
        with self._changed:
            self.checkpoint, self._classifier, self.failure = checkpoint, None, ''
            self._curves, self._suggestions = {}, {}    # they are the earlier checkpoint's
            self.version += 1
            self._changed.notify_all()

    def show(self, key: str, span: Span) -> None:
        """Judge this attempt next."""
        with self._changed:
            self._current = key, span
            self._changed.notify_all()

    def wake(self) -> None:
        """Look for attempts that are not judged: a source was added, cut, or has grown."""
        with self._changed:
            self._changed.notify_all()

    def curve(self, key: str) -> dict[int, float | None]:
        """Return P(success) of the judged frames of a source, by frame; None: not readable."""
        with self._changed:
            return dict(self._curves.get(key, {}))

    def suggestions(self) -> dict[tuple[str, Span], Suggestion | None]:
        """Return the suggestion of each judged attempt."""
        with self._changed:
            return dict(self._suggestions)

    def suggestion(self, key: str, span: Span) -> Suggestion | None:
        """Return the suggestion of an attempt, None before it is judged."""
        with self._changed:
            return self._suggestions.get((key, span))

    def progress(self) -> tuple[int, int]:
        """Return the numbers of judged attempts, and of all."""
        spans = self._spans()
        with self._changed:
            return sum(item in self._suggestions for item in spans), len(spans)

    def _spans(self) -> list[tuple[str, Span]]:
        return [(key, span) for key, marks in list(self._sources.items())
                for span in marks.spans()]

    def _run(self) -> None:
        while not self._ended:
            try:
                if self._classifier is None and not self.failure:
                    self._load()
                todo = [] if self.failure else self._next()
                if todo:
                    self._judge(todo)
                    continue
            except (GraspSuccessDetectorError, OSError) as error:
                self.failure = one_line(error)
            with self._changed:
                self._changed.wait(timeout=5)

    def _load(self) -> None:
        from grasp_success_detector.inference.classifier import GraspClassifier
        checkpoint = self.checkpoint
        # One thread: the page and the person need the other cores.
        classifier = GraspClassifier.from_checkpoint(
            checkpoint, threads=1, engine='auto', precision='auto')
        with self._changed:
            if checkpoint == self.checkpoint:
                self._classifier, self.threshold = classifier, classifier.threshold
                self._curves, self._suggestions = {}, {}
                self.version += 1

    def _next(self) -> list[tuple[str, Span]]:
        """Return what to judge next: the attempt on the page, then those without labels."""
        with self._changed:
            judged, current = set(self._suggestions), self._current
        left = [item for item in self._spans() if item not in judged]
        if current in left and current is not None:
            return [current]
        left.sort(key=lambda item: Mark.NONE.value not in
                  self._sources[item[0]].marks[item[1].start:item[1].end])
        chosen: list[tuple[str, Span]] = []
        for key, span in left:
            if chosen and (key != chosen[0][0] or sum(
                    s.end - s.start for _, s in chosen) + span.end - span.start > _BATCH):
                break
            chosen.append((key, span))
        return chosen

    def _judge(self, items: list[tuple[str, Span]]) -> None:
        classifier = self._classifier
        assert classifier is not None
        key = items[0][0]
        frames = sorted({frame for _, span in items for frame in curve_frames(span)})
        curve: dict[int, float | None] = dict.fromkeys(frames)
        prepared = {frame: classifier.prepare([picture])[0] for frame, picture in zip(
            frames, self._pictures.pictures(key, frames), strict=True) if picture is not None}
        if prepared:
            import numpy as np
            found = classifier.predict_prepared(np.stack(list(prepared.values())))
            curve.update(zip(prepared, found.tolist(), strict=True))
        curve, threshold = self._hands.fuse(key, curve, classifier.threshold)
        with self._changed:
            if classifier is not self._classifier:
                return  # another checkpoint judges by now
            known = self._curves.setdefault(key, {})
            known.update(curve)
            for _, span in items:
                self._suggestions[key, span] = suggest(span, known, threshold)
            self.version += 1


