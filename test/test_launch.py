"""The launch files, on a machine with ROS 2: the processes that they start, and how these end."""

from contextlib import contextmanager
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

WHERE = 'needs a ROS 2 installation: launch is in no Python registry'
pytest.importorskip('launch_ros', reason=WHERE)
actions = pytest.importorskip('launch.actions', reason=WHERE)
sources = pytest.importorskip('launch.launch_description_sources', reason=WHERE)
launch = pytest.importorskip('launch', reason=WHERE)
ament_index = pytest.importorskip('ament_index_python.packages', reason=WHERE)

from ros_processes import Detector, Ears, PATIENCE_S, wait_until  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
import yaml  # noqa: E402

from grasp_success_detector.files import SAMPLE_BAG, share_path  # noqa: E402

ROOT = Path(__file__).parent.parent
DETECTOR, REPLAY = (ROOT / 'launch' / f'{name}.launch.py' for name in ('detector', 'replay'))
YAML_EXAMPLE = ROOT / 'examples' / 'allegro.launch.yaml'
CHECKPOINT = share_path('models/cifar_cnn_rig.safetensors')
BAG = share_path(SAMPLE_BAG)

# Stands where a program does and writes down, word by word, how it was started. A parameter file
# that launch made is gone with launch, so it keeps their content too.
RECORDER = """#!/bin/sh
kept="$(dirname "$0")/$(basename "$0").$$"
for word; do
    echo "$word" >> "$kept"
    case "$word" in
        /*.yaml | /*launch_params*) (cat "$word"; echo; echo ---) >> "$kept.parameters" ;;
    esac
done
"""


def install(prefix: Path, package: str) -> Path:
    """Register a package with ament and return the folder for its executables."""
    marker = prefix / 'share/ament_index/resource_index/packages' / package
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    folder = prefix / 'lib' / package
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """Return a prefix that ament looks into first, with our share folder in it."""
    install(tmp_path, 'grasp_success_detector')
    (tmp_path / 'share/grasp_success_detector').symlink_to(ROOT)
    monkeypatch.setenv('AMENT_PREFIX_PATH', os.pathsep.join(
        filter(None, (str(tmp_path), os.environ.get('AMENT_PREFIX_PATH')))))
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def started(prefix):
    """Return a function that runs a launch file: [(words of a command, parameters), ...]."""
    folder = prefix / 'lib/grasp_success_detector'
    recorders = [folder / 'detector_node', folder / 'fusion_node', folder / 'play_bag',
                 prefix / 'ros2']
    for recorder in recorders:
        recorder.write_text(RECORDER)
        recorder.chmod(0o755)

    def run(launch_file=DETECTOR, result=0, **arguments: str):
        # Those that stand in end at once and would be started again for ever.
        arguments = {'respawn': 'false', **arguments}
        service = launch.LaunchService()
        included = actions.IncludeLaunchDescription(
            sources.AnyLaunchDescriptionSource(str(launch_file)),
            launch_arguments=arguments.items())
        service.include_launch_description(launch.LaunchDescription([included]))
        assert service.run() == result
        calls = []
        for recorder in recorders:
            for words in recorder.parent.glob(f'{recorder.name}.*[0-9]'):
                kept = words.with_name(f'{words.name}.parameters')
                parameters = [
                    next(iter(document.values()))['ros__parameters'] for document in
                    yaml.safe_load_all(kept.read_text() if kept.exists() else '') if document]
                calls.append((words.read_text().splitlines(), parameters))
        return sorted(calls)
    return run


@pytest.mark.parametrize('launch_file', [DETECTOR, REPLAY])
def test_every_argument_is_described(launch_file):
    description = sources.get_launch_description_from_python_launch_file(str(launch_file))
    declared = [e for e in description.entities if isinstance(e, actions.DeclareLaunchArgument)]
    assert declared
    for argument in declared:
        assert len(argument.description) > 10


def test_only_launch_settings_have_a_default_here():
    description = sources.get_launch_description_from_python_launch_file(str(DETECTOR))
    defaults = {
        e.name: ''.join(part.text for part in e.default_value) for e in description.entities
        if isinstance(e, actions.DeclareLaunchArgument)}
    assert {name for name, default in defaults.items() if default} == {
        'respawn', 'respawn_delay'}
    assert defaults.keys() >= {'image_topic', 'cameras', 'params_file', 'log_level', 'autostart'}


