"""Simulated attempts on the disk, one file each, until the whole bag can be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
import fcntl
import json
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector import __version__
from grasp_success_detector.datasets.journal import differences
from grasp_success_detector.errors import SimulationError
from grasp_success_detector.files import write_whole
from grasp_success_detector.simulation.presets import RecordingSettings

#: Topic, stamp in ns, serialised message (CDR).
Message = tuple[str, int, bytes]


@dataclass(frozen=True)
class AttemptSummary:
    """Number and outcome of an attempt, and its numbers of frames and of labelled frames."""

    attempt: int
    success: bool
    frames: int
    labelled: int


def write_attempt(folder: Path, summary: AttemptSummary, messages: list[Message]) -> None:
    """Write the file of an attempt, whole or not at all."""
    head = json.dumps({'summary': asdict(summary), 'messages': [
        (topic, stamp_ns, len(data)) for topic, stamp_ns, data in messages]})
    write_whole(folder / str(summary.attempt),
                head.encode() + b'\n' + b''.join(data for _, _, data in messages))


def read_attempt(folder: Path, number: int) -> tuple[AttemptSummary, list[Message]] | None:
    """Return an attempt; None if its file is missing, or incomplete after a loss of power."""
    try:
        content = (folder / str(number)).read_bytes()
        end = content.index(b'\n') + 1
        head = json.loads(content[:end])
        summary, messages = AttemptSummary(**head['summary']), []
        for topic, stamp_ns, size in head['messages']:
            messages.append((topic, stamp_ns, content[end:end + size]))
            end += size
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return (summary, messages) if end == len(content) and summary.attempt == number else None


def attempts_folder(out: Path) -> Path:
    """Return the folder, beside a bag that is being recorded, of its finished attempts."""
    return out.with_name(f'.{out.name}.attempts')


@contextmanager
def kept_attempts(out: Path, settings: RecordingSettings) -> Iterator[Path]:
    """
    Make, or find again, the folder of a bag's finished attempts; it is removed after the block.

    After an error it stays if an attempt is in it, for the same command to go on.

    :param out: the bag's folder, beside which it lies.
    :raises SimulationError: another process is using it, or it was begun with other settings.
    """
    folder = attempts_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    plan = json.loads(json.dumps({'version': __version__, **asdict(settings)}, default=_value))
    with (folder / 'settings.json').open('a+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SimulationError(f'{out}: another simulate_grasps is recording it') from error
        file.seek(0)
        if (earlier := _plan(file.read())) not in (None, plan):
            raise SimulationError(
                f'{out}: was begun with {differences(earlier, plan)}; run that command again, '
                f'choose another name, or remove {folder}')
        file.truncate(0)
        file.write(json.dumps(plan))
        file.flush()
        try:
            yield folder
        except BaseException:
            if not any(path.name.isdecimal() for path in folder.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _plan(text: str) -> Any:
    """Return the settings that an earlier command wrote; None if it did not come so far."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _value(value: object) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
