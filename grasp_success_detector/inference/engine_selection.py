"""
Select the engine that runs a network: the requested one, or the fastest that is proven.

The proof is a file beside the checkpoint that says on how many validation frames each engine
decides as torch in fp32 does; ``export_classifier --verify`` writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import read_json
from grasp_success_detector.inference import torch_engine
from grasp_success_detector.inference.engine import AUTO, device_type, Engine, identity, Precision
from grasp_success_detector.inference.opencv_engine import OpenCvEngine
from grasp_success_detector.inference.openvino_engine import OpenVinoEngine
from grasp_success_detector.inference.torch_engine import TorchEngine
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.settings import check_settings, setting

#: Every engine, by name.
ENGINES: dict[str, type[Engine]] = {
    kind.name: kind for kind in (OpenVinoEngine, TorchEngine, OpenCvEngine)}

#: Share of frames that an engine must decide as fp32 torch does to be selected by ``auto``.
MIN_AGREEMENT = .995

# How far P(success) of the probe images may be from torch's: rounding can move these images far.
# A broken engine (driver, another machine's cache) is further off, or gives no numbers at all.
_MAX_DIFFERENCE = .35

_PROOF_FORMAT_VERSION = 1
_PROBES = 2     # images of probe_images


@dataclass(frozen=True)
class Figure:
    """
    How an engine in one precision agrees with torch in fp32.

    :ivar device: type of the device, such as ``'cuda'``, without a number.
    :ivar version: version of the engine's library.
    :ivar artifact: SHA-256 of the int8 model's file; None in other precisions.
    :ivar agreeing: number of frames on the same side of the checkpoint's threshold.
    :ivar largest_difference: largest difference of P(success) from torch's, over all frames.
    """

    engine: str
    precision: str
    device: str
    version: str
    artifact: str | None
    frames: int = setting(lowest=1)
    agreeing: int = setting(lowest=0)
    largest_difference: float = setting(lowest=0)

    def __post_init__(self) -> None:
        """Check every value, as they come from a file."""
        check_settings(self, CheckpointError, 'figure:')

    @property
    def agreement(self) -> float:
        """Fraction of frames on which the engine decides as fp32 torch does."""
        return self.agreeing / self.frames


@dataclass(frozen=True)
class Proof:
    """
    Figures of a checkpoint, given by its identity, on the validation frames of a data set.

    :ivar reference: logits of torch in fp32 for :func:`~.torch_engine.probe_images`, by image;
        empty in proofs of earlier versions.
    """

    identity: str
    dataset: str
    figures: tuple[Figure, ...]
    format_version: int = _PROOF_FORMAT_VERSION
    reference: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        """Check the logits, as they come from a file."""
        rows = tuple(tuple(float(logit) for logit in row) for row in self.reference)
        if rows and np.shape(rows) != (_PROBES, len(Label)):
            raise CheckpointError('reference: expected two logits of each probe image')
        object.__setattr__(self, 'reference', rows)


# What needs no proof to be selected by ``auto``: the reference, and what runs where it is missing.
_ALWAYS = (TorchEngine, OpenCvEngine)


def proof_path(checkpoint: Path) -> Path:
    """Return the path of the proof of a checkpoint file."""
    return checkpoint.with_suffix('.engines.json')


def read_proof(checkpoint: Checkpoint) -> Proof | None:
    """
    Read the proof beside a checkpoint file; None if there is none.

    :raises CheckpointError: the proof cannot be read, or belongs to another checkpoint.
    """
    if checkpoint.path is None:
        return None
    path = proof_path(checkpoint.path)
    try:
        document = read_json(path)
        figures = tuple(Figure(**figure) for figure in document['figures'])
        proof = Proof(**{**document, 'figures': figures})
        if proof.format_version != _PROOF_FORMAT_VERSION:
            raise ValueError('another format version')
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CheckpointError) as error:
        raise CheckpointError(f'{path.name} cannot be read; make it again') from error
    if proof.identity != identity(checkpoint):
        raise CheckpointError(f'{path.name} is of another checkpoint; make it again')
    return proof


@dataclass(frozen=True)
class EngineSelection:
    """
    The engine that was selected, and why faster ones were not.

    :ivar skipped: reasons by ``'engine precision'``, for each faster combination.
    """

    engine: Engine
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the engine and the reasons against faster ones in one line."""
        return f'{self.engine}' + (f' (skipped: {_grouped(self.skipped)})' if self.skipped else '')


