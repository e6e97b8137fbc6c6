"""Whether an engine decides as fp32 torch does: measured once, kept beside the checkpoint."""


from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.engine import Engine, identity, Precision, Wanted
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint

# P(success) may differ so much on made-up pictures, which rounding can move far. What is broken
# (a driver, another machine's cache) differs by more, or gives no numbers at all.
_GROSS = .35


def pictures(size: Preprocessing) -> NDArray[np.uint8]:
    """Return two smooth pictures of the network's input size, RGB uint8 (2, H, W, 3)."""
    down, across = np.mgrid[:size.height, :size.width]
    ramp = (255 * (down / size.height + across / size.width) / 2).astype(np.uint8)
    grey = np.full_like(ramp, 128)
    return np.ascontiguousarray(np.stack(
        [np.stack(planes, -1) for planes in ((grey, grey, grey), (ramp, 255 - ramp, grey))]))


def torchs_logits(checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Return what torch in fp32 answers to :func:`pictures`, float32 (2, 2)."""
    from grasp_success_detector.inference.torch_engine import TorchEngine

    engine = TorchEngine(Wanted(checkpoint, None, Precision.FP32, 'cpu', None))
    return engine.logits(pictures(checkpoint.metadata.preprocessing))


def check_likeness(engine: Engine, checkpoint: Checkpoint) -> None:
    """
    Refuse an engine that answers to smooth pictures quite unlike torch, whatever is broken.

    Torch is asked only where nobody has kept its answers beside what the engine was read from.

    :raises ConfigError: it does.
    """
    expected = torchs_logits(checkpoint) if engine.expected is None else engine.expected
    given = engine.logits(pictures(checkpoint.metadata.preprocessing))
    ours, theirs = (success_probabilities(logits, checkpoint.metadata.temperature)
                    for logits in (given, expected))
    difference = float(abs(ours - theirs).max())
    if not difference <= _GROSS:  # nor is NaN
        raise ConfigError(f'its P(success) differs by {difference:.2f} from torch: something is '
                          'broken (driver, installation)')


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


def read_proof(path: Path, checkpoint: Checkpoint) -> Proof | None:
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