def test_without_arguments_the_node_gets_no_parameters(started):
    assert started() == [(['--ros-args'], [])]


def test_image_topic_remaps_both_transports(started):
    (words, parameters), = started(image_topic='/hand/image', image_transport='compressed')
    assert 'image:=/hand/image' in words
    assert 'image/compressed:=/hand/image/compressed' in words
    assert parameters == [{'image_transport': 'compressed'}]


@pytest.mark.parametrize(('argument', 'value', 'parameter'), [
    ('checkpoint', '123', '123'), ('checkpoint', '/a b/c.safetensors', '/a b/c.safetensors'),
    ('autostart', 'false', False), ('autostart', 'true', True), ('use_sim_time', 'true', True)])
def test_parameters_keep_their_types(started, argument, value, parameter):
    (_, parameters), = started(**{argument: value})
    assert parameters == [{argument: parameter}]


def test_arguments_come_after_the_params_file_and_overrule_it(started, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('/**:\n  ros__parameters: {window_s: 0.5, checkpoint: theirs}\n')
    (words, parameters), = started(params_file=str(path), checkpoint='mine', namespace='left')
    assert '__ns:=/left' in words
    assert parameters == [{'window_s': 0.5, 'checkpoint': 'theirs'}, {'checkpoint': 'mine'}]


def test_log_level_and_remappings_are_passed_on(started):
    (words, _), = started(log_level='debug', remappings='grasp_success:=held, a:=/b')
    assert words[words.index('--log-level') + 1] == 'debug'
    assert {'grasp_success:=held', 'a:=/b'} <= set(words)


def test_every_camera_gets_a_node_in_its_namespace(started):
    calls = started(cameras='left:/l/image,right', namespace='robot', checkpoint='mine')
    words = {next(word for word in words if word.startswith('__ns:=')): words
             for words, _ in calls}
    assert words.keys() == {'__ns:=/robot/left', '__ns:=/robot/right'}
    assert 'image:=/l/image' in words['__ns:=/robot/left']
    assert not [word for word in words['__ns:=/robot/right'] if word.startswith('image')]
    assert [parameters for _, parameters in calls] == [[{'checkpoint': 'mine'}]] * 2


@pytest.mark.parametrize('arguments', [{}, {'checkpoint': 'mine'}])
def test_a_yaml_launch_file_can_include_it(started, arguments):
    calls = started(YAML_EXAMPLE, driver='none', **arguments)
    found = {word: parameters for words, parameters in calls for word in words
             if word.startswith('__ns:=')}
    assert found.keys() == {'__ns:=/allegro', '__ns:=/allegro/wrist', '__ns:=/allegro/palm'}
    assert {'cameras': 'wrist,palm'} in found['__ns:=/allegro']
    assert found['__ns:=/allegro/wrist'] == found['__ns:=/allegro/palm'] == [
        {'image_transport': 'compressed'}, *([arguments] if arguments else [])]
    assert {'image:=/wrist_camera/image_raw', 'image:=/palm_camera/image_raw'} <= {
        word for words, _ in calls for word in words}


@pytest.mark.parametrize(('launch_file', 'arguments', 'line'), [
    (DETECTOR, {'cameras': 'left', 'image_topic': '/x'}, 'image_topic and cameras are both given'),
    (DETECTOR, {'cameras': '/left'}, "cameras: '/left' in '/left'; expected NAME:TOPIC"),
    (DETECTOR, {'respawn_delay': 'soon'}, "respawn_delay: 'soon'; expected seconds"),
    (REPLAY, {'bag': '/no/bag'}, '/no/bag: no such bag'),
    (REPLAY, {'bag': str(BAG), 'player': 'rosbag'}, "player: 'rosbag'; expected one of play_bag"),
    (REPLAY, {'bag': str(BAG), 'player': 'rosbag2'}, '`ros2 bag` is not installed here'),
    (REPLAY, {'bag': str(BAG), 'record': 'new'}, '`ros2 bag` is not installed .*leave record'),
])
def test_unusable_arguments_are_one_line(started, caplog, launch_file, arguments, line):
    if 'ros2 bag' in line and 'ros2bag' in ament_index.get_packages_with_prefixes():
        pytest.skip('rosbag2 is installed here')
    assert started(launch_file, 1, **arguments) == []
    error, = (r.getMessage() for r in caplog.records if r.levelname == 'ERROR')
    assert re.search(line, error)


def test_replay_takes_topic_and_transport_from_the_bag(started):
    node, player = sorted(started(REPLAY, bag=str(BAG)), key=lambda call: str(BAG) in call[0])
    assert 'image:=/camera/image_raw' in node[0]
    assert node[1] == [{'image_transport': 'compressed'}]
    assert player[0][:5] == [
        str(BAG), '--wait', '120', '--wait-for', '/camera/image_raw/compressed']


def test_replay_by_rosbag2_with_a_record(started, prefix):
    """Without rosbag2 only the commands can be tested: they are those of its manual."""
    install(prefix, 'ros2bag')
    calls = started(REPLAY, bag=str(BAG), player='rosbag2', record='new', namespace='hand',
                    player_arguments='--delay 5 --loop', use_sim_time='true')
    commands = [words for words, _ in calls if words[0] == 'bag']
    assert ['bag', 'play', str(BAG), '--delay', '5', '--loop', '--clock'] in commands
    record, = (words for words in commands if words[1] == 'record')
    assert record[2:4] == ['-o', 'new']
    assert set(record[4:]) == {
        '/hand/grasp_success', '/hand/grasp_success/confidence', '/hand/grasp_success/stamped',
        '/diagnostics'}


# The real programs

@contextmanager
def ros2_launch(launch_file, **arguments):
    """Run ``ros2 launch`` for the block; yields the process with its ``log``."""
    if not (ros2 := shutil.which('ros2')):
        pytest.skip('no ros2 command here')
    words = [f'{name}:={value}' for name, value in arguments.items()]
    # libexec's scripts find the interpreter of the tests by PATH.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ['PATH']))
    log = Path(os.environ['ROS_LOG_DIR']) / f'launch_{time.monotonic_ns()}'
    with open(log, 'wb') as output:
        child = subprocess.Popen(
            [ros2, 'launch', str(launch_file), *words], stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, 'PATH': path, 'RCUTILS_LOGGING_BUFFERED_STREAM': '0'})
    child.log = log
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        try:
            child.wait(timeout=20.)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise


