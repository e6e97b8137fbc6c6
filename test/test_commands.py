"""Every console script: what --help and wrong usage print, and how they end."""

from importlib.metadata import entry_points
from importlib.util import find_spec
import os
from pathlib import Path
import runpy
import subprocess
import sys

import pytest

pytest.importorskip('rosbags')

LIBEXEC = Path(__file__).parent.parent / 'libexec'
COMMANDS = sorted(path.name for path in LIBEXEC.iterdir() if path.is_file())

#: Commands that do not even have a help without the extra `train`.
TRAIN = {'adapt_classifier', 'inspect_dataset', 'original_experiment', 'pretrain_cifar10',
         'train_classifier'}
USABLE = [name for name in COMMANDS if name not in TRAIN or find_spec('torch')]


def run_command(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script that ``ros2 run`` would, with the Python of the tests."""
    return run_python(str(LIBEXEC / name), *arguments)


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True,
                          timeout=60, env=os.environ | {'COLUMNS': '100'})


@pytest.mark.parametrize('name', USABLE)
def test_help_shows_usage_and_examples(name):
    done = run_command(name, '--help')
    assert done.returncode == 0, done.stderr
    assert f'usage: {name}' in done.stdout
    assert 'example' in done.stdout.lower()
    assert not done.stderr


def test_the_help_of_shared_options_does_not_load_opencv():
    code = 'import sys, grasp_success_detector.cli.arguments; assert "cv2" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


@pytest.mark.parametrize('name', USABLE)
def test_wrong_usage_ends_with_one_line_that_says_so(name):
    done = run_command(name, '--no-such-option')
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: {name}')
    assert done.stderr.splitlines()[-1].startswith(f'{name}: error: ')


@pytest.mark.parametrize('name', USABLE)
def test_a_command_runs_as_a_module_too(name):
    done = run_python('-m', f'grasp_success_detector.cli.{name}', '--no-such-option')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f'{name}: error: ')


@pytest.mark.parametrize('name', USABLE)
def test_a_worker_process_that_loads_the_script_does_not_start_it_again(name, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [name, '--no-such-option'])
    runpy.run_path(str(LIBEXEC / name), run_name='__mp_main__')     # as multiprocessing does


def test_installed_console_scripts_are_the_same_functions():
    """An installed package (make, pip, colcon) offers the commands of libexec/, no others."""
    installed = {
        entry.name: entry.value for entry in entry_points(group='console_scripts')
        if entry.value.startswith('grasp_success_detector.')}
    if not installed:
        pytest.skip('grasp_success_detector is not installed here')
    assert sorted(installed) == COMMANDS
    for name, value in installed.items():
        module, function = value.split(':')
        assert f'from {module} import {function}\n' in (LIBEXEC / name).read_text()


@pytest.mark.parametrize('line', [
    'evaluate_classifier cifar_cnn samples --out {}/out',
    'export_classifier cifar_cnn --onnx {}/x',
    'evaluate_replay samples --checkpoint cifar_cnn --out {}/out',
    'grasp_demo --checkpoint cifar_cnn --output {}/demo.png'])
def test_a_checkpoint_that_does_not_exist_is_one_line_with_the_shipped_names(line, tmp_path):
    if line.startswith('evaluate'):
        pytest.importorskip('torch')
    done = run_command(*line.format(tmp_path).split())
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'error: cifar_cnn: no such file; expected a checkpoint of train_classifier '
        '(.safetensors), or the name of a shipped checkpoint: efficientnet_lite0_world, '
        'efficientnet_lite0_rig, cifar_cnn_world, cifar_cnn_rig; did you mean cifar_cnn_rig?']
    assert not os.listdir(tmp_path)


def test_an_abbreviated_option_is_unknown():
    done = run_command('simulate_grasps', 'bags', '--attempt', '2')
    assert done.returncode == 2
    assert 'unrecognized arguments: --attempt 2' in done.stderr
