"""From one serialized message to P(success): what the node's worker thread does."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic_ns
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import ImageDecodeError, one_line
from grasp_success_detector.files import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.images.visibility import VisibilityCheck
from grasp_success_detector.ros.node.decoders import select_decoder
from grasp_success_detector.ros.node.parameters import Parameters

if TYPE_CHECKING:
    from grasp_success_detector.images.preprocessing import Preprocessing


class UnjudgedFrameError(Exception):
    """
    A frame gave no probability; it is to be dropped.

    :ivar reason: short slug; bad frames are counted by it.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BlindFrameError(UnjudgedFrameError):
    """
    Nothing can be seen on a frame.

    :ivar blindness: why.
    """

    def __init__(self, blindness: Reason) -> None:
        super().__init__(blindness.value, f'nothing can be seen: {blindness.value}')
        self.blindness = blindness


class ReceivedFrame(NamedTuple):
    """
    One message as it came in, still serialized: a frame that is dropped costs nothing more.

    :ivar received_ns: monotonic ns.
    :ivar session: number of the period in which it came; later ones do not answer it any more.
    """

    data: bytes
    received_ns: int
    session: int


class Stamp(NamedTuple):
    """
    When a frame was taken.

    :ivar ns: of the camera's clock; monotonic ns of the reception where that is not to be used.
    :ivar received: whether it is the reception's.
    """

    ns: int
    received: bool


class JudgedFrame(NamedTuple):
    """
    A frame and what the network says of it.

    :ivar message: Image or CompressedImage.
    :ivar probability: calibrated P(success) in [0, 1].
    :ivar stamp: when it was taken.
    :ivar done_ns: when it had been received (waited and deserialized), decoded (and looked at),
        preprocessed, inferred; monotonic ns.
    """

    message: Any
    probability: float
    stamp: Stamp
    done_ns: tuple[int, int, int, int]


class FrameJudge:
    """
    Deserializer, decoder and classifier of one configuration.

    :ivar message_type: class of the messages, Image or CompressedImage.
    :ivar facts: what diagnostics tell of it.
    :ivar visibility: looks whether anything can be seen; a new one for each activation.
    """

    def __init__(self, values: Parameters) -> None:
        """
        Load the checkpoint and run it once, since the first run is slow.

        :raises CheckpointError: the checkpoint cannot be used.
        :raises ConfigError: another parameter cannot be used.
        """
        # Imported here because a node that only waits needs none of it.
        from grasp_success_detector.inference.classifier import GraspClassifier

        self._decode = select_decoder(values.image_decoder)
        self._use_receive_time = values.use_receive_time
        self.message_type: Any = (
            CompressedImage if values.image_transport == 'compressed' else Image)
        checkpoint = values.checkpoint or str(share_path(DEFAULT_CHECKPOINT))
        self._classifier = GraspClassifier.from_checkpoint(
            checkpoint, device=values.device, threads=values.threads or None,
            engine=values.engine, precision=values.precision)
        self._classifier.preprocessing = self._preprocessing(values)
        self._classifier.warm_up()
        self.visibility = VisibilityCheck(values.visibility())
        choice = self._classifier.choice
        self.facts = {
            'checkpoint': checkpoint,
            'checkpoint_sha256': self._classifier.sha256,
            'architecture': self._classifier.metadata.architecture,
            'engine': str(choice),
            'device': choice.engine.device,
        }

    @property
    def threshold(self) -> float:
        """P(success) from which the checkpoint's makers count a grasp as success."""
        return float(self._classifier.threshold)

    def check(self, values: Parameters) -> None:
        """
        Refuse values that cannot be taken while running.

        :raises ConfigError: saying why.
        """
        self._preprocessing(values)
        values.decision(self.threshold)
        values.visibility()

    def configure(self, values: Parameters) -> None:
        """Use other values from the next frame on; each attribute is replaced at once."""
        self._classifier.preprocessing = self._preprocessing(values)
        self.visibility.config = values.visibility()

    def start_anew(self) -> None:
        """Forget the frames that were looked at."""
        self.visibility = VisibilityCheck(self.visibility.config)

    def free(self) -> None:
        """Give the memory of a GPU back; the network itself goes with the last reference."""
        on_gpu = self._classifier.choice.engine.device.startswith('cuda')
        del self._classifier
        if on_gpu:
            import torch
            torch.cuda.empty_cache()

    def judge(self, frame: ReceivedFrame) -> JudgedFrame:
        """
        Deserialize, decode, look whether anything can be seen, classify.

        :raises UnjudgedFrameError: any of the steps failed.
        """
        try:
            message = deserialize_message(frame.data, self.message_type)
        except Exception as error:  # rclpy raises what its C layer raised
            raise UnjudgedFrameError('malformed_message', (
                f'no {self.message_type.__name__}: {one_line(error)}')) from error
        received_ns = monotonic_ns()
        stamp = self._stamp(message.header, frame.received_ns)
        try:
            image = self._decode(message, self._classifier.preprocessing.half_suffices)
            if blindness := self.visibility.look(image, stamp.ns):
                raise BlindFrameError(blindness)
            decoded_ns = monotonic_ns()
            prepared = self._classifier.prepare([image])
            preprocessed_ns = monotonic_ns()
            probability = float(self._classifier.predict_prepared(prepared)[0])
            inferred_ns = monotonic_ns()
        except ImageDecodeError as error:
            raise UnjudgedFrameError(error.reason, str(error)) from error
        except UnjudgedFrameError:
            raise
        except Exception as error:  # whatever a frame does, the next one counts
            raise UnjudgedFrameError(
                'not_judged', f'{type(error).__name__}: {one_line(error)}') from error
        if not 0. <= probability <= 1.:
            raise UnjudgedFrameError('not_finite', f'the network says P(success) = {probability}')
        return JudgedFrame(message, probability, stamp, (
            received_ns, decoded_ns, preprocessed_ns, inferred_ns))

    def picture(self, judged: JudgedFrame) -> NDArray[np.uint8]:
        """Return a judged frame in full size for somebody to look at, RGB uint8 (H, W, 3)."""
        return self._decode(judged.message, None)

    def _stamp(self, header: Header, received_ns: int) -> Stamp:
        stamp_ns = header.stamp.sec * NS_PER_S + header.stamp.nanosec
        # A driver that leaves the stamp empty: its frames still follow each other in time.
        received = self._use_receive_time or stamp_ns == 0
        return Stamp(received_ns if received else stamp_ns, received)

    def _preprocessing(self, values: Parameters) -> Preprocessing:
        given = self._classifier.metadata.preprocessing
        return replace(given, roi=values.roi) if any(values.roi) else given
