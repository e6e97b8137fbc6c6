"""What a robot's computer lacks is named in one line, and the node needs none of it."""

import subprocess
import sys

import pytest

from grasp_success_detector.console import command, EXTRA_OF_MODULE

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))
from grasp_success_detector.cli.{} import main
sys.exit(main(['--help']))
"""


def test_a_missing_package_is_one_line(capsys):
    @command
    def main(argv):
        raise ModuleNotFoundError("No module named 'torch'", name='torch.nn')

    assert main([]) == 1
    assert capsys.readouterr().err == (
        "error: needs torch.nn, which is not installed; in the clone: pip install -c "
        "constraints.txt '.[train]'\n")


def test_an_error_of_the_code_is_not_hidden():
    @command
    def main(argv):
        raise ModuleNotFoundError(name='grasp_success_detector.nothing')

    with pytest.raises(ModuleNotFoundError):
        main([])


def start(name, missing):
    return subprocess.run([sys.executable, '-c', WITHOUT.format(name), ','.join(missing)],
                          capture_output=True, text=True, timeout=60)


def test_a_command_without_its_extra_says_which():
    done = start('extract_frames', ['rosbags', 'rosbags.highlevel'])
    assert done.returncode == 1
    assert "pip install -c constraints.txt '.[bags]'" in done.stderr
    assert done.stderr.count('\n') == 1


def test_the_node_starts_without_any_extra():
    pytest.importorskip('rclpy')
    done = start('detector_node', EXTRA_OF_MODULE)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'usage: detector_node' in done.stdout
