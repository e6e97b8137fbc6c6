"""The real node with a slow network: each frame is judged 0.2 s later than it could be."""

import sys
import time

from grasp_success_detector.ros.node.lifecycle_node import DetectorNode
from grasp_success_detector.ros.process import ros_process, run_managed_node

INFERENCE_S = 0.2


class SlowDetector(DetectorNode):
    def _work_on(self, frame):
        time.sleep(INFERENCE_S)
        super()._work_on(frame)


if __name__ == '__main__':
    with ros_process(sys.argv):
        sys.exit(run_managed_node(SlowDetector(), autostart=True))
