"""fusion_node: one verdict from several detectors and the hand (a ROS 2 node)."""

from collections.abc import Sequence

from grasp_success_detector.console import command, command_parser
from grasp_success_detector.ros import process
from grasp_success_detector.ros.node.fusion_node import FusionNode

EPILOG = """examples:
  fusion_node --ros-args -p cameras:=left,right
      of left/grasp_success/confidence and right/grasp_success/confidence
  fusion_node --ros-args -p cameras:=left,right -p driver:=v5 -p hand_model:=hand.json
      also with the joint states of the hand"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments and run the node until it is interrupted."""
    arguments = process.full_arguments(argv, 'fusion_node')
    command_parser(__doc__, EPILOG).parse_args(process.own_arguments(arguments))
    with process.ros_process(arguments):
        node = FusionNode()
        return process.run_managed_node(node, node.autostart)


if __name__ == '__main__':
    raise SystemExit(main(None))