def select_engine(checkpoint: Checkpoint, engine: str, precision: str, device: str,
                  threads: int | None) -> EngineSelection:
    """
    Start the requested engine or, where the request leaves a choice, the fastest that is proven.

    With ``auto`` this is torch in fp32, or what the proof beside the checkpoint allows; where
    torch is not installed, OpenCV in fp32 takes its place. An engine requested by name may also
    run in fp32 without proof. Every engine's answers to two probe images are compared with those
    of torch before it is used, where these are known or torch is installed.

    Parameters and errors are those of :class:`~.classifier.GraspClassifier`.
    """
    for what, given, known in (('engine', engine, ENGINES),
                               ('precision', precision, [each.value for each in Precision])):
        if given not in (AUTO, *known):
            raise ConfigError(f'unknown {what} {given!r}; expected auto, {", ".join(known)}')
    kinds = list(ENGINES.values()) if engine == AUTO else [ENGINES[engine]]
    precisions = list(Precision) if precision == AUTO else [Precision(precision)]
    if device == AUTO:
        device = 'cuda' if TorchEngine in kinds and torch_engine.has_cuda() else 'cpu'
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ConfigError(f'threads {threads!r} (expected a whole number of 1 or more)')
    if kinds == [TorchEngine] and torch_engine.installed():
        torch_engine.select_device(device)   # its error names the devices that there are
    pairs = [(kind, number) for kind in kinds for number in precisions if number in kind.speed]
    skipped: dict[str, str] = {}
    for kind, number in sorted(pairs, key=lambda pair: -pair[0].speed[pair[1]]):
        exact = number is Precision.FP32
        try:
            kind.check_available(checkpoint, number, device)
            figure = None
            if AUTO in (engine, precision) and not (
                    exact and (kind in _ALWAYS or engine != AUTO)):
                figure = _proven(kind, number, device, checkpoint)
            started = kind(checkpoint, number, device, threads)
            if figure is not None and figure.artifact != started.artifact:
                raise ConfigError('what was proven is another file; prove it again')
            if not (kind is TorchEngine and exact):
                _check_probe_images(started, checkpoint)
        except ConfigError as error:
            skipped[f'{kind.name} {number.value}'] = str(error)
            continue
        return EngineSelection(started, skipped)
    raise ConfigError(f'no engine fits engine={engine}, precision={precision}, device={device}: '
                      f'{_grouped(skipped) or "none has this precision"}; auto always works')


def _proven(kind: type[Engine], precision: Precision, device: str,
            checkpoint: Checkpoint) -> Figure:
    """Return the figure that shows that an engine decides as fp32 torch does; else ConfigError."""
    try:
        proof = read_proof(checkpoint)
    except CheckpointError as error:
        raise ConfigError(f'not proven: {error}') from error
    requested = (kind.name, precision.value, device_type(device))
    figures = {figure.version: figure for figure in (proof.figures if proof else ())
               if (figure.engine, figure.precision, figure.device) == requested}
    if not figures:
        raise ConfigError('not proven; export_classifier CHECKPOINT --verify DATASET does it')
    # Another version may round, fuse or choose its kernels in another way.
    figure = figures.get(kind.version())
    if figure is None:
        raise ConfigError(f'proven with {kind.name} {", ".join(figures)}, not with '
                          f'{kind.version()}, which is installed; prove it again')
    if figure.agreement < MIN_AGREEMENT:
        raise ConfigError(f'decides as fp32 torch on {figure.agreement:.2%} of the frames only')
    return figure


def _check_probe_images(engine: Engine, checkpoint: Checkpoint) -> None:
    """Raise ConfigError if an engine's answers to two probe images are far from torch's."""
    expected = engine.reference
    if expected is None:
        expected = _known_reference(checkpoint)
    if expected is None and torch_engine.installed():
        expected = torch_engine.reference_logits(checkpoint)
    given = engine.logits(torch_engine.probe_images(checkpoint.metadata.preprocessing))
    # With nothing to compare with, the answers must at least be numbers.
    ours, theirs = (success_probabilities(logits, checkpoint.metadata.temperature)
                    for logits in (given, given if expected is None else expected))
    difference = float(abs(ours - theirs).max())
    if not difference <= _MAX_DIFFERENCE:   # also refuses NaN
        raise ConfigError(f'its P(success) differs by {difference:.2f} from torch: something is '
                          'broken (driver, installation)')


def _known_reference(checkpoint: Checkpoint) -> NDArray[np.float32] | None:
    """Return torch's logits of the probe images where the proof beside a checkpoint has them."""
    try:
        proof = read_proof(checkpoint)
    except CheckpointError:
        return None
    return np.array(proof.reference, np.float32) if proof and proof.reference else None


def _grouped(skipped: Mapping[str, str]) -> str:
    """Return names and reasons in one line, each reason once, after all names it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return '; '.join(f'{", ".join(group)}: {reason}' for reason, group in names.items())
