"""Run commands of an earlier version of the package beside those of this one."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import resource
import subprocess
import sys
import tempfile
import time

#: The folder of this version.
ROOT = Path(__file__).resolve().parent.parent

_PROGRAM = ('import sys; from grasp_success_detector.cli.{0} import main; '
            'sys.exit(main(sys.argv[1:]))')


@contextmanager
def earlier_version(commit: str) -> Iterator[Path]:
    """Give the folder of an earlier version of the package, for a block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'earlier')
        git = ['git', '-C', str(ROOT), 'worktree']
        subprocess.run([*git, 'add', '--quiet', '--detach', str(path), commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, 'remove', '--force', str(path)], check=True)


def run(version: Path, command: str, *arguments: object) -> tuple[float, float]:
    """Run a command of a version; return its seconds, and those of all CPUs, with its start."""
    started, before = time.perf_counter(), _worked()
    # In its folder, as Python looks for modules there first.
    subprocess.run([sys.executable, '-c', _PROGRAM.format(command), *map(str, arguments)],
                   check=True, cwd=version, env=os.environ | {'PYTHONPATH': str(version)},
                   stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, _worked() - before


def _worked() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
