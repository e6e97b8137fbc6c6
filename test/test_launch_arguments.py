"""The launch files' cameras argument, and the cameras of a bag; needs neither ROS nor launch."""

import numpy as np
import pytest
from rosbags.rosbag2 import Writer
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.ros.node.launch_arguments import (
    CameraArgument,
    existing_file,
    read_cameras,
    read_remappings,
    recorded_cameras,
    RecordedCameras,
    remapped_image,
)

STORE = get_typestore(Stores.ROS2_JAZZY)


def test_cameras_have_a_name_and_mostly_a_topic():
    assert read_cameras(' left:/l/image_raw, right ') == (
        CameraArgument('left', '/l/image_raw'), CameraArgument('right'))


@pytest.mark.parametrize(('text', 'line'), [
    ('', r"cameras: '' in ''; expected NAME:TOPIC"), ('a,', r"cameras: '' in 'a,'"),
    ('/left', "cameras: '/left' in"), ('1st:/x', "cameras: '1st:/x' in"),
    ('a:/x,b,a', 'cameras: a is there more than once')])
def test_cameras_that_cannot_be_read(text, line):
    with pytest.raises(ConfigError, match=f'^{line}'):
        read_cameras(text)


def test_remappings_go_by_pairs():
    assert read_remappings('a:=b, /c/d:=~/e') == [('a', 'b'), ('/c/d', '~/e')]
    assert remapped_image('/x') == [('image', '/x'), ('image/compressed', '/x/compressed')]
    assert remapped_image('') == []


@pytest.mark.parametrize('text', ['', 'a', 'a:b', ':=b', 'a:=', 'a:=b,'])
def test_remappings_that_cannot_be_read(text):
    with pytest.raises(ConfigError, match='^remappings: .*; expected FROM:=TO'):
        read_remappings(text)


def test_a_file_that_an_argument_names(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.yaml').touch()
    assert existing_file('params_file', '~/mine.yaml', 'a YAML file') == f'{tmp_path}/mine.yaml'
    for missing in ('~/other.yaml', '~'):
        with pytest.raises(ConfigError, match=(
                f'^params_file: {tmp_path}.*: no such file; expected a YAML file$')):
            existing_file('params_file', missing, 'a YAML file')


@pytest.fixture
def bag(tmp_path):
    """Return a function that writes a bag with images on some topics."""
    def write(**kinds):
        with Writer(tmp_path / 'bag', version=9) as writer:
            for name, kind in kinds.items():
                msgtype = f'sensor_msgs/msg/{kind}'
                suffix = '/compressed' if kind == 'CompressedImage' else ''
                connection = writer.add_connection(f'/{name}{suffix}', msgtype, typestore=STORE)
                header = STORE.types['std_msgs/msg/Header'](
                    STORE.types['builtin_interfaces/msg/Time'](1, 2), 'camera')
                data = np.zeros(1, np.uint8)
                message = STORE.types[msgtype](header, 'jpeg', data) if suffix else (
                    STORE.types[msgtype](header, 1, 1, 'mono8', 0, 1, data))
                writer.write(connection, 1, STORE.serialize_cdr(message, msgtype))
        return tmp_path / 'bag'
    return write


def test_the_only_camera_of_a_bag_is_found():
    found = recorded_cameras(str(share_path(SAMPLE_BAG)))
    assert found == RecordedCameras(('/camera/image_raw',), 'compressed')
    assert found.recorded == ('/camera/image_raw/compressed',)


def test_a_raw_camera_keeps_its_name(bag):
    path = bag(cam='Image')
    assert recorded_cameras(path) == RecordedCameras(('/cam',), 'raw')
    assert recorded_cameras(path).recorded == ('/cam',)


def test_cameras_are_taken_as_they_were_recorded(bag):
    path = bag(left='CompressedImage', right='CompressedImage', third='Image')
    assert recorded_cameras(path, ('/left', '/right')).transport == 'compressed'
    assert recorded_cameras(path, ('/third',)).transport == 'raw'
    # Only one is raw, so that there is nothing to choose from.
    assert recorded_cameras(path, transport='raw').topics == ('/third',)


@pytest.mark.parametrize(('topics', 'transport', 'line'), [
    ((), '', 'expected one camera; image topics here: /left/compressed .*choose with image_topic'),
    (('/left', '/third'), '', 'expected /left and /third, all of one kind; image topics here: '),
    (('/left',), 'raw', r'expected /left, all of one kind \(raw\)'),
    (('/none',), '', 'expected /none')])
def test_cameras_that_are_not_in_the_bag(bag, topics, transport, line):
    path = bag(left='CompressedImage', right='CompressedImage', third='Image')
    with pytest.raises(BagError, match=f'/bag: {line}'):
        recorded_cameras(path, topics, transport)


def test_a_bag_without_images(bag):
    with pytest.raises(BagError, match='image topics here: none'):
        recorded_cameras(bag())
