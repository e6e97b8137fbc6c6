"""Every error a caller may catch: one class per concern, one clear line per error."""

from collections.abc import Iterable


class GraspSuccessDetectorError(Exception):
    """
    Base of all errors of this package.

    The text is one line for the user: what was given, what is expected, how to mend it. Console
    scripts print it without a traceback and exit with 1.
    """


class ImageDecodeError(GraspSuccessDetectorError):
    """
    A frame (message, bytes or file) could not be turned into an RGB image.

    :ivar reason: short slug of the kind of fault, such as ``'unknown_encoding'``; bad frames are
        counted by it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(GraspSuccessDetectorError):
    """A checkpoint is missing, damaged, foreign, of a newer format, or does not fit its model."""


class ConfigError(GraspSuccessDetectorError):
    """An option, parameter or configuration file has a value that cannot be used."""


class ExportError(GraspSuccessDetectorError):
    """A network cannot be brought into another format, or answers differently there."""


class BagError(GraspSuccessDetectorError):
    """A bag is missing, is no bag, cannot be read, or lacks the topic that was asked for."""


class DatasetError(GraspSuccessDetectorError):
    """The labelled frames cannot be trained on or evaluated (no frames, one class, a leak)."""


class RunError(GraspSuccessDetectorError):
    """A folder is no run of a training, is unfinished, or cannot be compared with another."""


class SimulationError(GraspSuccessDetectorError):
    """The simulation cannot run here (no MuJoCo, no OpenGL) or was asked for the impossible."""


class ResourceError(GraspSuccessDetectorError):
    """A file that ships with the package (checkpoint, sample bag, configuration) is missing."""


class TrainingError(GraspSuccessDetectorError):
    """A training cannot go on: its loss is no number any more."""


def check_fields(owner: object, error: type[GraspSuccessDetectorError], subject: str,
                 checks: Iterable[tuple[str, bool, str]]) -> None:
    """
    Refuse an object some of whose fields have values that cannot be used.

    :param error: class of the error.
    :param subject: what its text begins with.
    :param checks: of each field its name, whether its value is good, and what is expected.
    :raises GraspSuccessDetectorError: of that class, naming every culprit at once.
    """
    wrong = [f'{name} {getattr(owner, name)!r} (expected {expected})'
             for name, good, expected in checks if not good]
    if wrong:
        raise error(f'{subject} {", ".join(wrong)}')


def one_line(error: BaseException) -> str:
    """
    Return what a foreign error says, fit to stand inside a line of ours.

    :returns: its text without line ends, at most 200 characters; its class where it has no text.
    """
    return ' '.join(str(error).split())[:200] or type(error).__name__
