"""The node of the baseline: a queue of 10, all in the callback; or, without a file, no work."""

from pathlib import Path
import sys

from contestants import Baseline
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Bool, Float32


class BaselineNode(Node):
    def __init__(self, checkpoint: Path) -> None:
        super().__init__('baseline')
        self.classifier = Baseline(checkpoint)
        self.verdict = self.create_publisher(Bool, 'grasp_success', 10)
        self.confidence = self.create_publisher(Float32, 'grasp_success/confidence', 10)
        self.create_subscription(CompressedImage, 'image/compressed', self.callback, 10)

    def callback(self, message: CompressedImage) -> None:
        probability, = self.classifier.predict_jpegs([bytes(message.data)])
        self.verdict.publish(Bool(data=probability >= 0.5))
        self.confidence.publish(Float32(data=probability))


class IdleNode(Node):
    """Answers each message as it comes, not even deserialized."""

    def __init__(self) -> None:
        super().__init__('idle')
        confidence = self.create_publisher(Float32, 'grasp_success/confidence', 10)
        self.create_subscription(CompressedImage, 'image/compressed',
                                 lambda data: confidence.publish(Float32(data=.5)), 1, raw=True)


def main() -> None:
    rclpy.init()
    node = BaselineNode(Path(sys.argv[1])) if sys.argv[1:] else IdleNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