def pids(log, name):
    """Return the numbers of a process in the order of its starts."""
    return [int(number) for number in re.findall(
        rf'\[{name}-\d+\]: process started with pid \[(\d+)\]', log.read_text())]


def alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def real(prefix):
    (prefix / 'lib/grasp_success_detector').rmdir()
    (prefix / 'lib/grasp_success_detector').symlink_to(ROOT / 'libexec')


@pytest.fixture
def ears():
    listening = Ears()
    yield listening
    listening.close()


def frame(value):
    return Image(height=8, width=8, encoding='mono8', step=8, data=bytes([value, 90] * 32))


def received(seen):
    return int(seen.diagnostics(lambda values: True)['received'])


def test_two_cameras_do_not_mix_and_end_with_ctrl_c(real, ears):
    with ros2_launch(DETECTOR, cameras='left,right', checkpoint=CHECKPOINT) as child:
        wait_until(lambda: child.log.read_text().count('active: frames from') == 2)
        left, right = (Detector(ears, child, name) for name in ('left', 'right'))
        for value in range(5):
            left.camera.publish(left.stamp(frame(value)))
            time.sleep(0.05)
        wait_until(lambda: received(left) > 0)
        assert received(right) == 0
        right.camera.publish(right.stamp(frame(1)))
        wait_until(lambda: received(right) == 1)
        numbers = [*pids(child.log, 'detector_node_left'), *pids(child.log, 'detector_node_right')]
        assert len(numbers) == 2 and all(map(alive, numbers))
    output = child.log.read_text()
    assert output.count('process has finished cleanly') == 2
    assert 'Traceback' not in output
    assert not any(map(alive, numbers))


def test_a_killed_node_comes_back_and_is_active_again(real, ears):
    with ros2_launch(DETECTOR, checkpoint=CHECKPOINT, namespace='back', respawn_delay='0.5',
                     ) as child:
        for starts in (1, 2, 3):
            wait_until(lambda starts=starts: child.log.read_text().count(
                'active: frames from /back/image') == starts)
            numbers = pids(child.log, 'detector_node')
            assert len(numbers) == starts
            seen = Detector(ears, child, 'back')
            seen.camera.publish(seen.stamp(frame(1)))
            wait_until(lambda seen=seen: received(seen) > 0)
            if starts < 3:
                os.kill(numbers[-1], signal.SIGKILL)
    assert child.log.read_text().count('exit code -9') == 2
    assert not any(map(alive, numbers))


