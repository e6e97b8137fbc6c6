"""The real node with a slow network: each frame is judged 0.2 s later than it could be."""

import sys
import time

from grasp_success_detector.ros.node.frame_judge import FrameJudge
from grasp_success_detector.ros.node.lifecycle_node import DetectorNode
from grasp_success_detector.ros.process import ros_process, run_managed_node

INFERENCE_S = 0.2


judge = FrameJudge.judge


def judge_slowly(self, *arguments):
    time.sleep(INFERENCE_S)
    return judge(self, *arguments)


if __name__ == '__main__':
    FrameJudge.judge = judge_slowly
    with ros_process(sys.argv):
        sys.exit(run_managed_node(DetectorNode(), autostart=True))
