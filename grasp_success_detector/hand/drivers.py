"""What each driver of the Allegro hand publishes, and its joints in one order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
import math

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError

#: Order of the fingers in all arrays of joints; ``little`` only with a hand of five fingers.
FINGERS = ('index', 'middle', 'ring', 'thumb', 'little')

JOINTS_PER_FINGER = 4

#: Largest angle of a joint (radians) that counts as measured; beyond it the message is damaged.
_LARGEST_ANGLE = 4 * math.pi


class Side(Enum):
    """Side of the hand."""

    RIGHT = 'right'
    LEFT = 'left'


class DriverKind(Enum):
    """Driver that moves the hand; NONE: no joint states are used."""

    NONE = 'none'
    V4 = 'v4'
    PLEXUS = 'plexus'
    V5 = 'v5'
    V5_SENSE = 'v5_sense'
    V6 = 'v6'


@dataclass(frozen=True)
class Driver:
    """
    Topics and joint names of a driver of the hand, as in its maker's sources (Wonik Robotics).

    Topics have ``{number}`` where the driver puts the number of the hand.

    :ivar joint_states: topic of its ``sensor_msgs/JointState``.
    :ivar names: possible names of the joints: tuples of equal length in the order of FINGERS, from
        a finger's base to its tip.
    :ivar commands: topics on which the hand is told to move, with the type of their messages.
    :ivar tactile: topic of the tactile sensors and the type of its messages; None without any.
    :ivar palm_frame: frame of the palm in TF, of its description of a single hand; '' if unknown.
    """

    joint_states: str
    names: Mapping[Side, Sequence[tuple[str, ...]]]
    commands: Mapping[str, str]
    tactile: tuple[str, str] | None = None
    palm_frame: str = ''


def _by_finger(pattern: str, digits: Sequence[int]) -> tuple[str, ...]:
    return tuple(pattern.format(finger=digit, joint=joint)
                 for digit in digits for joint in range(JOINTS_PER_FINGER))


def _numbered(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(n) for n in range(4 * JOINTS_PER_FINGER))


#: The thumb's joints come first in the names of V4 and V6.
_THUMB_FIRST = (1, 2, 3, 0)

_V4_NAMES = {side: tuple(_by_finger(prefix + '_joint{finger}{joint}', _THUMB_FIRST)
                         for prefix in ('ah', duo))
             for side, duo in ((Side.RIGHT, 'ahr'), (Side.LEFT, 'ahl'))}

#: ``joint_0.0`` is the name of the drivers for ROS 1, and of bags that were recorded with them.
_V5_NAMES = dict.fromkeys(Side, (_numbered('joint_{}_0'), _numbered('joint_{}.0')))

_V4 = Driver(
    '/joint_states', _V4_NAMES,
    {'/allegro_hand_grasp_controller/grasp_cmd': 'action',
     '/allegro_hand_posture_controller/posture_cmd': 'action'}, palm_frame='ah_palm_link')

_V5 = Driver(
    '/allegroHand_{number}/joint_states', _V5_NAMES,
    {'/allegroHand_{number}/lib_cmd': 'std_msgs/msg/String',
     '/allegroHand_{number}/joint_cmd': 'sensor_msgs/msg/JointState',
     #: Its launch file gives the number to the other topics only.
     '/allegroHand/joint_cmd': 'sensor_msgs/msg/JointState'}, palm_frame='palm_link')

DRIVERS = {
    DriverKind.V4: _V4,
    DriverKind.PLEXUS: _V4,
    DriverKind.V5: _V5,
    DriverKind.V5_SENSE: Driver(
        _V5.joint_states, _V5.names, _V5.commands,
        ('/allegroHand_{number}/tactile_sensors', 'std_msgs/msg/Float32MultiArray'),
        _V5.palm_frame),
    DriverKind.V6: Driver(
        '/joint_states',
        dict.fromkeys(Side, (_by_finger('joint{finger}{joint}', (*_THUMB_FIRST, 4)),)),
        {}, ('/allegro_hand/tactile_pressures', 'std_msgs/msg/Float64MultiArray')),
}

#: Last parts of the topics on which drivers take commands: grasps by name, angles of the joints.
COMMAND_NAMES = {topic.rpartition('/')[2] for driver in DRIVERS.values()
                 for topic in driver.commands}

#: Last parts of the topics of tactile sensors.
TACTILE_NAMES = {driver.tactile[0].rpartition('/')[2] for driver in DRIVERS.values()
                 if driver.tactile}

#: How many joints the hands have.
JOINT_COUNTS = {len(names) for driver in DRIVERS.values()
                for choices in driver.names.values() for names in choices}


def find_names(published: Sequence[str], driver: DriverKind, side: Side = Side.RIGHT,
               ) -> tuple[str, ...]:
    """
    Return the names of the hand's joints among those of a message, in the order of FINGERS.

    :param published: names in the message; other joints, such as those of the arm, may be there.
    :raises HandStateError: joints are missing; the error names them.
    """
    present = set(published)
    choices = DRIVERS[driver].names[side]
    missing = []
    for names in choices:
        missing.append([name for name in names if name not in present])
        if not missing[-1]:
            return names
    fewest = min(missing, key=len)
    raise HandStateError(
        f'the joint states lack {", ".join(fewest[:4])}'
        + (f' and {len(fewest) - 4} more joints' if len(fewest) > 4 else '')
        + f' of driver {driver.value}; they have {", ".join(list(published)[:4]) or "no names"}'
        + (' ...' if len(published) > 4 else ''))


def read_names(text: str) -> tuple[str, ...]:
    """
    Read names of joints in the order of FINGERS, separated by commas; none for ''.

    :raises HandStateError: there are not as many as a hand has joints, or one comes twice.
    """
    names = tuple(name.strip() for name in text.split(',')) if text.strip() else ()
    if names and (len(names) not in JOINT_COUNTS or len(set(names)) < len(names)):
        raise HandStateError(f'joint_names: {len(set(names))} names in {text!r}; expected '
                             f'{" or ".join(map(str, sorted(JOINT_COUNTS)))} different ones, '
                             'separated by commas')
    return names


def detect_driver(published: Sequence[str]) -> tuple[DriverKind, Side] | None:
    """Return the driver and the side whose joint names a message has; None if no driver fits."""
    for kind in (DriverKind.V4, DriverKind.V5, DriverKind.V6):
        for side in Side:
            try:
                find_names(published, kind, side)
            except HandStateError:
                continue
            return kind, side
    return None


def in_order(published: Sequence[str], values: Sequence[float], names: Sequence[str],
             largest: float = _LARGEST_ANGLE) -> NDArray[np.float64] | None:
    """
    Return the values of some joints of a message in the order of ``names``.

    :param published: names of all joints of the message.
    :param values: a value for each of them; empty where the driver does not measure it.
    :param largest: largest possible value, of angles in radians.
    :returns: float64 (len(names),); None for an empty ``values``.
    :raises HandStateError: the lengths differ, or a value is not finite or beyond ``largest``.
    """
    if not len(values):
        return None
    if len(values) != len(published):
        raise HandStateError(f'joint states with {len(published)} names and {len(values)} values')
    by_name = dict(zip(published, values, strict=True))
    ordered = np.array([by_name[name] for name in names], np.float64)
    if not np.isfinite(ordered).all() or np.abs(ordered).max() > largest:
        raise HandStateError('joint states with values out of range: '
                             + ', '.join(f'{name} {by_name[name]:g}' for name in names
                                         if not abs(by_name[name]) <= largest))
    return ordered
