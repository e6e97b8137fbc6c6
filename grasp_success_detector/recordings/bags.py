"""Topics of the rig, and reading of undamaged bags with rosbags."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack
from pathlib import Path
from typing import Final

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.highlevel.anyreader import ReaderErrors
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.errors import BagError, one_line
from grasp_success_detector.files import check_regular, read_yaml
from grasp_success_detector.images.message_fields import IMAGE_TYPES

#: ``sensor_msgs/Image`` of the camera that watches the hand.
IMAGE_TOPIC = '/camera/image_raw'

#: The same camera as ``sensor_msgs/CompressedImage`` (jpeg), named as image_transport does.
COMPRESSED_TOPIC = '/camera/image_raw/compressed'

#: ``sensor_msgs/JointState`` of the 16 joints.
JOINT_STATES_TOPIC = '/allegroHand_0/joint_states'

#: ``sensor_msgs/JointState`` with the angles that the joints are told to reach.
JOINT_COMMANDS_TOPIC = '/allegroHand_0/joint_cmd'

#: ``std_msgs/Float32MultiArray`` of the tactile sensors.
TACTILE_TOPIC = '/allegroHand_0/tactile_sensors'

#: ``std_msgs/Bool``, one for each labelled frame; its bag time is the frame's header stamp in ns.
#: Frames around the moment of lift-off have none.
GROUND_TRUTH_TOPIC = '/ground_truth'

#: ``std_msgs/String`` with JSON, at the beginning and the end of every attempt:
#: ``{"attempt": 0, "event": "begin"|"end", "seed": ..., "object": ..., "success": bool}``,
#: where ``success`` comes with ``end`` only.
ATTEMPT_TOPIC = '/attempt'
#: Where the hand is in a simulated picture, sensor_msgs/RegionOfInterest.
HAND_BOX_TOPIC = '/hand_box'

#: Message definitions for bags that carry none of their own (rosbag2 sqlite3 before Iron).
TYPESTORE = get_typestore(Stores.ROS2_JAZZY)

#: Version of rosbag2's metadata in written bags: the oldest that rosbags can write.
BAG_VERSION: Final = 8


@contextmanager
def open_bag(path: Path | str) -> Iterator[AnyReader]:
    """
    Open one bag for reading, as a context manager that yields rosbags' reader.

    :param path: a rosbag2 folder, a single ``.mcap`` or ``.db3`` file, or a ROS 1 ``.bag``.
    :raises BagError: it is missing, no bag or unreadable, or is found damaged while being read.
    """
    path = Path(path)
    if not path.exists():
        raise BagError(f'{path}: no such bag; expected a rosbag2 folder, .mcap, .db3 or .bag file')
    metadata = path / 'metadata.yaml'
    if path.is_dir() and not metadata.exists():
        raise BagError(f'{path}: not a readable bag (no metadata.yaml); expected a rosbag2 '
                       'folder, .mcap, .db3 or .bag file')
    try:
        check_regular(path)
        if metadata.is_file():
            read_yaml(metadata)     # rosbags reads it too, and would follow aliases
    except (OSError, ValueError) as error:
        raise BagError(f'{path}: not a readable bag ({one_line(error)})') from error
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(AnyReader([path], default_typestore=TYPESTORE))
        except (AnyReaderError, OSError) as error:
            raise BagError(
                f'{path}: not a readable bag ({one_line(error)}); expected a rosbag2 folder, '
                '.mcap, .db3 or .bag file that was closed properly') from error
        try:
            yield reader
        except (AnyReaderError, *ReaderErrors) as error:
            raise BagError(f'{path}: damaged ({one_line(error)})') from error


def image_topic(reader: AnyReader, wanted: str | None = None) -> str:
    """Return ``wanted``, or the bag's only image topic if it is None; else raise a BagError."""
    return choose_topic(str(reader.paths[0]), {
        c.topic: c.msgcount for c in reader.connections if c.msgtype in IMAGE_TYPES}, wanted)


def choose_topic(bag: Path | str, messages: Mapping[str, int], wanted: str | None) -> str:
    """
    Return the image topic ``wanted`` of a bag; if it is None, the bag's only image topic.

    :param messages: number of messages of each image topic of the bag.
    :raises BagError: the bag lacks ``wanted``, or ``wanted`` is None and there is not one topic.
    """
    listed = ', '.join(f'{topic} ({count})' for topic, count in messages.items()) or 'none'
    if wanted is not None:
        if wanted not in messages:
            raise BagError(f'{bag}: no image topic {wanted}; image topics here: {listed}')
        return wanted
    if len(messages) != 1:
        raise BagError(f'{bag}: expected one image topic, found: {listed}; choose with --topic')
    return next(iter(messages))


def declared_messages(bag: Path, topic: str) -> int:
    """Return how many messages of a topic metadata.yaml counts; 0: it cannot be read."""
    try:
        information = read_yaml(bag / 'metadata.yaml')['rosbag2_bagfile_information']
        return sum(int(entry['message_count'])
                   for entry in information['topics_with_message_count']
                   if entry['topic_metadata']['name'] == topic)
    except (OSError, ValueError, KeyError, TypeError):
        return 0
