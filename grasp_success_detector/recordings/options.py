"""Everything that decides what an extraction takes and how it writes it."""

from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path
from typing import Any

from grasp_success_detector.datasets.splits import SPLITS
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.bags import GROUND_TRUTH_TOPIC

FORMATS = ('jpg', 'png')
SPLIT_BY = ('attempt', 'source')


@dataclass(frozen=True)
class OutputOptions:
    """
    What is done to a frame on its way into the data set.

    :ivar roi: x, y, width, height; fractions of the picture if none is above 1, else pixels.
    :ivar resize: width, height in pixels.
    :ivar format: ``jpg`` or ``png``; frames that have it already are copied byte for byte.
    :ivar quality: of jpg, 1 to 100.
    """

    roi: tuple[float, float, float, float] | None = None
    resize: tuple[int, int] | None = None
    format: str = 'jpg'
    quality: int = 95

    def __post_init__(self) -> None:
        wrong = []
        if self.format not in FORMATS:
            wrong.append(f'format {self.format} (expected {" or ".join(FORMATS)})')
        if not 1 <= self.quality <= 100:
            wrong.append(f'quality {self.quality} (expected 1 to 100)')
        if self.resize is not None and min(self.resize) < 1:
            wrong.append(f'resize {self.resize} (expected width x height, 1 or more each)')
        if self.roi is not None:
            x, y, width, height = self.roi
            relative = max(self.roi) <= 1
            if (not all(map(math.isfinite, self.roi)) or min(x, y) < 0 or min(width, height) <= 0
                    or (relative and (x + width > 1 + 1e-9 or y + height > 1 + 1e-9))):
                wrong.append(f'roi {self.roi} (expected x, y, width, height within the picture: '
                             'fractions of 1, or pixels)')
        if wrong:
            raise ConfigError('cannot extract with ' + ', '.join(wrong))


@dataclass(frozen=True)
class ExtractionOptions:
    """
    What is taken from the sources, and how the data set is divided.

    Times are on the recording's clock, from the source's first frame; jumps of that clock are
    taken out.

    :ivar topic: image topic; None where each bag has one only.
    :ivar label: one label for everything.
    :ivar labels: CSV of intervals.
    :ivar label_topic: ``std_msgs/Bool``; a frame has the label of the latest message.
    :ivar label_hold_s: for how long a message counts; 0: only for a frame recorded at its very
        time; None: 0 for the simulation's own topic, without end for others.
    :ivar fps: at most so many frames per second.
    :ivar every: every n-th frame only.
    :ivar attempt_gap_s: so long without a frame begins a new attempt, in sources that do not
        say themselves where their attempts begin.
    :ivar split: fractions of the attempts for train, val and test.
    :ivar dedupe: leave out frames that look like an earlier one of the same label.
    """

    topic: str | None = None
    label: str | None = None
    labels: Path | None = None
    label_topic: str | None = None
    label_hold_s: float | None = None
    fps: float | None = None
    every: int = 1
    start_s: float | None = None
    end_s: float | None = None
    attempt_gap_s: float | None = None
    split: tuple[float, float, float] = (.7, .15, .15)
    split_by: str = 'attempt'
    seed: int = 0
    dedupe: bool = False
    output: OutputOptions = OutputOptions()

    def __post_init__(self) -> None:
        given = [name for name in ('label', 'labels', 'label_topic')
                 if getattr(self, name) is not None]
        labels = [label.name.lower() for label in Label]
        wrong = [f'{name} (expected {expected})' for name, good, expected in (
            (f'labels from {" and ".join(given)}', len(given) < 2, 'one of them'),
            (f'label {self.label}', self.label in (None, *labels), ' or '.join(labels)),
            (f'fps {self.fps}', self.fps is None or 0 < self.fps < math.inf, 'above 0'),
            (f'every {self.every}', self.every >= 1, '1 or more'),
            ('fps together with every', self.fps is None or self.every == 1, 'one of them'),
            (f'start {self.start_s or 0.}, end {self.end_s}', (self.start_s or 0.) < (
                math.inf if self.end_s is None else self.end_s), 'start below end'),
            (f'attempt gap {self.attempt_gap_s}',
             self.attempt_gap_s is None or 0 < self.attempt_gap_s < math.inf, 'above 0'),
            (f'label hold {self.label_hold_s}',
             self.label_hold_s is None or self.label_hold_s >= 0, '0 or more'),
            (f'split {"/".join(map(str, self.split))}',
             len(self.split) == len(SPLITS) and min(self.split) >= 0
             and abs(sum(self.split) - 1) < 1e-6, 'three fractions that add up to 1'),
            (f'split by {self.split_by}', self.split_by in SPLIT_BY, ' or '.join(SPLIT_BY)),
            (f'seed {self.seed}', self.seed >= 0, '0 or more')) if not good]
        if wrong:
            raise ConfigError('cannot extract with ' + ', '.join(wrong))

    def truth_topic(self) -> str | None:
        """Return the topic that labels come from; None where they come from elsewhere."""
        if self.label is not None or self.labels is not None:
            return None
        return self.label_topic or GROUND_TRUTH_TOPIC

    def hold_ns(self) -> float:
        """Return for how long a label message counts, in ns."""
        if self.label_hold_s is not None:
            return self.label_hold_s * 1e9
        return 0. if self.truth_topic() == GROUND_TRUTH_TOPIC else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return all options as JSON has them; equal for equal options."""
        values = asdict(self) | {'labels': self.labels and str(self.labels.resolve())}
        if self.labels is not None:
            try:
                values['labels_text'] = self.labels.read_text(encoding='utf-8-sig')
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f'{self.labels}: cannot be read ({error})') from error
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain
