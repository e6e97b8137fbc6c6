"""A small bag with the topics of the simulated rig, written by the rosbags library."""

import json

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.recordings.bags import (
    ATTEMPT_TOPIC,
    COMPRESSED_TOPIC,
    GROUND_TRUTH_TOPIC,
)

NS_PER_S = 1_000_000_000
BEGIN_NS = 1_700_000_000 * NS_PER_S
FRAMES_PER_ATTEMPT = 15

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
TYPESTORE.register(get_types_from_msg('int32 x', 'no_such_msgs/msg/Odd'))
TYPES = TYPESTORE.types

FOREVER = QosTime(2147483647, 4294967295)
OFFERED = Qos(QosHistory.KEEP_LAST, 7, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
              FOREVER, FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False)


def stamp_message(stamp_ns):
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    return TYPES['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)


def write_rig_bag(path, attempts=2, rate_hz=15., unknown_type=False, readable=True,
                  verdicts=False):
    """
    Write a bag whose attempts succeed and fail in turn.

    :param unknown_type: add a topic of a type that is installed nowhere.
    :param readable: else the frames are no jpeg.
    :param verdicts: add what a detector said while it was recorded: always true.

    :return: its frames as (stamp_ns, jpeg bytes).
    """
    frames = []
    noise = np.random.default_rng(0)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        def add(topic, name, **options):
            return writer.add_connection(topic, name, typestore=TYPESTORE, **options)

        def write(connection, at, message):
            writer.write(connection, at, TYPESTORE.serialize_cdr(message, connection.msgtype))

        camera = add(COMPRESSED_TOPIC, 'sensor_msgs/msg/CompressedImage')
        truth = add(GROUND_TRUTH_TOPIC, 'std_msgs/msg/Bool', offered_qos_profiles=[OFFERED])
        events = add(ATTEMPT_TOPIC, 'std_msgs/msg/String')
        said = add('/grasp_success', 'std_msgs/msg/Bool') if verdicts else None
        string, boolean = TYPES['std_msgs/msg/String'], TYPES['std_msgs/msg/Bool']
        at = BEGIN_NS
        for attempt in range(attempts):
            success = attempt % 2 == 0
            about = {'attempt': attempt, 'seed': 40 + attempt, 'object': 'mug'}
            write(events, at, string(data=json.dumps({**about, 'event': 'begin'})))
            for index in range(FRAMES_PER_ATTEMPT):
                at += int(NS_PER_S / rate_hz)
                frame = noise.integers(0, 256, (24, 32, 3), np.uint8).repeat(5, 0).repeat(5, 1)
                frame[:, :, 1] = 220 if success else 20
                jpeg = encode_jpeg(frame) if readable else b'no picture'
                frames.append((at, jpeg))
                write(camera, at, TYPES['sensor_msgs/msg/CompressedImage'](
                    header=TYPES['std_msgs/msg/Header'](
                        stamp=stamp_message(at), frame_id='camera'),
                    format='jpeg', data=np.frombuffer(jpeg, np.uint8)))
                if said:
                    write(said, at, boolean(data=True))
                write(truth, at, boolean(data=success and index > FRAMES_PER_ATTEMPT // 2))
            at += 1
            write(events, at, string(
                data=json.dumps({**about, 'event': 'end', 'success': success})))
        if unknown_type:
            odd = add('/odd', 'no_such_msgs/msg/Odd')
            write(odd, at, TYPES['no_such_msgs/msg/Odd'](x=1))
    return frames