def test_a_node_is_left_dead_where_respawn_is_off(real):
    with ros2_launch(DETECTOR, checkpoint='/no/such', respawn='false') as child:
        child.wait(timeout=PATIENCE_S)
    output = child.log.read_text()
    assert output.count('configure failed: /no/such: no such file') == 1
    assert len(pids(child.log, 'detector_node')) == 1


def test_replay_plays_to_the_detector_and_ends(real, ears):
    verdicts = ears.listen(Bool, '/replayed/grasp_success')
    with ros2_launch(REPLAY, bag=BAG, checkpoint=CHECKPOINT, namespace='replayed',
                     player_arguments='--rate 8') as child:
        child.wait(timeout=PATIENCE_S)
    output = child.log.read_text()
    assert 'played 1394 messages' in output
    assert output.count('process has finished cleanly') == 2
    assert {verdict.data for verdict in verdicts} == {True, False}


def test_replay_ends_when_the_detector_cannot_be_used(real):
    with ros2_launch(REPLAY, bag=BAG, checkpoint=__file__) as child:
        child.wait(timeout=PATIENCE_S)
    assert child.log.read_text().count(f'configure failed: {__file__}: ') == 1


@pytest.mark.parametrize(('launch_file', 'arguments', 'line'), [
    (DETECTOR, {'params_file': '/no/such.yaml'}, 'params_file: /no/such.yaml: no such file'),
    (REPLAY, {'bag': str(BAG), 'checkpoint': '/no/such.safetensors'},
     '/no/such.safetensors: no such file')])
def test_files_that_do_not_exist_are_errors(started, caplog, launch_file, arguments, line):
    assert started(launch_file, result=1, **arguments) == []
    assert line in caplog.text


# Beside the drivers of the hand

ALLEGRO = ROOT / 'launch' / 'allegro.launch.py'

# Launch files with the arguments and the habits of the maker's: V4 declares use_sim_time:=true for
# all that follows; V5 uses HAND and TYPE without declaring them.
STAND_INS = {
    'allegro_hand_bringup': ('allegro_hand.launch.py', {
        'use_sim_time': 'true', 'device': 'v4', 'hand': 'right',
        'ros2_control_hardware_type': 'physical_device'}, ('hand', 'device')),
    'allegro_hand_controllers': ('allegro_hand.launch.py', {
        'VISUALIZE': 'false', 'POLLING': 'true', 'CAN_DEVICE': 'can0', 'NUM': '0'},
        ('HAND', 'TYPE', 'NUM', 'CAN_DEVICE')),
    'allegro_hand_v6_bringup': ('bringup.launch.py', {'use_sim_time': 'true'}, ()),
    'a_camera': ('camera.launch.py', {'log_level': 'info', 'namespace': 'camera'},
                 ('log_level', 'namespace')),
}

STAND_IN = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration

def generate_launch_description():
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=value) for name, value in {declared}.items()),
        ExecuteProcess(cmd=['{recorder}', '{package}', *(
            part for name in {used} for part in (name, LaunchConfiguration(name)))]),
    ])
