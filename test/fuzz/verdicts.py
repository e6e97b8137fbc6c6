"""Damaged pictures of failed attempts, judged by the default checkpoint as the node would."""

from collections import Counter
from collections.abc import Iterator
from random import Random

from fuzz.edits import apply, draw
from fuzz.targets import seeds
from grasp_success_detector.decision import DecisionConfig, WindowedDecider
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.labels import Verdict

_FRAME_NS = 66_666_667


class FailureStream:
    """A camera that shows failed attempts only, in pictures each of which was damaged."""

    def __init__(self) -> None:
        from grasp_success_detector.inference.classifier import GraspClassifier

        self._classifier = GraspClassifier.from_checkpoint(
            share_path(DEFAULT_CHECKPOINT), threads=1, engine='auto', precision='auto')
        self._decider = WindowedDecider(DecisionConfig(threshold=self._classifier.threshold))
        self._pictures = [path.read_bytes() for path in seeds('failure')]
        self._frames = 0

    def run(self, random: Random, judged: int, counts: 'Counter[str]',
            ) -> Iterator[tuple[bytes, str]]:
        """Judge this many pictures that can be decoded; yield each that leads to a SUCCESS."""
        done = 0
        while done < judged:
            data = apply(random.choice(self._pictures), draw(random))
            self._frames += 1
            now = self._frames * _FRAME_NS
            try:
                picture = decode_bytes(data)
            except ImageDecodeError:
                self._decider.observe_bad()
                counts['failure'] += 1
                continue
            probability = float(self._classifier.predict([picture])[0])
            self._decider.observe(now, probability, now)
            done += 1
            counts['judged'] += 1
            counts['judged above the threshold'] += probability >= self._classifier.threshold
            if self._decider.decide(now).verdict is Verdict.SUCCESS:
                yield data, f'SUCCESS; P(success) of this picture: {probability:.3f}'
