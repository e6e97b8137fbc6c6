"""Tell where the hand is in a frame, by TF and CameraInfo."""

from functools import partial
from importlib import import_module
import time
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import ConfigError, HandPlaceError, one_line
from grasp_success_detector.hand.drivers import DriverKind, DRIVERS
from grasp_success_detector.hand.projection import CameraCalibration
from grasp_success_detector.hand.transforms import Moment, Transform, TransformTree
from grasp_success_detector.networks.hand_boxes import HandBox
from grasp_success_detector.ros.node.parameters import Parameters

#: As tf2's listener asks for; best effort receives from every broadcaster.
_TF = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
_TF_STATIC = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
_CAMERA_INFO = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def check_locator(values: Parameters) -> tuple[str, Any]:
    """Return the palm's frame and the type of /tf; raises a ConfigError if one is missing."""
    frame = values.palm_frame or (
        '' if values.driver is DriverKind.NONE else DRIVERS[values.driver].palm_frame)
    if not frame:
        raise ConfigError('roi_mode = tf needs palm_frame, the frame of the palm in TF, as driver '
                          f'{values.driver.value} does not tell it; set it, such as palm_link')
    try:
        return frame, import_module('tf2_msgs.msg').TFMessage
    except ImportError:
        raise ConfigError('roi_mode = tf needs tf2_msgs: sudo apt install '
                          'ros-$ROS_DISTRO-tf2-msgs') from None


def camera_info_topic(image_topic: str) -> str:
    """Return the topic of the calibration beside an image topic, as image_transport names it."""
    return f'{image_topic.removesuffix("/compressed").rpartition("/")[0]}/camera_info'


class HandLocator:
    """Follows /tf, /tf_static and a camera's CameraInfo; ``locate`` is for any one thread."""

    def __init__(self, node: LifecycleNode, values: Parameters, image_topic: str) -> None:
        """Prepare; nothing is subscribed to before ``open``. Errors are those of check_locator."""
        self._node = node
        self._palm_frame, self._tf_type = check_locator(values)
        self._topic = (node.resolve_topic_name(values.camera_info_topic)
                       if values.camera_info_topic else camera_info_topic(image_topic))
        # By image_proc's names, image_rect and image_rect_color; they share the camera_info.
        self._rectified = 'rect' in image_topic.removesuffix('/compressed').rpartition('/')[2]
        self._tree = TransformTree()
        self._info: Any = None
        self._calibration: CameraCalibration | HandPlaceError = HandPlaceError(
            Reason.NO_CALIBRATION.value, f'no CameraInfo was received on {self._topic}')
        self._bad = 0
        self._place = ''
        self._subscriptions: list[Any] = []
        self.apply(values)

    def apply(self, values: Parameters) -> None:
        """Use the hand's size and the longest age of transforms of ``values``."""
        self._size_m, self._longest_s = values.hand_size_m, values.stale_after_s

    def open(self) -> None:
        """Subscribe."""
        if self._subscriptions:
            return
        for kind, topic, take, profile in (
                (CameraInfo, self._topic, self._take_info, _CAMERA_INFO),
                (self._tf_type, '/tf', partial(self._take_transforms, False), _TF),
                (self._tf_type, '/tf_static', partial(self._take_transforms, True), _TF_STATIC)):
            self._subscriptions.append(self._node.create_subscription(
                kind, topic, take, profile, raw=True))

    def close(self) -> None:
        """Unsubscribe."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def facts(self) -> dict[str, str]:
        """Return keys and values for the diagnostics."""
        return {'palm_frame': self._palm_frame, 'camera_info_topic': self._topic,
                'hand_place': self._place, 'hand_place_bad': str(self._bad)}

    def locate(self, frame_id: str, stamp_ns: int | None, height: int, width: int) -> HandBox:
        """
        Return where the hand is in a frame.

        :param frame_id: frame of the camera in TF.
        :param stamp_ns: time of the frame by the ROS clock; None: now.
        :param height: of the frame, in pixels, at any scale.
        :param width: of the frame, in the same pixels.
        :raises HandPlaceError: it cannot be told, or the hand is not in the picture.
        """
        try:
            calibration = self._calibration
            if isinstance(calibration, HandPlaceError):
                raise HandPlaceError(calibration.reason, str(calibration))
            if not frame_id:
                raise HandPlaceError(Reason.NO_TRANSFORM.value, (
                    'the headers of the frames have no frame_id, which names the frame of the '
                    'camera'))
            middle = self._tree.origin(self._palm_frame, frame_id, Moment(
                stamp_ns, time.monotonic_ns(), self._longest_s))
            box = calibration.hand_box(middle, self._size_m, height, width)
        except HandPlaceError as error:
            self._place = str(error)
            raise
        self._place = (f'x {middle[0]:.3f} y {middle[1]:.3f} z {middle[2]:.3f} m from '
                       f'{frame_id}')
        return box

    def _take_info(self, data: bytes) -> None:
        try:
            info = deserialize_message(data, CameraInfo)
            # A camera sends it with every frame, the same again and again.
            info.header.stamp.sec = info.header.stamp.nanosec = 0
            if info == self._info:
                return
            self._info, region = info, info.roi
            self._calibration = CameraCalibration(
                info.width, info.height, tuple(info.k), tuple(info.d), info.distortion_model,
                tuple(info.r), tuple(info.p),
                (region.x_offset, region.y_offset, region.width, region.height), self._rectified)
        except HandPlaceError as error:
            self._calibration = error
        except Exception as error:  # noqa: BLE001 - rclpy raises what its C layer raised
            self._refuse(error)

    def _take_transforms(self, static: bool, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        try:
            for given in deserialize_message(data, self._tf_type).transforms:
                stamp, place = given.header.stamp, given.transform
                moved, turned = place.translation, place.rotation
                self._bad += not self._tree.add(given.child_frame_id, Transform(
                    given.header.frame_id, stamp.sec * NS_PER_S + stamp.nanosec, now_ns,
                    (moved.x, moved.y, moved.z), (turned.x, turned.y, turned.z, turned.w)), static)
        except Exception as error:  # noqa: BLE001 - rclpy raises what its C layer raised
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        self._bad += 1
        self._node.get_logger().warning(
            f'a transform or calibration cannot be read: {one_line(error)}',
            throttle_duration_sec=10.)