"""


@pytest.fixture
def stand_ins(prefix, started):
    """Install stand-ins for the launch files of drivers and a camera; returns ``started``."""
    for package, (file, declared, used) in STAND_INS.items():
        install(prefix, package)
        folder = prefix / 'share' / package / 'launch'
        folder.mkdir(parents=True)
        for name in {file, 'allegro_hand_plexus.launch.py'}:
            (folder / name).write_text(STAND_IN.format(
                declared=declared, used=used, package=package, recorder=prefix / 'ros2'))
    return started


def by_program(calls):
    """Return words and parameters by package of a stand-in, or '' for the detector."""
    return {words[0] if words[0] in STAND_INS else '': (words, parameters)
            for words, parameters in calls}


@pytest.mark.parametrize(('driver', 'package', 'given'), [
    ('v4', 'allegro_hand_bringup', ['hand', 'left', 'device', 'v4']),
    ('plexus', 'allegro_hand_bringup', ['hand', 'left', 'device', 'v4']),
    ('v5', 'allegro_hand_controllers', [
        'HAND', 'left', 'TYPE', 'A', 'NUM', '1', 'CAN_DEVICE', 'can0']),
    ('v5_sense', 'allegro_hand_controllers', [
        'HAND', 'left', 'TYPE', 'A', 'NUM', '1', 'CAN_DEVICE', 'can0']),
    ('v6', 'allegro_hand_v6_bringup', []),
])
def test_one_line_starts_driver_camera_and_detector(stand_ins, driver, package, given):
    found = by_program(stand_ins(
        ALLEGRO, driver=driver, hand='left', number='1', image_topic='/camera/image_raw',
        camera='a_camera/camera.launch.py'))
    assert found[package][0] == [package, *given]
    # The camera has its own defaults, whatever driver and detector declare.
    assert found['a_camera'][0] == ['a_camera', 'log_level', 'info', 'namespace', 'camera']
    words, parameters = found['']
    assert parameters == [{'driver': driver}, {'hand': 'left'}, {'hand_number': 1}]
    assert 'image:=/camera/image_raw' in words
    assert not [word for word in words if word.startswith('__ns:=')]


def test_without_a_driver_the_detector_starts_alone(stand_ins):
    (words, parameters), = stand_ins(ALLEGRO, image_topic='/camera/image_raw')
    assert parameters == [{'driver': 'none'}, {'hand': 'right'}, {'hand_number': 0}]
    (words, _), = stand_ins(ALLEGRO, driver='v5', start_driver='false')[-1:]
    assert words[0] not in STAND_INS


def test_arguments_of_a_driver_come_last(stand_ins):
    found = by_program(stand_ins(
        ALLEGRO, driver='v5', driver_arguments='TYPE:=B CAN_DEVICE:=can1'))
    assert found['allegro_hand_controllers'][0][1:] == [
        'HAND', 'right', 'TYPE', 'B', 'NUM', '0', 'CAN_DEVICE', 'can1']


@pytest.mark.parametrize(('arguments', 'line'), [
    ({'driver': 'v5'}, "no package 'allegro_hand_controllers' is installed here; driver v5: "
     'install it, or give driver:=none, or start_driver:=false where it runs already'),
    ({'driver': 'v7'}, "driver: 'v7'; expected one of none, v4, plexus, v5, v5_sense, v6"),
    ({'camera': 'no_camera/x.launch.py'}, "no package 'no_camera' is installed here; camera: "
     'expected PACKAGE/FILE, or the path of a launch file'),
    ({'driver': 'v5', 'driver_arguments': 'TYPE=B'}, "driver_arguments: 'TYPE=B'; expected "
     'NAME:=VALUE'),
    ({'fuse': 'true'}, 'fuse:=true needs several cameras'),
    ({'fuse': 'perhaps'}, "fuse: 'perhaps'; expected true or false"),
])
def test_what_cannot_be_started_is_one_line(started, caplog, arguments, line):
    assert started(ALLEGRO, 1, **arguments) == []
    error, = (r.getMessage() for r in caplog.records if r.levelname == 'ERROR')
    assert line in error


def test_cameras_are_fused_with_the_hand_counted_once(stand_ins):
    calls = stand_ins(DETECTOR, cameras='left,right', fuse='true', driver='v5', checkpoint='mine')
    fusion, = (parameters for words, parameters in calls if '__ns:=/left' not in words
               and '__ns:=/right' not in words)
    assert {'driver': 'v5'} in fusion and {'cameras': 'left,right'} in fusion
    assert [parameters for words, parameters in calls if '__ns:=/left' in words] == [
        [{'checkpoint': 'mine'}]]


OURS_NEXT_TO_OTHERS = """
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

def generate_launch_description():
    return LaunchDescription([IncludeLaunchDescription(
        AnyLaunchDescriptionSource(path), launch_arguments=list(arguments.items()))
        for path, arguments in {includes}])
"""


@pytest.mark.parametrize('given', [{}, {'use_sim_time': 'true'}])
def test_the_detector_takes_nothing_and_leaves_nothing(stand_ins, prefix, tmp_path, given):
    """Between a driver and a camera, each included as its own documentation says."""
    lab = tmp_path / 'lab.launch.py'
    share = prefix / 'share'
    lab.write_text(OURS_NEXT_TO_OTHERS.format(includes=[
        (str(share / 'allegro_hand_bringup/launch/allegro_hand.launch.py'), {}),
        (str(DETECTOR), {'image_topic': '/c', 'respawn': 'false', **given}),
        (str(share / 'a_camera/launch/camera.launch.py'), {})]))
    found = by_program(stand_ins(lab))
    assert found[''][1] == ([{'use_sim_time': True}] if given else [])
    assert found['a_camera'][0] == ['a_camera', 'log_level', 'info', 'namespace', 'camera']
