"""All exceptions that callers of this package may catch."""

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = 100


class GraspSuccessDetectorError(Exception):
    """
    Base of all errors of this package.

    The text is one line for the user: what was given, what is expected, how to correct it.
    Commands print it without a traceback and exit with 1.
    """


class ImageDecodeError(GraspSuccessDetectorError):
    """
    A frame (message, bytes or file) could not be turned into an RGB image.

    :ivar reason: kind of fault, such as ``'unknown_encoding'``; bad frames are counted by it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(GraspSuccessDetectorError):
    """A checkpoint is missing, damaged, foreign, of a newer format, or does not fit its model."""


class ConfigError(GraspSuccessDetectorError):
    """An option, parameter or configuration file has a value that cannot be used."""


class ExportError(GraspSuccessDetectorError):
    """A network cannot be exported to another format, or its outputs differ there."""


class BagError(GraspSuccessDetectorError):
    """A bag is missing, is not a bag, cannot be read, or lacks the requested topic."""


class RemoteError(GraspSuccessDetectorError):
    """What lies at an address (``s3://...``) cannot be listed, fetched or put there."""


class DatasetError(GraspSuccessDetectorError):
    """A data set cannot be used: it has no frames, only one class, or a leak between splits."""


class LabellingError(GraspSuccessDetectorError):
    """A label file cannot be used or written, is in use, or an attempt has changed meanwhile."""


class RunError(GraspSuccessDetectorError):
    """A folder is not a finished run of train_classifier, or cannot be compared with others."""


class SimulationError(GraspSuccessDetectorError):
    """The simulation cannot run here (no MuJoCo, no OpenGL), or its settings are out of range."""


class WorkersError(GraspSuccessDetectorError):
    """Processes that share the work died again and again."""


class ClusterError(GraspSuccessDetectorError):
    """The scheduler of a Dask cluster is gone."""


class HandStateError(GraspSuccessDetectorError):
    """Joint states, or a file of a hand's references, cannot be used for this driver."""


class HandPlaceError(GraspSuccessDetectorError):
    """
    Where the hand is in a picture cannot be told by transforms and calibration.

    :ivar reason: value of the ``decision.Reason`` that the verdict is UNKNOWN for.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ResourceError(GraspSuccessDetectorError):
    """A file that ships with the package (checkpoint, sample bag, configuration) is missing."""


class TrainingError(GraspSuccessDetectorError):
    """Training was stopped: the loss is not finite, or another of its processes is gone."""


def quoted(given: str) -> str:
    """Return what a user gave in quotes, of long ones both ends."""
    return _SHORT.repr(given)


def one_line(error: BaseException) -> str:
    """
    Return the text of another library's error on one line.

    :returns: the first 200 characters, line ends as spaces; the class's name if the text is empty.
    """
    return ' '.join(str(error).split())[:200] or type(error).__name__
