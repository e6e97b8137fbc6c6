"""Which engine runs a network: the one that was asked for, or the fastest that is proven."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.inference.engine import AUTO, Engine, Precision, Wanted
from grasp_success_detector.inference.openvino_engine import OpenVinoEngine
from grasp_success_detector.inference.proof import (
    check_likeness,
    find_figure,
    MIN_AGREEMENT,
    Proof,
    read_proof,
)
from grasp_success_detector.inference.torch_engine import has_cuda, select_device, TorchEngine
from grasp_success_detector.networks.checkpoint import Checkpoint

#: Every engine there is, by name.
ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (OpenVinoEngine, TorchEngine)}


@dataclass(frozen=True)
class Choice:
    """
    The engine that runs, and why no faster one does.

    :ivar passed_over: faster ones, each with the reason: ``'engine precision: reason'``.
    """

    engine: Engine
    passed_over: tuple[str, ...] = ()

    @property
    def taken(self) -> str:
        """Return what runs, in a few words."""
        return f'{self.engine.name} {self.engine.precision.value} on {self.engine.device}'

    def __str__(self) -> str:
        """Return one line for the user."""
        return (f'{self.taken} (passed over: {_grouped(self.passed_over)})' if self.passed_over
                else self.taken)


def choose(checkpoint: Checkpoint, path: Path | None, engine: str,
           precision: str, device: str, threads: int | None) -> Choice:
    """
    Start the engine that was asked for; where that leaves a choice, the fastest that may be taken.

    ``auto`` takes torch in fp32, or what a proof beside the checkpoint says decides alike. An
    engine asked for by name may also be taken in fp32 without proof. In any case the engine's
    answers to a few pictures must resemble torch's.

    :param path: file of the checkpoint, if there is one.
    :param engine: one of :data:`ENGINES`, or ``'auto'``.
    :param precision: a :class:`Precision`, or ``'auto'``.
    :param device: ``'auto'``, or one that the engine knows.
    :raises ConfigError: no such engine, precision or device, or it cannot be used here.
    """
    kinds = list(ENGINES.values()) if engine == AUTO else [_engine(engine)]
    precisions = list(Precision) if precision == AUTO else [_precision(precision)]
    if device == AUTO:
        device = 'cuda' if TorchEngine in kinds and has_cuda() else 'cpu'
    if kinds == [TorchEngine]:
        select_device(device)  # says best what is wrong with it
    proof, proof_fault = _proof(path, checkpoint)
    exact = AUTO not in (engine, precision)
    passed_over: list[str] = []
    for kind, number in _by_speed(kinds, precisions):
        figure = find_figure(proof, kind, number, device)
        plain = number is Precision.FP32 and (kind is TorchEngine or engine != AUTO)
        wanted = Wanted(checkpoint, path, number, device, threads)
        try:
            if fault := kind.fault(wanted):
                raise ConfigError(fault)
            if not (exact or plain):
                _check_proven(figure.agreement if figure else None, proof_fault)
            started = kind.start(wanted)
            if not (exact or plain) and figure and figure.artifact != started.artifact:
                raise ConfigError('what was proven is another file; prove it again')
            if not (kind is TorchEngine and number is Precision.FP32):
                check_likeness(started, checkpoint)
        except ConfigError as error:
            passed_over.append(f'{kind.name} {number.value}: {error}')
            continue
        return Choice(started, tuple(passed_over))
    raise ConfigError(f'no engine fits engine={engine}, precision={precision}, device={device}: '
                      f'{_grouped(passed_over) or "none has this precision"}; auto always works')


def _by_speed(kinds: list[type[Engine]],
              precisions: list[Precision]) -> Iterator[tuple[type[Engine], Precision]]:
    pairs = [(kind, number) for kind in kinds for number in precisions if number in kind.speed]
    return iter(sorted(pairs, key=lambda pair: -pair[0].speed[pair[1]]))


def _engine(name: str) -> type[Engine]:
    if name not in ENGINES:
        raise ConfigError(f'unknown engine {name!r}; expected auto, {", ".join(ENGINES)}')
    return ENGINES[name]


def _precision(name: str) -> Precision:
    try:
        return Precision(name)
    except ValueError as error:
        raise ConfigError(f'unknown precision {name!r}; expected auto, '
                          f'{", ".join(number.value for number in Precision)}') from error


def _proof(path: Path | None,
           checkpoint: Checkpoint) -> tuple[Proof | None, str]:
    """Return the proof, or None and why there is none."""
    if path is None:
        return None, 'not proven: the checkpoint is no file'
    try:
        return read_proof(path, checkpoint), (
            'not proven; export_classifier CHECKPOINT --verify DATASET does it')
    except CheckpointError as error:
        return None, f'not proven: {error}'


def _grouped(passed_over: Iterable[str]) -> str:
    """Say each reason once, with all that it is true of."""
    names: dict[str, list[str]] = {}
    for line in passed_over:
        name, _, reason = line.partition(': ')
        names.setdefault(reason, []).append(name)
    return '; '.join(f'{", ".join(who)}: {reason}' for reason, who in names.items())


def _check_proven(agreement: float | None, fault: str) -> None:
    if agreement is None:
        raise ConfigError(fault)
    if agreement < MIN_AGREEMENT:
        raise ConfigError(f'decides as fp32 torch on {agreement:.2%} of the frames only')
