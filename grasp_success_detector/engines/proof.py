"""Whether an engine decides as fp32 torch does: measured once, kept beside the checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

from grasp_success_detector.checkpoint import Checkpoint, CheckpointFile
from grasp_success_detector.engines.engine import Engine, identity, Precision
from grasp_success_detector.errors import CheckpointError

#: Share of frames decided alike, from which on an engine may be taken without being asked for.
MIN_AGREEMENT = .995

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Figure:
    """
    What was measured of one engine and precision.

    :ivar version: of the engine's library.
    :ivar artifact: of :class:`Engine`.
    :ivar agreeing: frames on the same side of the checkpoint's threshold as with fp32 torch.
    :ivar largest_difference: of P(success), over all frames.
    """

    engine: str
    precision: str
    device: str
    version: str
    artifact: str | None
    frames: int
    agreeing: int
    largest_difference: float

    @property
    def agreement(self) -> float:
        """Share of frames decided alike."""
        return self.agreeing / self.frames


@dataclass(frozen=True)
class Proof:
    """
    Figures of one checkpoint on the validation frames of one data set.

    :ivar identity: of the checkpoint.
    :ivar dataset: name of its folder.
    """

    identity: str
    dataset: str
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {'format_version': _FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> 'Proof':
        """Build from what :meth:`to_json` returned."""
        if document['format_version'] != _FORMAT_VERSION:
            raise ValueError('another format version')
        figures = tuple(Figure(**figure) for figure in document['figures'])
        return cls(str(document['identity']), str(document['dataset']), figures)


def proof_path(checkpoint: Path) -> Path:
    """Return where the figures of a checkpoint file lie."""
    return checkpoint.with_suffix('.engines.json')


def read_proof(path: Path, checkpoint: Checkpoint | CheckpointFile) -> Proof | None:
    """
    Read the figures of a checkpoint file; None where there are none.

    :param path: of the checkpoint file.
    :raises CheckpointError: they cannot be read, or are of another checkpoint.
    """
    where = proof_path(path)
    try:
        proof = Proof.from_json(json.loads(where.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{where.name} cannot be read; make it again') from error
    if proof.identity != identity(checkpoint):
        raise CheckpointError(f'{where.name} is of another checkpoint; make it again')
    return proof


def find_figure(proof: Proof | None, engine: type[Engine], precision: Precision,
                device: str) -> Figure | None:
    """Return what was measured of an engine, if anything was."""
    kind = device.partition(':')[0].partition('.')[0]
    for figure in proof.figures if proof else ():
        if (figure.engine, figure.precision, figure.device) == (
                engine.name, precision.value, kind):
            return figure
    return None
