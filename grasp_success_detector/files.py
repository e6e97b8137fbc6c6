"""Files: written whole or not at all, JSON and CSV in UTF-8, and what ships with the package."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import csv
import io
import json
import os
from pathlib import Path
import shutil
from typing import Any

from grasp_success_detector.errors import GraspSuccessDetectorError, ResourceError

DEFAULT_CHECKPOINT = 'models/efficientnet_lite0_rig.safetensors'
SAMPLE_BAG = 'samples/rig_attempts'


def share_path(relative: str) -> Path:
    """
    Return the absolute path of a shipped file.

    A source tree (also one that colcon or pip link to) is looked at first, then
    ``<prefix>/share/grasp_success_detector``, where both pip and colcon install data files.

    :param relative: path below the share folder, such as ``'models/x.safetensors'``.
    :raises ResourceError: the file is in none of these places.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent] if (package.parent / 'package.xml').is_file() else []
    roots += [parent / 'share' / 'grasp_success_detector' for parent in package.parents[:5]]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise ResourceError(
        f'{relative}: this file of grasp_success_detector is not installed; looked in '
        f'{", ".join(map(str, roots))}; install the package again')


def write_whole(path: Path | str, content: bytes | str) -> None:
    """
    Write a file that is either whole or not there, whenever the process is stopped.

    :param content: text is written in UTF-8; bytes of file names that the locale could not decode
        stay as they are.
    :raises OSError: the file cannot be written; nothing is left of it.
    """
    if isinstance(content, str):
        content = content.encode(errors='surrogateescape')
    data = memoryview(content)
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f'.{name}.part')
    try:
        # By system calls alone: extraction writes tens of thousands of small files.
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            while data:
                data = data[os.write(file, data):]
        finally:
            os.close(file)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def check_new_file(path: Path, error: type[GraspSuccessDetectorError]) -> None:
    """
    Refuse a path where no new file can be written; called before long work begins.

    :raises GraspSuccessDetectorError: of the class ``error``: the file exists or cannot be made.
    """
    try:
        if path.exists():
            raise error(f'{path}: exists already; choose another name')
        probe = path.with_name(f'.{path.name}.part')
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as fault:
        raise error(f'{path}: cannot be written '
                    f'({getattr(fault, "strerror", None) or fault})') from fault


@contextmanager
def new_folder(out: Path, error: type[GraspSuccessDetectorError]) -> Iterator[Path]:
    """
    Give a folder that takes its name ``out`` when the block ends without an error.

    Until then it has a hidden name beside ``out``; after an error it is removed.

    :param error: class of the error where ``out`` exists or cannot be written.
    :raises GraspSuccessDetectorError: of that class, also for an OSError within the block.
    """
    partial = out.with_name(f'.{out.name}.partial-{os.getpid()}')
    try:
        if out.exists():
            raise error(f'{out}: exists already and is not overwritten; choose another name')
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    except OSError as fault:
        raise error(f'{out}: cannot be written ({fault.strerror or fault})') from fault
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def json_text(document: Any) -> str:
    """Return a document as JSON text, indented, with a line end."""
    return json.dumps(document, indent=2) + '\n'


def read_json(path: Path | str) -> Any:
    """
    Return what a JSON file holds.

    :raises OSError: the file cannot be read.
    :raises ValueError: it holds no JSON in UTF-8.
    """
    return json.loads(Path(path).read_text(encoding='utf-8'))


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
