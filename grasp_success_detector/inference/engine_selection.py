"""
Select the engine that runs a network: the requested one, or the fastest that is proven.

A proof lies beside the checkpoint and says on how many validation frames each engine decides as
torch in fp32 does; ``export_classifier --verify`` writes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.files import read_json
from grasp_success_detector.inference.engine import (
    AUTO,
    device_type,
    Engine,
    identity,
    Precision,
)
from grasp_success_detector.inference.openvino_engine import OpenVinoEngine
from grasp_success_detector.inference.torch_engine import (
    has_cuda,
    probe_images,
    reference_logits,
    select_device,
    TorchEngine,
)
from grasp_success_detector.networks.architectures import success_probabilities
from grasp_success_detector.networks.checkpoint import Checkpoint
from grasp_success_detector.settings import check_settings, setting

#: Every engine, by name.
ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (OpenVinoEngine, TorchEngine)}

#: Share of frames that an engine must decide as fp32 torch does to be selected by ``auto``.
MIN_AGREEMENT = .995

# How far P(success) of the probe images may be from torch's: rounding can move these images far.
# What is broken (a driver, a cache of another machine) is further off, or gives no numbers at all.
_MAX_DIFFERENCE = .35

_PROOF_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Figure:
    """
    How an engine in one precision agrees with torch in fp32.

    :ivar device: its type, without a number.
    :ivar version: of the engine's library.
    :ivar artifact: as of :class:`Engine`.
    :ivar agreeing: frames on the same side of the checkpoint's threshold.
    :ivar largest_difference: of P(success), over all frames.
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
        """Share of frames on which both decide alike."""
        return self.agreeing / self.frames


@dataclass(frozen=True)
class Proof:
    """
    The figures of one checkpoint on the validation frames of one data set.

    :ivar identity: of the checkpoint.
    :ivar dataset: name of its folder.
    """

    identity: str
    dataset: str
    figures: tuple[Figure, ...]
    format_version: int = _PROOF_FORMAT_VERSION


def proof_path(checkpoint: Path) -> Path:
    """Return where the proof of a checkpoint file lies."""
    return checkpoint.with_suffix('.engines.json')


def read_proof(checkpoint: Checkpoint) -> Proof | None:
    """
    Read the proof beside a checkpoint file; None if there is none.

    :raises CheckpointError: it cannot be read, or is of another checkpoint.
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
    The engine that runs, and why no faster one does.

    :ivar skipped: faster ones, each as ``'engine precision: reason'``.
    """

    engine: Engine
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line for the user."""
        return (f'{self.engine} (skipped: {_grouped(self.skipped)})' if self.skipped
                else str(self.engine))


def select_engine(checkpoint: Checkpoint, engine: str, precision: str, device: str,
                  threads: int | None) -> EngineSelection:
    """
    Start the requested engine or, where the request leaves a choice, the fastest that is proven.

    With ``auto`` this is torch in fp32, or what the proof beside the checkpoint allows. An engine
    requested by name may also run in fp32 without proof. Every engine's answers to two probe
    images are compared with those of torch before it is used.

    :param engine: one of :data:`ENGINES`, or ``'auto'``.
    :param precision: a :class:`Precision`, or ``'auto'``.
    :param device: ``'auto'``, or one that the engine knows.
    :param threads: CPU threads; None for the engine's own default.
    :raises ConfigError: engine, precision or device is unknown or cannot be used here, or
        ``threads`` is below 1.
    """
    for what, given, known in (('engine', engine, ENGINES),
                               ('precision', precision, [each.value for each in Precision])):
        if given not in (AUTO, *known):
            raise ConfigError(f'unknown {what} {given!r}; expected auto, {", ".join(known)}')
    kinds = list(ENGINES.values()) if engine == AUTO else [ENGINES[engine]]
    precisions = list(Precision) if precision == AUTO else [Precision(precision)]
    if device == AUTO:
        device = 'cuda' if TorchEngine in kinds and has_cuda() else 'cpu'
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ConfigError(f'threads {threads!r} (expected a whole number of 1 or more)')
    if kinds == [TorchEngine]:
        select_device(device)   # its error names the devices that there are
    try:
        proof, unproven = read_proof(checkpoint), (
            'not proven; export_classifier CHECKPOINT --verify DATASET does it')
    except CheckpointError as error:
        proof, unproven = None, f'not proven: {error}'
    pairs = [(kind, number) for kind in kinds for number in precisions if number in kind.speed]
    skipped: list[str] = []
    for kind, number in sorted(pairs, key=lambda pair: -pair[0].speed[pair[1]]):
        try:
            if reason := kind.unavailable(checkpoint, number, device):
                raise ConfigError(reason)
            figure = None
            if AUTO in (engine, precision) and not (
                    number is Precision.FP32 and (kind is TorchEngine or engine != AUTO)):
                figure = _proven(kind, number, device, proof, unproven)
            started = kind(checkpoint, number, device, threads)
            if figure is not None and figure.artifact != started.artifact:
                raise ConfigError('what was proven is another file; prove it again')
            if not (kind is TorchEngine and number is Precision.FP32):
                _check_probe_images(started, checkpoint)
        except ConfigError as error:
            skipped.append(f'{kind.name} {number.value}: {error}')
            continue
        return EngineSelection(started, tuple(skipped))
    raise ConfigError(f'no engine fits engine={engine}, precision={precision}, device={device}: '
                      f'{_grouped(skipped) or "none has this precision"}; auto always works')


def _proven(kind: type[Engine], precision: Precision, device: str, proof: Proof | None,
            unproven: str) -> Figure:
    """
    Return the figure that says that an engine decides as fp32 torch does.

    :param unproven: the reason where there is no figure of it.
    :raises ConfigError: there is none, or it does not say so.
    """
    wanted = (kind.name, precision.value, device_type(device))
    figure = next((figure for figure in (proof.figures if proof else ())
                   if (figure.engine, figure.precision, figure.device) == wanted), None)
    if figure is None:
        raise ConfigError(unproven)
    # Another version may round, fuse or choose its kernels in another way.
    if figure.version != kind.version():
        raise ConfigError(f'proven with {kind.name} {figure.version}, not with {kind.version()}, '
                          'which is installed; prove it again')
    if figure.agreement < MIN_AGREEMENT:
        raise ConfigError(f'decides as fp32 torch on {figure.agreement:.2%} of the frames only')
    return figure


def _check_probe_images(engine: Engine, checkpoint: Checkpoint) -> None:
    """
    Refuse an engine whose answers to two probe images are far from torch's.

    Torch is run only if its answers are not kept in the file that the engine was read from.

    :raises ConfigError: they are.
    """
    expected = reference_logits(checkpoint) if engine.reference is None else engine.reference
    given = engine.logits(probe_images(checkpoint.metadata.preprocessing))
    ours, theirs = (success_probabilities(logits, checkpoint.metadata.temperature)
                    for logits in (given, expected))
    difference = float(abs(ours - theirs).max())
    if not difference <= _MAX_DIFFERENCE:   # NaN neither
        raise ConfigError(f'its P(success) differs by {difference:.2f} from torch: something is '
                          'broken (driver, installation)')


def _grouped(skipped: Iterable[str]) -> str:
    """Return the lines as one, in which each reason stands once, after all that it applies to."""
    names: dict[str, list[str]] = {}
    for line in skipped:
        name, _, reason = line.partition(': ')
        names.setdefault(reason, []).append(name)
    return '; '.join(f'{", ".join(group)}: {reason}' for reason, group in names.items())
