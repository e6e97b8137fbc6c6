"""From one serialized message to P(success): deserialize, decode, check visibility, classify."""

from __future__ import annotations

from array import array
from dataclasses import replace
from functools import partial
from importlib import import_module
from time import monotonic_ns
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import ConfigError, ImageDecodeError, one_line
from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.images import decoding
from grasp_success_detector.images.message_fields import read_picture_header
from grasp_success_detector.images.visibility import VisibilityCheck
from grasp_success_detector.ros.node.diagnostics import StageTimes
from grasp_success_detector.ros.node.parameters import ImageDecoder, Parameters, Transport

if TYPE_CHECKING:
    from grasp_success_detector.images.preprocessing import Preprocessing


class UnjudgedError(Exception):
    """
    A frame cannot be judged and is dropped.

    :ivar reason: kind of fault, such as ``'malformed_message'``, by which bad frames are counted.
    :ivar blindness: one of ``decision.BLIND`` if nothing can be seen on the frame.
    """

    def __init__(self, reason: str, text: str, blindness: Reason | None = None) -> None:
        super().__init__(text)
        self.reason, self.blindness = reason, blindness


class ReceivedFrame(NamedTuple):
    """One message as received, still serialized, so that a dropped frame costs nothing more."""

    data: bytes
    received_ns: int    #: monotonic
    period: int         #: that of the VerdictKeeper at the reception


class Stamp(NamedTuple):
    """When a frame was taken, by the camera's clock, or (``received``) its reception."""

    ns: int
    received: bool


class JudgedFrame(NamedTuple):
    """A frame and its probability."""

    message: Any            #: Image or CompressedImage
    probability: float      #: calibrated P(success) in [0, 1]
    stamp: Stamp
    times: StageTimes


class FrameJudge:
    """Deserializer, decoder and classifier; ``facts`` are keys and values for diagnostics."""

    def __init__(self, values: Parameters) -> None:
        """Load and warm up the checkpoint; a GraspSuccessDetectorError names what is wrong."""
        # Imported here because an unconfigured node needs none of it.
        from grasp_success_detector.inference.classifier import GraspClassifier

        self._decode = select_decoder(values.image_decoder)
        self._use_receive_time = values.use_receive_time
        self.message_type: Any = (
            CompressedImage if values.image_transport is Transport.COMPRESSED else Image)
        checkpoint = values.checkpoint or str(share_path(DEFAULT_CHECKPOINT))
        self._classifier = GraspClassifier.from_checkpoint(
            checkpoint, device=values.device, threads=values.threads or None,
            engine=values.engine, precision=values.precision)
        self._classifier.preprocessing = self._preprocessing(values)
        self._classifier.warm_up()
        self._visibility = VisibilityCheck(values.visibility())
        self.facts = {
            'checkpoint': checkpoint,
            'checkpoint_sha256': self._classifier.sha256,
            'architecture': self._classifier.metadata.architecture,
            'engine': str(self._classifier.selection),
            'device': self._classifier.engine.device,
        }

    @property
    def threshold(self) -> float:
        """Threshold of the checkpoint on P(success)."""
        return float(self._classifier.threshold)

    def check(self, values: Parameters) -> None:
        """Raise a ConfigError that names values which do not fit this checkpoint."""
        self._preprocessing(values)
        values.decision(self.threshold)
        values.visibility()

    def apply(self, values: Parameters) -> None:
        """Use other values from the next frame on."""
        self._classifier.preprocessing = self._preprocessing(values)
        self._visibility.config = values.visibility()

    def start_anew(self) -> None:
        """Forget earlier frames."""
        self._visibility = VisibilityCheck(self._visibility.config)

    def free(self) -> None:
        """Give the memory of a GPU back; the network itself goes with the last reference."""
        on_gpu = self._classifier.engine.device.startswith('cuda')
        del self._classifier
        if on_gpu:
            import torch
            torch.cuda.empty_cache()

    def judge(self, frame: ReceivedFrame) -> JudgedFrame:
        """Deserialize, decode, check visibility, classify; UnjudgedError if a step fails."""
        try:
            message = deserialize_message(frame.data, self.message_type)
        except Exception as error:  # rclpy raises what its C layer raised
            raise UnjudgedError('malformed_message', (
                f'no {self.message_type.__name__}: {one_line(error)}')) from error
        deserialized_ns = monotonic_ns()
        stamp_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
        # Frames of a driver that leaves the stamp empty still follow each other in time.
        by_reception = self._use_receive_time or stamp_ns == 0
        stamp = Stamp(frame.received_ns if by_reception else stamp_ns, by_reception)
        try:
            image = self._decode(message, self._classifier.preprocessing.half_suffices)
            if blindness := self._visibility.look(image, stamp.ns):
                raise UnjudgedError(
                    blindness.value, f'nothing can be seen: {blindness.value}', blindness)
            decoded_ns = monotonic_ns()
            prepared = self._classifier.prepare([image])
            preprocessed_ns = monotonic_ns()
            probability = float(self._classifier.predict_prepared(prepared)[0])
            inferred_ns = monotonic_ns()
        except ImageDecodeError as error:
            raise UnjudgedError(error.reason, str(error)) from error
        except UnjudgedError:
            raise
        except Exception as error:  # one frame must not end the node
            raise UnjudgedError(
                'not_judged', f'{type(error).__name__}: {one_line(error)}') from error
        if not 0. <= probability <= 1.:
            raise UnjudgedError('not_finite', f'P(success) of the network is {probability}')
        return JudgedFrame(message, probability, stamp, StageTimes(
            receive=deserialized_ns - frame.received_ns, decode=decoded_ns - deserialized_ns,
            preprocess=preprocessed_ns - decoded_ns, infer=inferred_ns - preprocessed_ns))

    def picture(self, judged: JudgedFrame) -> NDArray[np.uint8]:
        """Return a judged frame in full size, RGB uint8 (H, W, 3)."""
        return self._decode(judged.message, None)

    def _preprocessing(self, values: Parameters) -> Preprocessing:
        given = self._classifier.metadata.preprocessing
        return replace(given, roi=values.roi) if any(values.roi) else given


