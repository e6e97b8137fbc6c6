"""Ctrl-C in a command's first second ends it with 130 and one line, whatever is being loaded."""

import os
import signal
import subprocess
import sys

from processes import COMMANDS
import pytest

pytest.importorskip('rosbags')

# Ctrl-C at the moment at which a module begins to load: the import that follows is interrupted.
AT_THE_IMPORT = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ['command', *{arguments!r}]
{start}
"""
AS_EXECUTABLE = 'runpy.run_path({path!r}, run_name="__main__")'
AS_CONSOLE_SCRIPT = 'from grasp_success_detector.cli.{name} import main; sys.exit(main())'


def run(text):
    done = subprocess.run(
        [sys.executable, '-c', text], capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {'PYTHONPATH': str(COMMANDS.parent)})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize('start', [AS_EXECUTABLE, AS_CONSOLE_SCRIPT])
@pytest.mark.parametrize('command, arguments, module', [
    ('extract_frames', ['none', '--out', 'none'], 'grasp_success_detector.cli.extract_frames'),
    ('extract_frames', ['none', '--out', 'none'], 'argparse'),
    ('extract_frames', ['none', '--out', 'none'], 'numpy'),
    ('extract_frames', ['none', '--out', 'none'], 'cv2'),
    ('inspect_dataset', ['none'], 'grasp_success_detector.recordings.sources'),
    pytest.param('evaluate_classifier', ['cifar_cnn_rig', 'none', '--out', 'none'], 'torch',
                 marks=pytest.mark.slow),
    ('simulate_grasps', ['none'], 'mujoco'),
    ('export_classifier', ['cifar_cnn_rig', '--onnx', 'none.onnx'],
     'grasp_success_detector.export')])
def test_ctrl_c_while_modules_are_loaded(command, arguments, module, start):
    text = AT_THE_IMPORT.format(module=module, arguments=arguments, start=start.format(
        name=command, path=str(COMMANDS / command)))
    assert run(text) == (130, '', 'interrupted\n')


WORKERS = """
from collections import deque
from functools import partial
import os, signal
from grasp_success_detector.datasets.workers import open_workers, WorkerContext

class Early(WorkerContext.Process):
    def start(self):
        super().start()
        os.kill(self.pid, signal.SIGINT)

if __name__ == '__main__':
    WorkerContext.Process = Early
    with open_workers(3) as workers:
        print(sum(result for _, result in workers.run(deque([partial(abs, -7)] * 6))))
"""


# Ctrl-C, which the system gives to another thread, between the two steps of a process's start.
STARTING = """
from multiprocessing import util
import signal, threading, time
from grasp_success_detector.datasets.workers import open_workers

def start_and_interrupt(*arguments, start=util.spawnv_passfds):
    process = start(*arguments)
    if 'spawn_main' in str(arguments):      # a worker, not what tracks resources
        signal.pthread_kill(other.ident, signal.SIGINT)
        time.sleep(.2)  # until the other thread has it
    return process

if __name__ == '__main__':
    other = threading.Thread(target=threading.Event().wait, daemon=True)
    other.start()
    util.spawnv_passfds = start_and_interrupt
    try:
        with open_workers(3):
            print('not interrupted')
    except KeyboardInterrupt:
        print('interrupted')
"""


@pytest.mark.slow
@pytest.mark.parametrize('text, printed', [(WORKERS, '42\n'), (STARTING, 'interrupted\n')])
def test_workers_leave_ctrl_c_to_their_parent_from_their_first_moment_on(tmp_path, text, printed):
    script = tmp_path / 'script.py'
    script.write_text(text, encoding='utf-8')
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {'PYTHONPATH': str(COMMANDS.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, '')
