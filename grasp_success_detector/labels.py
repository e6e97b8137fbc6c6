"""The words for what a frame shows and what the detector says."""

from enum import Enum, IntEnum


class Label(IntEnum):
    """Ground truth of one frame; the value is the class index of every classifier."""

    FAILURE = 0
    SUCCESS = 1


#: Class names in index order, as stored in checkpoints and used as folder names.
CLASS_NAMES = tuple(label.name.lower() for label in Label)


class Verdict(Enum):
    """What the detector says; UNKNOWN when it has no ground to say either."""

    FAILURE = 'failure'
    SUCCESS = 'success'
    UNKNOWN = 'unknown'
