"""The launch file, on a machine with ROS 2: what the node's process is really started with."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip(
    'launch_ros', reason='needs a ROS 2 installation: launch is in no Python registry')

from launch import LaunchDescription, LaunchService  # noqa: E402
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import (  # noqa: E402
    get_launch_description_from_python_launch_file,
    PythonLaunchDescriptionSource,
)

LAUNCH_FILE = Path(__file__).parent.parent / 'launch' / 'detector.launch.py'
ARGUMENTS = [
    'image_topic', 'image_transport', 'checkpoint', 'namespace', 'params_file', 'autostart']

# Stands where the node does and writes down, word by word, how it was started. A parameter file
# that launch made is gone with launch, so it keeps their content too.
RECORDER = """#!/bin/sh
here=$(dirname "$0")
for word; do
    echo "$word" >> "$here/words"
    case "$word" in
        /*.yaml | /*launch_params*) (cat "$word"; echo; echo ---) >> "$here/parameters" ;;
    esac
done
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return a function that runs the launch file: (words of the node's command, parameters)."""
    folder = tmp_path / 'lib' / 'grasp_success_detector'
    marker = tmp_path / 'share/ament_index/resource_index/packages/grasp_success_detector'
    for path in (folder / 'detector_node', marker):
        path.parent.mkdir(parents=True)
        path.touch(0o755)
    (folder / 'detector_node').write_text(RECORDER)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))

    def run(**arguments: str) -> tuple[list[str], list[dict]]:
        service = LaunchService()
        service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(LAUNCH_FILE)),
            launch_arguments=arguments.items())]))
        assert service.run() == 0
        kept = folder / 'parameters'
        parameters = [
            document['/**']['ros__parameters'] for document in yaml.safe_load_all(
                kept.read_text() if kept.exists() else '') if document]
        return (folder / 'words').read_text().splitlines(), parameters
    return run


def test_every_argument_is_described_and_has_no_default_of_its_own():
    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert [argument.name for argument in declared] == ARGUMENTS
    for argument in declared:
        assert len(argument.description) > 10
        assert ''.join(part.text for part in argument.default_value) == ''


def test_without_arguments_the_node_is_told_nothing(started):
    assert started() == (['--ros-args'], [])


def test_image_topic_remaps_both_transports(started):
    words, parameters = started(image_topic='/hand/image', image_transport='compressed')
    assert 'image:=/hand/image' in words
    assert 'image/compressed:=/hand/image/compressed' in words
    assert parameters == [{'image_transport': 'compressed'}]


@pytest.mark.parametrize(('argument', 'value', 'parameter'), [
    ('checkpoint', '123', '123'), ('checkpoint', '/a b/c.safetensors', '/a b/c.safetensors'),
    ('autostart', 'false', False), ('autostart', 'true', True)])
def test_parameters_keep_their_types(started, argument, value, parameter):
    assert started(**{argument: value})[1] == [{argument: parameter}]


def test_arguments_come_after_the_params_file_and_overrule_it(started, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('/**:\n  ros__parameters: {window_s: 0.5, checkpoint: theirs}\n')
    words, parameters = started(params_file=str(path), checkpoint='mine', namespace='left')
    assert '__ns:=/left' in words
    assert parameters == [{'window_s': 0.5, 'checkpoint': 'theirs'}, {'checkpoint': 'mine'}]
