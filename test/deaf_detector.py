"""The real node, with a library that swallows a Ctrl-C while the checkpoint is being loaded."""

import sys
import time

from grasp_success_detector.ros.node.lifecycle_node import DetectorNode
from grasp_success_detector.ros.process import ros_process, run_managed_node


class DeafDetector(DetectorNode):
    def _configure(self):
        self.get_logger().info('loading')
        try:
            time.sleep(60.)
        except KeyboardInterrupt:
            pass
        super()._configure()


if __name__ == '__main__':
    with ros_process(sys.argv):
        sys.exit(run_managed_node(DeafDetector(), autostart=True))
