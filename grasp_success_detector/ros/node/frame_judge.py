"""Turn serialized messages into P(success): deserialize, decode, check visibility, classify."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic_ns
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import (
    ConfigError,
    HandPlaceError,
    ImageDecodeError,
    one_line,
)
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.images.visibility import VisibilityCheck
from grasp_success_detector.ros.node.diagnostics import StageTimes
from grasp_success_detector.ros.node.hand_locator import check_locator, HandLocator
from grasp_success_detector.ros.node.image_conversion import select_decoder
from grasp_success_detector.ros.node.parameters import Parameters, RoiMode, Transport

if TYPE_CHECKING:
    from grasp_success_detector.images.preprocessing import Preprocessing
    from grasp_success_detector.networks.hand_boxes import HandBox


class UnjudgedError(Exception):
    """
    A frame cannot be judged and is dropped.

    :ivar reason: kind of fault, such as ``'malformed_message'``; diagnostics count frames by it.
    :ivar blindness: one of ``decision.BLIND`` if the frame shows nothing, AMBIGUOUS_SOURCE if it
        may be of another camera, NO_HAND if no hand was found, a reason of HandPlaceError if its
        place cannot be told, else None.
    """

    def __init__(self, reason: str, text: str, blindness: Reason | None = None) -> None:
        super().__init__(text)
        self.reason, self.blindness = reason, blindness


class ReceivedFrame(NamedTuple):
    """A received message, still serialized; only a frame that is judged is deserialized."""

    data: bytes
    received_ns: int    #: monotonic time of reception
    period: int         #: ``VerdictKeeper.period`` at that time


class Stamp(NamedTuple):
    """Time of a frame: the stamp in its header, or the time of its reception."""

    ns: int             #: monotonic if ``received``, else by the camera's clock
    received: bool      #: whether it is the time of reception


class JudgedFrame(NamedTuple):
    """A classified frame."""

    message: Any            #: Image or CompressedImage
    probability: float      #: calibrated P(success) in [0, 1]
    stamp: Stamp
    times: StageTimes
    unfamiliar: bool = False    #: whether it looks like none that the checkpoint knows
    box: HandBox | None = None  #: the hand, where it was looked for


class FrameJudge:
    """Compute P(success) of frames; ``facts`` describes checkpoint and engine in diagnostics."""

    def __init__(self, values: Parameters) -> None:
        """Load and warm up the checkpoint; raises GraspSuccessDetectorError if that fails."""
        # Imported here because an unconfigured node needs none of it.
        from grasp_success_detector.inference.classifier import GraspClassifier

        self._decode = select_decoder(values.image_decoder)
        self.uses_receive_time = values.use_receive_time
        self.message_type: Any = (
            CompressedImage if values.image_transport is Transport.COMPRESSED else Image)
        checkpoint = str(checkpoint_path(values.checkpoint))
        self._classifier = GraspClassifier.from_checkpoint(
            checkpoint, device=values.device, threads=values.threads or None,
            engine=values.engine, precision=values.precision)
        self._classifier.preprocessing = self._preprocessing(values)
        self._classifier.warm_up()
        self._visibility = VisibilityCheck(values.visibility())
        self._familiarity_quantile = values.familiarity_quantile
        self.facts = {
            'checkpoint': checkpoint,
            'checkpoint_sha256': self._classifier.sha256,
            'architecture': self._classifier.metadata.architecture,
            'engine': str(self._classifier.selection),
            'device': self._classifier.engine.device,
        }

    @property
    def threshold(self) -> float:
        """P(success) from which the checkpoint itself says SUCCESS."""
        return float(self._classifier.threshold)

    def check(self, values: Parameters) -> None:
        """Raise a ConfigError if a parameter does not fit this checkpoint."""
        self._preprocessing(values)
        if values.roi_mode is RoiMode.TF:
            check_locator(values)
        values.decision(self.threshold)
        values.visibility()

    def apply(self, values: Parameters) -> None:
        """Use the region of interest and the visibility limits of ``values`` from now on."""
        self._classifier.preprocessing = self._preprocessing(values)
        self._visibility.config = values.visibility()
        self._familiarity_quantile = values.familiarity_quantile

    def start_anew(self) -> None:
        """Forget earlier frames, with which the check for a frozen camera compares."""
        self._visibility = VisibilityCheck(self._visibility.config)

    def free(self) -> None:
        """Drop the network and free its GPU memory; the object cannot be used afterwards."""
        on_gpu = self._classifier.engine.device.startswith('cuda')
        del self._classifier
        if on_gpu:
            import torch
            torch.cuda.empty_cache()

    def judge(self, frame: ReceivedFrame, locator: HandLocator | None = None) -> JudgedFrame:
        """
        Return the frame's P(success); raises UnjudgedError if any step fails.

        :param locator: tells where the hand is; None: it is looked for, if at all.
        """
        try:
            message = deserialize_message(frame.data, self.message_type)
        except Exception as error:  # rclpy raises what its C layer raised
            raise UnjudgedError('malformed_message', (
                f'no {self.message_type.__name__}: {one_line(error)}')) from error
        deserialized_ns = monotonic_ns()
        stamp_ns = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
        # Frames of a driver that leaves the stamp empty still follow each other in time.
        by_reception = self.uses_receive_time or stamp_ns == 0
        stamp = Stamp(frame.received_ns if by_reception else stamp_ns, by_reception)
        try:
            image = self._decode(message, self._classifier.preprocessing.half_suffices)
            if blindness := self._visibility.look(image, stamp.ns):
                raise UnjudgedError(
                    blindness.value, f'nothing can be seen: {blindness.value}', blindness)
            decoded_ns = monotonic_ns()
            view = self._classifier.look(image, None if locator is None else locator.locate(
                message.header.frame_id, None if stamp.received else stamp.ns, *image.shape[:2]))
            if view.no_hand:
                raise UnjudgedError(
                    Reason.NO_HAND.value, 'no Allegro hand is found in it', Reason.NO_HAND)
            preprocessed_ns = monotonic_ns()
            probability = float(self._classifier.predict_prepared(view.image[None])[0])
            unfamiliar = bool(self._classifier.unfamiliar(1, self._familiarity_quantile)[0])
            inferred_ns = monotonic_ns()
        except ImageDecodeError as error:
            raise UnjudgedError(error.reason, str(error)) from error
        except HandPlaceError as error:
            raise UnjudgedError(error.reason, str(error), Reason(error.reason)) from error
        except UnjudgedError:
            raise
        except Exception as error:  # one frame must not end the node
            raise UnjudgedError(
                'not_judged', f'{type(error).__name__}: {one_line(error)}') from error
        if not 0. <= probability <= 1.:
            raise UnjudgedError('not_finite', f'P(success) of the network is {probability}')
        return JudgedFrame(message, probability, stamp, StageTimes(
            receive=deserialized_ns - frame.received_ns, decode=decoded_ns - deserialized_ns,
            preprocess=preprocessed_ns - decoded_ns, infer=inferred_ns - preprocessed_ns),
            unfamiliar, view.box)

    def picture(self, judged: JudgedFrame) -> NDArray[np.uint8]:
        """Return the frame's image at full size, RGB uint8 (H, W, 3)."""
        return self._decode(judged.message, None)

    def _preprocessing(self, values: Parameters) -> Preprocessing:
        given = self._classifier.metadata.preprocessing
        roi = values.roi if any(values.roi) else given.roi
        match values.roi_mode:
            case RoiMode.HAND | RoiMode.TF if not given.hand:
                raise ConfigError(
                    f'roi_mode = {values.roi_mode.value}: this checkpoint has not learned from '
                    'hands that were cut out; take another one, or fixed')
            case RoiMode.HAND | RoiMode.TF:
                return replace(given, roi=roi)
            case RoiMode.FIXED:
                return replace(given, roi=roi, hand=0.)
        return replace(given, roi=roi, hand=0.) if any(values.roi) else given
