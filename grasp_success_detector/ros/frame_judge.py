"""From one serialized message to P(success): what the node's worker thread does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.resources import DEFAULT_CHECKPOINT, share_path
from grasp_success_detector.ros.decoders import select_decoder
from grasp_success_detector.ros.parameters import Parameters

if TYPE_CHECKING:
    from grasp_success_detector.classifier import GraspClassifier


class UnjudgedFrameError(Exception):
    """
    A frame gave no probability; it is to be dropped.

    :ivar reason: short slug; bad frames are counted by it.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class JudgedFrame(NamedTuple):
    """
    A frame and what the network says of it.

    :ivar image: RGB uint8 (H, W, 3).
    :ivar probability: calibrated P(success) in [0, 1].
    """

    header: Header
    image: NDArray[np.uint8]
    probability: float


@dataclass(frozen=True)
class FrameJudge:
    """
    Deserializer, decoder and classifier of one configuration.

    :ivar message_type: class of the messages, Image or CompressedImage.
    :ivar facts: what diagnostics tell of it.
    """

    message_type: Any
    decode: Callable[[Any], NDArray[np.uint8]]
    classifier: GraspClassifier
    facts: dict[str, str]

    @classmethod
    def load(cls, values: Parameters) -> FrameJudge:
        """
        Load the checkpoint and run it once, since the first run is slow.

        :raises CheckpointError: the checkpoint cannot be used.
        :raises ConfigError: another parameter cannot be used.
        """
        # Imported here because torch takes seconds and a node that only waits needs none of it.
        from grasp_success_detector.classifier import GraspClassifier

        decode = select_decoder(values.image_decoder)
        checkpoint = values.checkpoint or str(share_path(DEFAULT_CHECKPOINT))
        classifier = GraspClassifier.from_checkpoint(
            checkpoint, device=values.device, threads=values.threads or None)
        classifier.warm_up()
        return cls(
            CompressedImage if values.image_transport == 'compressed' else Image,
            decode, classifier, {
                'checkpoint': checkpoint,
                'checkpoint_sha256': classifier.sha256,
                'architecture': classifier.metadata.architecture,
                'device': str(classifier.device),
            })

    @property
    def threshold(self) -> float:
        """P(success) from which the checkpoint's makers count a grasp as success."""
        return float(self.classifier.threshold)

    def judge(self, data: bytes) -> JudgedFrame:
        """
        Deserialize, decode, classify.

        :param data: the message as it came over DDS (CDR).
        :raises UnjudgedFrameError: any of the steps failed.
        """
        try:
            message = deserialize_message(data, self.message_type)
        except Exception as error:  # noqa: BLE001 - rclpy raises what its C layer raised
            raise UnjudgedFrameError(
                'malformed_message', f'no {self.message_type.__name__}: {error}') from error
        try:
            image = self.decode(message)
            probability = float(self.classifier.predict([image])[0])
        except ImageDecodeError as error:
            raise UnjudgedFrameError(error.reason, str(error)) from error
        except Exception as error:  # noqa: BLE001 - whatever a frame does, the next one counts
            raise UnjudgedFrameError('not_judged', f'{type(error).__name__}: {error}') from error
        if not 0. <= probability <= 1.:
            raise UnjudgedFrameError('not_finite', f'the network says P(success) = {probability}')
        return JudgedFrame(message.header, image, probability)