def select_decoder(decoder: ImageDecoder) -> decoding.Decoder:
    """
    Return the function that turns Image and CompressedImage messages into RGB uint8 (H, W, 3).

    ``native`` is :func:`grasp_success_detector.images.decoding.decode_message`. ``cv_bridge``
    gives the same pixels as in other nodes, never at half size; docs/images.md lists what it
    cannot decode. The function raises ImageDecodeError only.

    :raises ConfigError: cv_bridge cannot be imported.
    """
    if decoder is ImageDecoder.NATIVE:
        return decoding.decode_message
    try:
        # The compiled part first: cv_bridge itself imports it only at the first frame.
        import_module('cv_bridge.boost.cv_bridge_boost')
        bridge = import_module('cv_bridge').CvBridge()
    except Exception as error:  # one built for another numpy fails in many ways
        raise ConfigError(
            f'image_decoder cv_bridge: cannot be imported ({one_line(error)}); install '
            'ros-$ROS_DISTRO-cv-bridge or set image_decoder to native') from error
    return partial(_decode_with, bridge)


def _decode_with(bridge: Any, msg: Any, _: decoding.HalfSuffices | None = None,
                 ) -> decoding.RgbImage:
    compressed = hasattr(msg, 'format')
    try:
        if compressed:
            found = read_picture_header(bytes(msg.data))
            if found and not found.complete:  # older OpenCV fills what is missing with grey
                raise ValueError(f'{found.kind} of {len(msg.data)} bytes ends too early')
            rgb = bridge.compressed_imgmsg_to_cv2(msg, desired_encoding='rgb8')
        else:
            rgb = bridge.imgmsg_to_cv2(_without_padding(bridge, msg), desired_encoding='rgb8')
    except Exception as error:
        raise _cv_bridge_error(msg, one_line(error)) from error
    if rgb is None:
        raise _cv_bridge_error(msg, 'it returned None')
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape[2:] != (3,):
        raise _cv_bridge_error(msg, 'what it returned is no RGB image')
    if 0 in rgb.shape or (not compressed and rgb.shape[:2] != (msg.height, msg.width)):
        raise _cv_bridge_error(msg, f'it returned {rgb.shape[1]} x {rgb.shape[0]} pixels')
    return np.ascontiguousarray(rgb)


def _without_padding(bridge: Any, msg: Any) -> Any:
    """Return the message without padding between its rows, which cv_bridge reads wrongly."""
    # cv_bridge 1.x ignores step, 3.x rounds it down to whole pixels: a sheared picture, no error.
    depth, channels = bridge.encoding_to_dtype_with_channels(msg.encoding)
    row_bytes = msg.width * channels * np.dtype(depth).itemsize
    data = np.frombuffer(msg.data, np.uint8)
    if msg.step < row_bytes or data.size < msg.height * msg.step:
        raise ValueError(f'{data.size} bytes and step {msg.step}; expected {msg.height} rows of '
                         f'{row_bytes} bytes or more')
    if msg.step == row_bytes:
        return msg
    rows = data[:msg.height * msg.step].reshape(msg.height, msg.step)[:, :row_bytes]
    tight = Image(height=msg.height, width=msg.width, encoding=msg.encoding, step=row_bytes,
                  is_bigendian=msg.is_bigendian)
    tight.data = array('B', rows.tobytes())
    return tight


def _cv_bridge_error(msg: Any, what: str) -> ImageDecodeError:
    given = getattr(msg, 'format', None) or getattr(msg, 'encoding', type(msg).__name__)
    return ImageDecodeError(
        decoding.ImageFault.CV_BRIDGE.value,
        f'cv_bridge cannot decode {given!r:.60}: {what}; image_decoder native may')
