"""
Start the grasp success detector: ``ros2 launch grasp_success_detector detector.launch.py``.

No default is stated here. An argument left empty is not passed on, so the node's own counts (and
what params_file says); ``--show-args`` lists the arguments.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

#: Launch arguments that are parameters of the node, with the parameter's type.
PARAMETERS = {'image_transport': str, 'checkpoint': str, 'autostart': bool}

ARGUMENTS = {
    'image_topic':
        'Topic of the camera without the transport, such as /camera/image_raw. Empty: "image" in '
        'the namespace.',
    'image_transport':
        'raw (sensor_msgs/Image) or compressed (sensor_msgs/CompressedImage on '
        '<image_topic>/compressed).',
    'checkpoint':
        'Checkpoint file (.safetensors). Empty: the one that ships with the package.',
    'namespace':
        'ROS namespace of the node.',
    'params_file':
        'YAML file with parameters of the node, such as config/detector.yaml of this package. '
        'The other arguments overrule it.',
    'autostart':
        'true: the node goes to active by itself; false: it waits for a lifecycle manager.',
}


def start_node(context: LaunchContext) -> list[Node]:
    """Return the node with what was given on the command line, and nothing else."""
    given = {name: value for name in ARGUMENTS
             if (value := LaunchConfiguration(name).perform(context))}
    parameters = [given['params_file']] if 'params_file' in given else []
    parameters += [{name: ParameterValue(LaunchConfiguration(name), value_type=value_type)}
                   for name, value_type in PARAMETERS.items() if name in given]
    remappings = []
    if topic := given.get('image_topic'):
        remappings = [('image', topic), ('image/compressed', f'{topic}/compressed')]
    return [Node(
        package='grasp_success_detector', executable='detector_node', output='screen',
        namespace=given.get('namespace'), parameters=parameters, remappings=remappings)]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value='', description=description)
          for name, description in ARGUMENTS.items()),
        OpaqueFunction(function=start_node),
    ])
