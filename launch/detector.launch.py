"""
Start detectors: ``ros2 launch grasp_success_detector detector.launch.py --show-args``.

One detector for one camera, or with ``cameras`` one for each, in its own namespace. Parameters
have no defaults here: an empty argument leaves them to params_file or to the node's default.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.ros.node.launch_arguments import (
    CameraArgument,
    existing_file,
    read_cameras,
    read_remappings,
    remapped_image,
)

#: Launch arguments that are parameters of the node, with the parameter's type.
PARAMETERS = {'image_transport': str, 'checkpoint': str, 'autostart': bool, 'use_sim_time': bool}

#: name -> (default, description). Only arguments of launch itself have defaults here.
ARGUMENTS = {
    'image_topic': ('', (
        'Topic of the camera without the transport, such as /camera/image_raw. Empty: "image" in '
        'the namespace.')),
    'cameras': ('', (
        'Several cameras instead of image_topic, such as '
        'left:/left/image_raw,right:/right/image_raw: a detector for each, here with the topics '
        '/left/grasp_success and /right/grasp_success.')),
    'image_transport': ('', (
        'raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage on '
        '<image_topic>/compressed).')),
    'checkpoint': ('', (
        'Checkpoint file (.safetensors), or the name of one that ships. Empty: the default one.')),
    'params_file': ('', (
        'YAML file with parameters of the node, such as config/detector.yaml of this package; '
        'under /left/grasp_success_detector: those of one camera. The other arguments overrule '
        'it.')),
    'namespace': ('', 'ROS namespace of the node; with cameras, of all nodes.'),
    'autostart': ('', (
        'true: the node goes to active by itself, also when it was respawned; false: it waits for '
        'a lifecycle manager.')),
    'use_sim_time': ('', "true: take the time from /clock, where a bag's player publishes it."),
    'remappings': ('', (
        'Further names to change, such as grasp_success:=held,/diagnostics:=/hand/diagnostics; a '
        'name that begins with / is the same for all cameras.')),
    'log_level': ('', 'debug, info, warn, error or fatal, or one logger NAME:=LEVEL.'),
    'respawn': ('true', (
        'true: start a node again after it has ended; false: do not. A node that cannot be used '
        '(a bad checkpoint) reports it each time.')),
    'respawn_delay': ('2.0', 'Seconds until a node that has ended is started again.'),
}


def start_nodes(context: LaunchContext) -> list[Node]:
    """Return a node for each camera, with the given arguments and nothing else."""
    given = {name: value for name in ARGUMENTS
             if (value := LaunchConfiguration(name).perform(context))}
    if 'cameras' in given and 'image_topic' in given:
        raise ConfigError('image_topic and cameras are both given; expected one of them')
    cameras = read_cameras(given['cameras']) if 'cameras' in given else (
        CameraArgument(topic=given.get('image_topic', '')),)
    try:
        respawn_delay_s = float(given['respawn_delay'])
    except ValueError:
        raise ConfigError(f'respawn_delay: {given["respawn_delay"]!r}; expected seconds') from None
    parameters = [existing_file('params_file', given['params_file'], (
        'a YAML file with parameters of the node'))] if 'params_file' in given else []
    parameters += [{name: ParameterValue(LaunchConfiguration(name), value_type=value_type)}
                   for name, value_type in PARAMETERS.items() if name in given]
    remappings = read_remappings(given['remappings']) if 'remappings' in given else []
    return [Node(
        package='grasp_success_detector', executable='detector_node', output='screen',
        exec_name='_'.join(filter(None, ('detector_node', camera.name))),
        namespace='/'.join(filter(None, (given.get('namespace'), camera.name))) or None,
        parameters=parameters, remappings=[*remapped_image(camera.topic), *remappings],
        ros_arguments=['--log-level', given['log_level']] if 'log_level' in given else None,
        respawn=LaunchConfiguration('respawn'), respawn_delay=respawn_delay_s,
    ) for camera in cameras]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=start_nodes),
    ])
