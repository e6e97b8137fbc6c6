"""Labels of frames (ground truth) and verdicts of the detector."""

from enum import Enum, IntEnum


class Label(IntEnum):
    """Ground truth of one frame; the value is the class index of every classifier."""

    FAILURE = 0
    SUCCESS = 1


#: Class names in index order, as stored in checkpoints and used as folder names.
CLASS_NAMES = tuple(label.name.lower() for label in Label)


class Verdict(Enum):
    """The detector's verdict; UNKNOWN if the frames do not allow a decision."""

    FAILURE = 'failure'
    SUCCESS = 'success'
    UNKNOWN = 'unknown'


class FailureReason(Enum):
    """Why an attempt failed, where the evidence tells."""

    EMPTY = 'empty'             #: the hand closed on nothing
    SLIPPED = 'slipped'         #: the object was held, then lost
    NOT_LIFTED = 'not_lifted'   #: the hand closed on something that it did not lift
    NOT_CLOSED = 'not_closed'   #: the hand did not close
