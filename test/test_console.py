"""What all commands share: how they end when an error or a closed output stops them."""

import errno
import os
from pathlib import Path
import subprocess
import sys

import pytest

from grasp_success_detector.console import command, ExitCode

pytest.importorskip('rich')

SCRIPT = """
import sys
from rich.console import Console
from grasp_success_detector.console import command

@command
def main(argv=None):
    sys.stdin.readline()    # until the reader is gone
    {}
    return 0

sys.exit(main())
"""


def run_unread(statement, unread='stdout', **environment):
    """Run a command whose output is not read; return its exit code and its other output."""
    read, write = os.pipe()
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, unread: write}
    child = subprocess.Popen(
        [sys.executable, '-c', SCRIPT.format(statement)], stdin=subprocess.PIPE, text=True,
        env=os.environ | environment, **pipes)
    os.close(write)
    os.close(read)
    out, err = child.communicate('go\n', timeout=60)
    return child.returncode, (out or '') + (err or '')


@pytest.mark.parametrize('statement', [
    "print('little, which is written only at the end')",
    "[print('much') for _ in range(100_000)]",
    "Console().print('by rich')",
    "print('usage'); raise SystemExit(0)"])
def test_a_broken_pipe_ends_quietly(statement):
    assert run_unread(statement) == (ExitCode.READER_GONE, '')


def test_a_broken_pipe_of_unbuffered_output_or_errors_ends_quietly():
    assert run_unread("print('at once')", PYTHONUNBUFFERED='1') == (ExitCode.READER_GONE, '')
    assert run_unread(
        'from grasp_success_detector.errors import BagError; raise BagError("why")',
        unread='stderr') == (ExitCode.READER_GONE, '')


def test_a_broken_pipe_other_than_the_output_is_raised():
    @command
    def main(argv=None):
        raise BrokenPipeError('of a worker')

    with pytest.raises(BrokenPipeError, match='of a worker'):
        main([])


@pytest.mark.parametrize(('error', 'line'), [
    (PermissionError(errno.EACCES, 'Permission denied', '/root/bag'),
     'error: /root/bag: Permission denied\n'),
    (FileNotFoundError(errno.ENOENT, 'No such file or directory', Path('labels.csv')),
     'error: labels.csv: No such file or directory\n'),
    (IsADirectoryError(errno.EISDIR, 'Is a directory', b'folder'),
     'error: folder: Is a directory\n'),
    (OSError(errno.ENOSPC, 'No space left on device'), 'error: No space left on device\n')])
def test_an_error_about_a_path_or_a_full_disk_is_one_line(capsys, error, line):
    @command
    def main(argv=None):
        raise error

    assert main([]) == ExitCode.ERROR
    assert capsys.readouterr().err == line


def test_another_error_of_the_operating_system_is_raised():
    @command
    def main(argv=None):
        raise ConnectionRefusedError(errno.ECONNREFUSED, 'Connection refused')

    with pytest.raises(ConnectionRefusedError):
        main([])


def test_children_of_the_tests_take_ctrl_c_also_where_the_tests_ignore_it(tmp_path):
    """A script that starts the tests with ``&`` makes them and their children ignore Ctrl-C."""
    (tmp_path / 'conftest.py').write_text(
        (Path(__file__).parent / 'conftest.py').read_text(encoding='utf-8'), encoding='utf-8')
    (tmp_path / 'test_child.py').write_text(
        'import signal, subprocess, sys\n'
        'def test_child():\n'
        '    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])\n'
        '    process.send_signal(signal.SIGINT)\n'
        '    assert process.wait(timeout=20) != 0\n', encoding='utf-8')
    done = subprocess.run(
        ['sh', '-c', 'trap "" INT; exec "$@"', 'sh', sys.executable, '-m', 'pytest', '-q',
         '-p', 'no:cacheprovider', str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
