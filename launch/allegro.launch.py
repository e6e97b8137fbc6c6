"""
Start driver, camera and detector.

    ros2 launch grasp_success_detector allegro.launch.py driver:=v5 image_topic:=/camera/image_raw

Each is in a scope of its own and gets the arguments that it needs, and no others: the drivers'
launch files leave values such as ``use_sim_time:=true`` to what follows, or need values that they
do not declare.
"""

from pathlib import Path
import shlex

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.ros.node.launch_arguments import DRIVER_LAUNCH, read_assignments

#: name -> (default, description) of those that go to detector.launch.py as they are.
DETECTOR = {
    'image_topic': ('', 'Topic of the camera without the transport, such as /camera/image_raw.'),
    'cameras': ('', (
        'Several cameras instead, such as left:/left/image_raw,right:/right/image_raw.')),
    'fuse': ('', 'true: with cameras, also one /grasp_success of all cameras and the hand.'),
    'image_transport': ('', 'raw or compressed.'),
    'checkpoint': ('', 'Checkpoint file (.safetensors), or the name of one that ships.'),
    'hand_model': ('', 'File of calibrate_hand. Empty: the one that ships.'),
    'roi_mode': ('', 'What is cut out of a frame: auto, fixed, hand or tf.'),
    'palm_frame': ('', (
        'Frame of the palm in TF, for roi_mode:=tf. Empty: that of the driver, where it is '
        'known.')),
    'camera_info_topic': ('', (
        'sensor_msgs/CameraInfo, for roi_mode:=tf. Empty: camera_info beside the image topic.')),
    'params_file': ('', 'YAML file with parameters of the node.'),
    'namespace': ('', 'ROS namespace of the detector.'),
    'use_sim_time': ('', 'true: the detector takes the time from /clock.'),
    'log_level': ('', 'Of the detector: debug, info, warn, error or fatal.'),
    'respawn': ('true', 'true: start the detector again after it has ended; false: do not.'),
}

ARGUMENTS = {
    'driver': ('none', 'Driver of the hand: v4, plexus, v5, v5_sense, v6, or none.'),
    'hand': ('right', 'Side of the hand: right or left.'),
    'number': ('0', 'Number of the hand, of the drivers v5 and v5_sense.'),
    'start_driver': ('true', 'false: the driver runs already; only listen to it.'),
    'driver_arguments': ('', (
        'Further ones for its launch file, such as "TYPE:=B CAN_DEVICE:=can1".')),
    'camera': ('', (
        'Launch file of the camera, as PACKAGE/FILE or a path, such as usb_cam/camera.launch.py. '
        'Empty: it runs already.')),
    'camera_arguments': ('', 'For the launch file of the camera, such as "namespace:=left".'),
    **DETECTOR,
}


def start(context: LaunchContext) -> list[GroupAction]:
    """Return a scoped group for each of driver, camera and detector."""
    given = {name: value for name in ARGUMENTS
             if (value := LaunchConfiguration(name).perform(context))}
    driver, groups = given['driver'], []
    if driver not in DRIVER_LAUNCH:
        raise ConfigError(f'driver: {driver!r}; expected one of {", ".join(DRIVER_LAUNCH)}')
    further = read_assignments('driver_arguments', shlex.split(given.get('driver_arguments', '')))
    if (where := DRIVER_LAUNCH[driver]) and given['start_driver'].lower() != 'false':
        package, file, fixed = where
        values = {name: text.format(hand=given['hand'], number=given['number'])
                  for name, text in fixed.items()}
        groups.append(scoped(installed(package, file, (
            f'driver {driver}: install it, or give driver:=none, or start_driver:=false where it '
            'runs already')), values | further))
    if 'camera' in given:
        package, _, file = given['camera'].rpartition('/')
        path = Path(given['camera']).expanduser()
        groups.append(scoped(str(path) if path.is_file() else installed(
            package, file, 'camera: expected PACKAGE/FILE, or the path of a launch file'),
            read_assignments('camera_arguments', shlex.split(given.get('camera_arguments', '')))))
    groups.append(scoped(str(Path(__file__).with_name('detector.launch.py')), {
        name: given[name] for name in (*DETECTOR, 'driver', 'hand', 'number') if name in given}))
    return groups


def scoped(path: str, arguments: dict[str, str]) -> GroupAction:
    """Return a launch file that sees its arguments alone, and leaves nothing behind."""
    return GroupAction([IncludeLaunchDescription(
        AnyLaunchDescriptionSource(path), launch_arguments=list(arguments.items()))],
        scoped=True, forwarding=False)


def installed(package: str, file: str, otherwise: str) -> str:
    """Return the path of a package's launch file; raises a ConfigError if it is not installed."""
    try:
        folder = Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError):
        raise ConfigError(f'no package {package!r} is installed here; {otherwise}') from None
    for path in (folder / 'launch' / file, folder / file):
        if path.is_file():
            return str(path)
    raise ConfigError(f'package {package} has no launch file {file}; {otherwise}')


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=start),
    ])
