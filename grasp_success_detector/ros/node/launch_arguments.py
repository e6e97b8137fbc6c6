"""Read cameras and remappings from launch arguments, and find the cameras of a bag."""

from collections.abc import Sequence
import re
from typing import NamedTuple

from grasp_success_detector.console import needing
from grasp_success_detector.errors import BagError, ConfigError
from grasp_success_detector.files import expanded
from grasp_success_detector.images.message_fields import IMAGE_TYPES

#: A valid part of a ROS namespace.
NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')

#: Suffix that image_transport appends to an image topic for its compressed images.
COMPRESSED = '/compressed'


#: Package, launch file and arguments of each driver, as in its maker's sources. That of V5 uses
#: HAND and TYPE without declaring them, so that they must be given.
DRIVER_LAUNCH: dict[str, tuple[str, str, dict[str, str]] | None] = {
    'none': None,
    'v4': ('allegro_hand_bringup', 'allegro_hand.launch.py',
           {'hand': '{hand}', 'use_sim_time': 'false'}),
    'plexus': ('allegro_hand_bringup', 'allegro_hand_plexus.launch.py',
               {'hand': '{hand}', 'use_sim_time': 'false'}),
    'v5': ('allegro_hand_controllers', 'allegro_hand.launch.py',
           {'HAND': '{hand}', 'TYPE': 'A', 'NUM': '{number}'}),
    'v5_sense': ('allegro_hand_controllers', 'allegro_hand.launch.py',
                 {'HAND': '{hand}', 'TYPE': 'A', 'NUM': '{number}'}),
    'v6': ('allegro_hand_v6_bringup', 'bringup.launch.py', {}),
}


class CameraArgument(NamedTuple):
    """A camera and the namespace of its detector."""

    name: str = ''      #: namespace of the detector below the launch file's; empty: no further one
    topic: str = ''     #: without ``/compressed``; empty: ``image`` in the detector's namespace


def read_cameras(text: str) -> tuple[CameraArgument, ...]:
    """
    Read the argument ``cameras``: items ``NAME:TOPIC`` or ``NAME``, separated by commas.

    :raises ConfigError: an item has another form, or a name comes twice.
    """
    cameras = []
    for item in text.split(','):
        name, _, topic = (part.strip() for part in item.partition(':'))
        if not NAME.fullmatch(name):
            raise ConfigError(f'cameras: {item.strip()!r} in {text!r}; expected NAME:TOPIC, such '
                              'as left:/left/image_raw, several separated by commas')
        cameras.append(CameraArgument(name, topic))
    names = [camera.name for camera in cameras]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f'cameras: {", ".join(twice)} is there more than once in {text!r}; '
                          'every camera needs a name of its own')
    return tuple(cameras)


def read_remappings(text: str) -> list[tuple[str, str]]:
    """
    Read the argument ``remappings``: items ``FROM:=TO``, separated by commas.

    :raises ConfigError: an item has another form.
    """
    pairs = []
    for item in text.split(','):
        name, _, other = (part.strip() for part in item.partition(':='))
        if not (name and other):
            raise ConfigError(f'remappings: {item.strip()!r} in {text!r}; expected FROM:=TO, such '
                              'as grasp_success:=held, several separated by commas')
        pairs.append((name, other))
    return pairs


def remapped_image(topic: str) -> list[tuple[str, str]]:
    """Return remappings of the node's image topics to a camera's; none if ``topic`` is empty."""
    return [('image', topic), (f'image{COMPRESSED}', f'{topic}{COMPRESSED}')] if topic else []


def read_assignments(name: str, words: Sequence[str]) -> dict[str, str]:
    """
    Read words of the form ``NAME:=VALUE``.

    :param name: argument that they were given with.
    :raises ConfigError: a word has another form.
    """
    found = {}
    for word in words:
        key, separator, value = word.partition(':=')
        if not (key and separator):
            raise ConfigError(f'{name}: {word!r}; expected NAME:=VALUE, several separated by '
                              'spaces')
        found[key] = value
    return found


def switch(name: str, text: str) -> bool:
    """Return what an argument of true or false says; raises a ConfigError for another value."""
    if text.lower() not in ('true', 'false'):
        raise ConfigError(f'{name}: {text!r}; expected true or false')
    return text.lower() == 'true'


def existing_file(name: str, text: str, expected: str) -> str:
    """
    Return the path that an argument gives, with ``~`` expanded.

    :param name: name of the argument.
    :param expected: what the file is, such as ``'a YAML file with parameters of the node'``.
    :raises ConfigError: there is no such file.
    """
    path = expanded(text)
    if not path.is_file():
        raise ConfigError(f'{name}: {path}: no such file; expected {expected}')
    return str(path)


class RecordedCameras(NamedTuple):
    """Cameras of a bag, all with the same transport."""

    topics: tuple[str, ...]     #: without ``/compressed``
    transport: str              #: ``raw`` or ``compressed``

    @property
    def recorded(self) -> tuple[str, ...]:
        """Return the topics as they are named in the bag, with ``/compressed`` if compressed."""
        suffix = COMPRESSED if self.transport == 'compressed' else ''
        return tuple(topic + suffix for topic in self.topics)


def recorded_cameras(bag: str, topics: tuple[str, ...] = (), transport: str = '',
                     ) -> RecordedCameras:
    """
    Find cameras in a bag.

    :param topics: topics without ``/compressed``; if empty, the bag's only camera.
    :param transport: ``raw`` or ``compressed``; if empty, the one recorded, raw if both are.
    :raises BagError: the bag cannot be read, or lacks a requested camera in a common transport.
    """
    # Only here: the launch files of a robot do without the extra.
    with needing('bags', 'replay.launch.py'):
        from grasp_success_detector.recordings.bags import open_bag

    with open_bag(bag) as reader:
        images = {c.topic: c.msgtype for c in reader.connections if c.msgtype in IMAGE_TYPES}
    found = {
        'raw': {topic for topic, kind in images.items() if kind.endswith('/Image')},
        'compressed': {topic.removesuffix(COMPRESSED) for topic, kind in images.items()
                       if kind.endswith('/CompressedImage') and topic.endswith(COMPRESSED)}}
    kinds = [transport] if transport in found else list(found)
    if not topics and len(all_cameras := set().union(*(found[kind] for kind in kinds))) == 1:
        topics = tuple(all_cameras)
    for kind in kinds:
        if topics and set(topics) <= found[kind]:
            return RecordedCameras(topics, kind)
    expected = f'{" and ".join(topics)}, all of one kind' if topics else 'one camera'
    listed = ', '.join(f'{topic} ({kind})' for topic, kind in images.items()) or 'none'
    raise BagError(
        f'{bag}: expected {expected}{f" ({transport})" if transport else ""}; image topics here: '
        f'{listed}; choose with image_topic or cameras, and image_transport')
