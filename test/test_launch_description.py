"""What the launch files describe, seen by a stand-in for launch; test_launch.py starts it all."""

from pathlib import Path

from launch_stand_in import described, install
import pytest

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.files import SAMPLE_BAG, share_path

LAUNCH = Path(__file__).parent.parent / 'launch'
DETECTOR, REPLAY = (LAUNCH / f'{name}.launch.py' for name in ('detector', 'replay'))


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    install(monkeypatch)


def nodes(path, **arguments):
    """Return what the nodes of a launch file are made of."""
    return [action.named for action in described(path, **arguments)[0]
            if type(action).__name__.endswith('Node')]


def parameters(node):
    """Return a node's parameters: files, and (value, type) by name."""
    return [entry if isinstance(entry, str) else {
        name: (value.given[0].given[0], value.named['value_type'])
        for name, value in entry.items()} for entry in node['parameters']]


@pytest.fixture
def packages(monkeypatch):
    """Let ament find this package."""
    index = pytest.importorskip('ament_index_python.packages')
    monkeypatch.setattr(index, 'get_packages_with_prefixes',
                        lambda: {'grasp_success_detector': ''})


@pytest.mark.parametrize('path', sorted(LAUNCH.glob('*.launch.py')), ids=lambda path: path.stem)
def test_every_argument_is_described(path, packages):
    if path.stem == 'replay.launch':
        pytest.importorskip('rosbags')
    _, declared = described(path, bag=str(share_path(SAMPLE_BAG)))
    assert declared
    for name, (_, description) in declared.items():
        assert description.strip().endswith('.'), name


def test_without_arguments_one_node_has_its_own_defaults():
    node, = nodes(DETECTOR)
    assert (node['package'], node['executable']) == ('grasp_success_detector', 'detector_node')
    assert node['namespace'] is None
    assert not node['parameters'] and not node['remappings']


def test_arguments_become_parameters_with_their_types_and_the_topic_a_remapping():
    node, = nodes(DETECTOR, image_topic='/camera/image_raw', image_transport='compressed',
                  autostart='false', namespace='hand')
    assert node['namespace'] == 'hand'
    assert parameters(node) == [{'image_transport': ('image_transport', str)},
                                {'autostart': ('autostart', bool)}]
    assert set(node['remappings']) >= {('image', '/camera/image_raw'),
                                       ('image/compressed', '/camera/image_raw/compressed')}


def test_each_camera_has_a_node_in_a_namespace_of_its_own():
    found = nodes(DETECTOR, cameras='left:/left/image_raw,right:/right/image_raw',
                  namespace='hand')
    assert [node['namespace'] for node in found] == ['hand/left', 'hand/right']
    assert [dict(node['remappings'])['image'] for node in found] == [
        '/left/image_raw', '/right/image_raw']


@pytest.mark.parametrize('arguments, text', [
    ({'cameras': 'left', 'image_topic': '/camera'}, 'image_topic and cameras are both given'),
    ({'respawn_delay': 'soon'}, "respawn_delay: 'soon'; expected seconds"),
    ({'params_file': '/nowhere.yaml'}, 'params_file')])
def test_wrong_arguments_are_one_error(arguments, text):
    with pytest.raises(ConfigError, match=text):
        described(DETECTOR, **arguments)


def test_replay_starts_the_player_and_a_detector_for_the_camera_of_the_bag(packages):
    pytest.importorskip('rosbags')
    player, detector = nodes(REPLAY, bag=str(share_path(SAMPLE_BAG)))
    assert player['executable'] == 'play_bag'
    assert player['arguments'][0] == str(share_path(SAMPLE_BAG))
    assert dict(detector['remappings'])['image'] == '/camera/image_raw'
    assert parameters(detector) == [{'image_transport': ('image_transport', str)}]
