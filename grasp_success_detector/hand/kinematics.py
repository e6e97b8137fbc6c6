"""
Where the links of an Allegro hand are, by the angles of its joints, and how near they lie.

Origins, axes and lengths are those of the maker's URDF (SimLab, allegro_hand_description, right
hand; those of allegro_hand_ros2 for V4 differ by at most 1.6 mm, but for the length of the thumb's
last link). Its left hand is the mirror image: the first joint of each finger but the thumb turns
about the same axis, so that its angle changes sign, and the others keep theirs.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.hand.drivers import DriverKind, JOINTS_PER_FINGER, Side


class Geometry(Enum):
    """
    Hand whose links are known here.

    The thumb of V5 lies about a centimetre elsewhere, which is as much as the distances are about;
    the maker describes two kinds of V5, which the names of their joints do not tell apart.
    """

    V4_RIGHT = 'v4_right'
    V4_LEFT = 'v4_left'


#: Pairs of index (0), middle, ring and thumb (3) that stop each other, and then touch.
PAIRS = ((3, 0), (3, 1), (3, 2), (0, 1), (1, 2))

#: Links of both fingers of each pair, by finger and number; without the thumb's first one.
_LINKS = [[((a, i), (b, j)) for i in range(a == 3, 3) for j in range(3)] for a, b in PAIRS]

#: Where the first joint of index, middle, ring and thumb lies in the palm, in metres. Palm: x out
#: of it, y to the index finger, z to the fingertips.
_ORIGINS = np.array([[0, .0435, -.001542], [0, 0, .0007], [0, -.0435, -.001542],
                     [-.0182, .019333, -.045987]])
#: Turn of the fingers against the palm about x, in radians.
_TURNS = np.array([-.08726646, 0, .08726646])
#: Turn of the thumb: by -95 degrees about y, then by -90 degrees about z.
_THUMB = np.array([[0, 1, 0], [np.sin(np.radians(5)), 0, np.cos(np.radians(5))],
                   [np.cos(np.radians(5)), 0, -np.sin(np.radians(5))]])
#: From the first joint to the first link's begin, where the fingers bend, in metres.
_OFFSETS = np.array([[0, 0, .0164]] * 3 + [[-.027, .005, .0399]])
#: Lengths of the three links from there to the centre of the fingertip, in metres.
_LENGTHS = np.array([[.054, .0384, .0267]] * 3 + [[.0177, .0514, .0423]])


def geometry_of(driver: DriverKind, side: Side) -> Geometry | None:
    """Return the geometry of a driver's hand; None where it is not known."""
    if driver is not DriverKind.V4:
        return None
    return Geometry.V4_RIGHT if side is Side.RIGHT else Geometry.V4_LEFT


def link_points(angles: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """
    Return where the three links of each finger begin, and where its tip is.

    :param angles: of the joints in radians, (N, 16), in the order of index, middle, ring, thumb.
    :returns: metres in the frame of the palm, (N, 4 fingers, 4 points, 3).
    """
    fingers, thumb = np.split(angles.reshape(len(angles), 4, JOINTS_PER_FINGER), [3], 1)
    side = -1 if geometry is Geometry.V4_LEFT else 1
    # Each finger bends in a plane, which one joint turns about z, and one of the thumb about x.
    about_z = np.column_stack([fingers[..., 0] * side, thumb[..., 1]])[..., None]
    about_x = np.column_stack([np.tile(_TURNS, (len(angles), 1)), -thumb[..., 0]])[..., None]
    bent = np.concatenate([fingers[..., 1:], np.insert(thumb[..., 2:], 0, 0, -1)], 1).cumsum(-1)
    out, along = (np.insert((_LENGTHS * part).cumsum(-1), 0, 0, -1)
                  for part in (np.sin(bent), np.cos(bent)))
    x, y, z = np.moveaxis(np.stack([out * np.cos(about_z), out * np.sin(about_z), along], -1)
                          + _OFFSETS[:, None], -1, 0)
    points = np.stack([x, y * np.cos(about_x) - z * np.sin(about_x),
                       y * np.sin(about_x) + z * np.cos(about_x)], -1)
    points[:, 3] = points[:, 3] @ _THUMB.T
    return np.asarray((points + _ORIGINS[:, None]) * [1, side, 1])


def finger_distances(angles: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """
    Return how far the axes of two fingers' links are apart, for each of PAIRS.

    :param angles: of the joints in radians, (N, 16), in the order of index, middle, ring, thumb.
    :returns: metres (N, len(PAIRS)), the shortest distance between any two of their links. The
        thumb's first link, which only turns in the palm, is left out.
    """
    points = link_points(angles, geometry)
    a, i, b, j = np.array([(*one, *other) for pair in _LINKS for one, other in pair]).T
    apart = _apart(points[:, a, i], points[:, a, i + 1], points[:, b, j], points[:, b, j + 1])
    starts = np.cumsum([0, *map(len, _LINKS[:-1])])
    return np.asarray(np.minimum.reduceat(apart, starts, axis=1))


def _apart(begin: NDArray[np.float64], end: NDArray[np.float64], other: NDArray[np.float64],
           other_end: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Return the shortest distance (...) between line segments, given by their ends (..., 3).

    C. Ericson, Real-Time Collision Detection (2005), section 5.1.9.
    """
    one, two, between = end - begin, other_end - other, begin - other
    a, b, e = ((u * v).sum(-1) for u, v in ((one, one), (one, two), (two, two)))
    c, f = (one * between).sum(-1), (two * between).sum(-1)
    # Parallel ones have no single nearest pair; any begin will do.
    s = np.clip((b * f - c * e) / np.maximum(a * e - b * b, 1e-12), 0, 1)
    t = np.clip((b * s + f) / e, 0, 1)
    s = np.clip((b * t - c) / a, 0, 1)      # nearest to t, also where t was cut
    return np.asarray(np.linalg.norm(
        begin + one * s[..., None] - other - two * t[..., None], axis=-1))
