"""How an extraction writes frames and divides them into training, validation and test."""

from dataclasses import asdict, dataclass
from enum import Enum
import json
from typing import Any

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.settings import check_settings, setting


class PictureFormat(Enum):
    """File format of the frames."""

    JPG = 'jpg'
    PNG = 'png'


class SplitBy(Enum):
    """What is never divided between two splits."""

    ATTEMPT = 'attempt'
    SOURCE = 'source'


@dataclass(frozen=True)
class PictureOptions:
    """
    How a frame is cropped, resized and encoded.

    :ivar roi: x, y, width, height; fractions of the picture if none is above 1, else pixels.
    :ivar resize: width, height in pixels.
    :ivar format: frames that have it already are copied byte for byte.
    :ivar quality: of jpg.
    """

    roi: tuple[float, float, float, float] | None = setting(None, lowest=0)
    resize: tuple[int, int] | None = setting(None, lowest=1)
    format: PictureFormat = PictureFormat.JPG
    quality: int = setting(95, lowest=1, highest=100)

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'cannot extract with', (
            ('roi', self.roi is None or _within_the_picture(*self.roi),
             'x, y, width, height within the picture: fractions of 1, or pixels'),))


@dataclass(frozen=True)
class DatasetOptions:
    """
    How a data set is made from the selected frames.

    :ivar split: fractions of the attempts for train, val and test.
    :ivar seed: of the split.
    :ivar dedupe: leave out frames that look like an earlier one of the same label.
    """

    split: tuple[float, float, float] = setting((.7, .15, .15), lowest=0)
    split_by: SplitBy = SplitBy.ATTEMPT
    seed: int = setting(0, lowest=0)
    dedupe: bool = False
    output: PictureOptions = PictureOptions()

    def __post_init__(self) -> None:
        check_settings(self, ConfigError, 'cannot extract with', (
            ('split', abs(sum(self.split) - 1) < 1e-6, 'three fractions that add up to 1'),))

    def to_json(self) -> dict[str, Any]:
        """Return all options as JSON has them."""
        plain: dict[str, Any] = json.loads(json.dumps(
            asdict(self), default=lambda member: member.value))
        return plain


def _within_the_picture(x: float, y: float, width: float, height: float) -> bool:
    relative = max(x, y, width, height) <= 1
    return min(width, height) > 0 and (
        not relative or max(x + width, y + height) <= 1 + 1e-9)
