"""detector_node: decide from camera frames whether the hand holds the object (a ROS 2 node)."""

from collections.abc import Sequence

from grasp_success_detector.console import command, command_parser
from grasp_success_detector.ros import process
from grasp_success_detector.ros.node.lifecycle_node import DetectorNode

EPILOG = """examples:
  detector_node --ros-args -r image:=/camera/image_raw
  detector_node --ros-args -r image:=/camera/image_raw -p image_transport:=compressed
  detector_node --ros-args -p checkpoint:=my.safetensors -p threshold:=0.7 -r __ns:=/left_hand
  detector_node --ros-args --params-file detector.yaml"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the node until it is interrupted."""
    arguments = process.full_arguments(argv, 'detector_node')
    command_parser(__doc__, EPILOG).parse_args(process.own_arguments(arguments))
    with process.ros_process(arguments):
        node = DetectorNode()
        return process.run_managed_node(node, node.autostart)


if __name__ == '__main__':
    raise SystemExit(main(None))
