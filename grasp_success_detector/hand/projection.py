"""Where the hand is in a picture, by its place before a calibrated camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.decision import Reason
from grasp_success_detector.errors import HandPlaceError
from grasp_success_detector.networks.hand_boxes import HandBox

#: Numbers of coefficients that OpenCV takes of each ``distortion_model`` of
#: sensor_msgs/distortion_models.hpp.
COEFFICIENTS: Final = {
    'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}

#: Points on the outline of the ball that stands for the hand.
_POINTS: Final = 32

#: Relative difference of aspect ratios from which pictures are not those of the calibration.
_OTHER_SHAPE: Final = 0.02


@dataclass(frozen=True)
class CameraCalibration:
    """
    The calibration of a camera, as sensor_msgs/CameraInfo has it.

    :ivar width: of the pictures, in pixels, without binning.
    :ivar height: of the pictures, in pixels, without binning.
    :ivar k: camera matrix (9,), row by row.
    :ivar d: coefficients of the distortion; empty: none.
    :ivar model: name of the distortion, see COEFFICIENTS; not needed where ``d`` is empty.
    :ivar r: rotation from the camera to the rectified camera (9,), row by row; all 0: none.
    :ivar p: projection of the rectified camera (12,), row by row.
    :ivar part: left, top, width and height of the part of the picture that is sent, in pixels;
        width or height 0: all of it.
    :ivar rectified: whether pictures are rectified, so that ``p`` is used, else ``k`` and ``d``.
    """

    width: int
    height: int
    k: Sequence[float]
    d: Sequence[float] = ()
    model: str = ''
    r: Sequence[float] = (0.,) * 9
    p: Sequence[float] = (0.,) * 12
    part: tuple[int, int, int, int] = (0, 0, 0, 0)
    rectified: bool = False

    def __post_init__(self) -> None:
        """Raise a HandPlaceError if nothing can be projected with these values."""
        lengths = len(self.k), len(self.r), len(self.p)
        focal = self.p if self.rectified else self.k
        if lengths != (9, 9, 12) or not (
                min(self.width, self.height, focal[0], focal[len(focal) // 3 + 1]) > 0
                and np.isfinite([*self.k, *self.d, *self.r, *self.p]).all()):
            raise _no_calibration('it is of a camera that is not calibrated')
        if self.rectified or not any(self.d):
            return
        if self.model not in COEFFICIENTS:
            raise _no_calibration(f'distortion {self.model!r}; expected {", ".join(COEFFICIENTS)}')
        if len(self.d) not in COEFFICIENTS[self.model]:
            raise _no_calibration(f'distortion {self.model} with {len(self.d)} coefficients')

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """
        Return where points are in the picture, float64 (N, 2), as fractions of it.

        :param points: float64 (N, 3) in the frame of the camera (x right, y down, z forward), in
            metres, z above 0.
        """
        if self.rectified:
            matrix = np.reshape(self.p, (3, 4))
            projected = points @ matrix[:, :3].T + matrix[:, 3]
            pixels = projected[:, :2] / projected[:, 2:]
        else:
            turn = np.reshape(self.r, (3, 3)) if any(self.r) else np.eye(3)
            by = cv2.fisheye.projectPoints if self.model == 'equidistant' and any(
                self.d) else cv2.projectPoints
            pixels = np.reshape(by(
                points[:, None], cv2.Rodrigues(turn.T)[0], np.zeros(3),
                np.reshape(self.k, (3, 3)).astype(np.float64),
                np.array(self.d if any(self.d) else (0.,) * 4, np.float64))[0], (-1, 2))
        left, top, width, height = self._part
        # Coordinates of a pixel are those of its middle.
        return np.asarray((pixels + .5 - (left, top)) / (width, height), np.float64)

    @property
    def _part(self) -> tuple[int, int, int, int]:
        return self.part if min(self.part[2:]) > 0 else (0, 0, self.width, self.height)

    def hand_box(self, middle: NDArray[np.float64], size_m: float, height: int, width: int,
                 ) -> HandBox:
        """
        Return the box of a ball in a picture, cut off at its edges.

        :param middle: of the ball (3,), in the frame of the camera, in metres.
        :param size_m: its diameter.
        :param height: of the picture, in pixels, at any scale.
        :param width: of the picture, in the same pixels.
        :raises HandPlaceError: its middle is not in the picture, the camera is in the ball, or the
            picture has another shape than those of the calibration.
        """
        _, _, own_width, own_height = self._part
        if abs(width * own_height / (height * own_width) - 1) > _OTHER_SHAPE:
            raise _no_calibration(f'it is of pictures of {own_width} x {own_height} pixels, '
                                  f'frames have {width} x {height}')
        distance, radius = float(np.linalg.norm(middle)), size_m / 2
        ahead = middle[2] > 0
        x, y = self.project(middle[None])[0].tolist() if ahead else (-1., -1.)
        if not (ahead and 0 <= x <= 1 and 0 <= y <= 1 and self._in_reach(middle)):
            raise HandPlaceError(Reason.OUT_OF_VIEW.value, (
                'the hand is outside the picture' if ahead else 'the hand is behind the camera'))
        # The outline that a camera sees of a ball is a circle on it, nearer than its middle.
        nearer = 1 - (radius / distance) ** 2
        outline = middle * nearer + radius * np.sqrt(max(nearer, 0.)) * _circle(middle / distance)
        if nearer <= 0 or outline[:, 2].min() <= 0:
            raise HandPlaceError(Reason.OUT_OF_VIEW.value, (
                f'the hand is {distance:.2f} m from the camera, too near for a hand of '
                f'{size_m} m'))
        edges = self.project(outline)
        (left, top), (right, bottom) = np.clip([edges.min(0), edges.max(0)], 0, 1).tolist()
        return HandBox(left, top, right, bottom)

    def _in_reach(self, point: NDArray[np.float64]) -> bool:
        """
        Return whether the distortion's formula holds at a point.

        Far from the middle of the picture polynomials turn back into it.
        """
        axis = np.array([0., 0., 1.])
        at = self.project(np.stack([axis, .99 * point + .01 * point[2] * axis, point]))
        inner, outer = np.linalg.norm(at[1:] - at[0], axis=1)
        return bool(outer >= inner)


def _circle(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (n, 3) of the circle of radius 1 around a direction (3,) of length 1."""
    across = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    across /= np.linalg.norm(across)
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)[:, None]
    return np.asarray(np.cos(angles) * across + np.sin(angles) * np.cross(axis, across))


def _no_calibration(text: str) -> HandPlaceError:
    return HandPlaceError(Reason.NO_CALIBRATION.value, f'the calibration cannot be used: {text}')
