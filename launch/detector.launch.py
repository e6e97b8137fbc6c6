"""
Start detectors: ``ros2 launch grasp_success_detector detector.launch.py --show-args``.

One detector for one camera, or with ``cameras`` one for each, in its own namespace; with ``fuse``
one answer of all. Parameters have no defaults here: an empty argument leaves them to params_file
or to the node's default. Values of launch files that ran before are not taken, and none is left to
those that follow.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    PopLaunchConfigurations,
    PushLaunchConfigurations,
)
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
    switch,
)
from grasp_success_detector.ros.node.launch_scope import forget_others, given_arguments

#: Launch arguments that are parameters of each node: the parameter, and its type.
BOTH = {'autostart': ('autostart', bool), 'use_sim_time': ('use_sim_time', bool)}

#: Those that are parameters of the detectors.
CAMERA = {name: (name, str) for name in (
    'image_transport', 'checkpoint', 'roi_mode', 'palm_frame', 'camera_info_topic')}

#: Those that are parameters of what decides with the hand: the detector, or the fusion.
HAND = {'driver': ('driver', str), 'hand': ('hand', str), 'number': ('hand_number', int),
        'hand_model': ('hand_model', str), 'joint_states_topic': ('joint_states_topic', str)}

#: name -> (default, description). Only arguments of launch itself have defaults here.
ARGUMENTS = {
    'image_topic': ('', (
        'Topic of the camera without the transport, such as /camera/image_raw. Empty: "image" in '
        'the namespace.')),
    'cameras': ('', (
        'Several cameras instead of image_topic, such as '
        'left:/left/image_raw,right:/right/image_raw: a detector for each, here with the topics '
        '/left/grasp_success and /right/grasp_success.')),
    'fuse': ('', (
        'true: with cameras, also one /grasp_success of all and the hand, by fusion_node.')),
    'driver': ('', (
        'Driver that moves the hand: v4, plexus, v5, v5_sense or v6. Its joint states take part '
        'in the verdict. Empty or none: cameras alone.')),
    'hand': ('', 'Side of the hand: right or left.'),
    'number': ('', 'Number of the hand in the topics of the drivers v5 and v5_sense.'),
    'hand_model': ('', 'File of calibrate_hand. Empty: the one that ships.'),
    'joint_states_topic': ('', "sensor_msgs/JointState of the hand. Empty: the driver's."),
    'image_transport': ('', (
        'raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage on '
        '<image_topic>/compressed).')),
    'checkpoint': ('', (
        'Checkpoint file (.safetensors), or the name of one that ships. Empty: the default one.')),
    'roi_mode': ('', 'What is cut out of a frame: auto, fixed, hand or tf.'),
    'palm_frame': ('', (
        'Frame of the palm in TF, for roi_mode:=tf. Empty: that of the driver, where it is '
        'known.')),
    'camera_info_topic': ('', (
        'sensor_msgs/CameraInfo, for roi_mode:=tf. Empty: camera_info beside the image topic.')),
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

    def parameters_of(kinds: dict[str, tuple[str, type]]) -> list:
        return [*parameters, *(
            {parameter: ParameterValue(LaunchConfiguration(name), value_type=value_type)}
            for name, (parameter, value_type) in kinds.items() if name in given)]

    fuse = switch('fuse', given.get('fuse', 'false'))
    if fuse and 'cameras' not in given:
        raise ConfigError('fuse:=true needs several cameras; give them with cameras')
    remappings = read_remappings(given['remappings']) if 'remappings' in given else []
    common = {
        'package': 'grasp_success_detector', 'output': 'screen',
        'ros_arguments': ['--log-level', given['log_level']] if 'log_level' in given else None,
        'respawn': switch('respawn', given['respawn']), 'respawn_delay': respawn_delay_s}
    fusion = [Node(
        executable='fusion_node', namespace=given.get('namespace'), remappings=remappings,
        parameters=[*parameters_of(BOTH | HAND), {'cameras': ParameterValue(
            ','.join(camera.name for camera in cameras), value_type=str)}],
        **common)] if fuse else []
    return [*fusion, *(Node(
        executable='detector_node',
        exec_name='_'.join(filter(None, ('detector_node', camera.name))),
        namespace='/'.join(filter(None, (given.get('namespace'), camera.name))) or None,
        # A fused hand counts once, in the fusion.
        parameters=parameters_of(CAMERA | BOTH | ({} if fuse else HAND)),
        remappings=[*remapped_image(camera.topic), *remappings], **common,
    ) for camera in cameras)]


def generate_launch_description() -> LaunchDescription:
    given = given_arguments()
    return LaunchDescription([
        PushLaunchConfigurations(),
        OpaqueFunction(function=forget_others, args=[ARGUMENTS, given]),
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, (default, description) in ARGUMENTS.items()),
        OpaqueFunction(function=start_nodes),
        PopLaunchConfigurations(),
    ])
