"""Write recordings of every supported form, with frames that can be told apart, for tests."""

from pathlib import Path
from types import SimpleNamespace

import cv2
from mcap.writer import CompressionType, Writer as McapWriter
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.recordings.bags import TYPESTORE

ROS1 = get_typestore(Stores.ROS1_NOETIC)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
TOPIC = '/camera/image_raw'
IMAGE, COMPRESSED, BOOL = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage',
                           'std_msgs/msg/Bool')

ROSBAG2_FOLDERS = {
    'mcap': (StoragePlugin.MCAP, None),
    'sqlite3': (StoragePlugin.SQLITE3, None),
    'mcap_zstd_file': (StoragePlugin.MCAP, CompressionMode.FILE),
    'mcap_zstd_message': (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    'mcap_zstd_storage': (StoragePlugin.MCAP, CompressionMode.STORAGE),
    'sqlite3_zstd_file': (StoragePlugin.SQLITE3, CompressionMode.FILE),
    'sqlite3_zstd_message': (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
}
MCAP_FILES = {'plain': (CompressionType.NONE, True), 'lz4': (CompressionType.LZ4, True),
              'zstd': (CompressionType.ZSTD, True), 'unchunked': (CompressionType.NONE, False)}
ROS1_BAGS = {'ros1': None, 'ros1_bz2': Writer1.CompressionFormat.BZ2,
             'ros1_lz4': Writer1.CompressionFormat.LZ4}
FORMS = (*ROSBAG2_FOLDERS, *MCAP_FILES, *ROS1_BAGS)


def picture(number: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Return a noisy RGB picture that is unlike those of all other numbers."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def cdr_type(msgtype: str, **fields: object) -> bytes:
    return bytes(TYPESTORE.serialize_cdr(TYPESTORE.types[msgtype](**fields), msgtype))


def header(stamp_ns: int, store=TYPESTORE) -> object:
    sec, nanosec = divmod(stamp_ns, 10 ** 9)
    extra = {'seq': 0} if store is ROS1 else {}
    return store.types['std_msgs/msg/Header'](
        stamp=store.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec),
        frame_id='camera', **extra)


def raw_image(rgb: np.ndarray, stamp_ns: int, store=TYPESTORE) -> bytes:
    height, width, _ = rgb.shape
    message = store.types[IMAGE](
        header=header(stamp_ns, store), height=height, width=width, encoding='rgb8',
        is_bigendian=0, step=3 * width, data=rgb.reshape(-1))
    return bytes(store.serialize_ros1(message, IMAGE) if store is ROS1 else
                 store.serialize_cdr(message, IMAGE))


def compressed_image(data: bytes, stamp_ns: int, kind: str = 'jpeg') -> bytes:
    return cdr_type(COMPRESSED, header=header(stamp_ns), format=f'rgb8; {kind} compressed bgr8',
                    data=np.frombuffer(data, np.uint8))


def jpeg_message(number: int, stamp_ns: int, **size: int) -> bytes:
    return compressed_image(encode_jpeg(picture(number, **size)), stamp_ns)


def png_message(number: int, stamp_ns: int) -> bytes:
    return compressed_image(encode_png(picture(number)), stamp_ns, 'png')


def message(topic: str, msgtype: str, stamp_ns: int, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(topic=topic, msgtype=msgtype, stamp_ns=stamp_ns, data=data)


def raw_messages(count: int = 6, store=TYPESTORE, **size: int) -> list[SimpleNamespace]:
    stamps = [START_NS + i * PERIOD_NS for i in range(count)]
    return [message(TOPIC, IMAGE, stamp, raw_image(picture(i, **size), stamp, store))
            for i, stamp in enumerate(stamps)]


def jpeg_messages(count: int = 6, first: int = 0, **size: int) -> list[SimpleNamespace]:
    return [message(TOPIC, COMPRESSED, START_NS + i * PERIOD_NS,
                    jpeg_message(first + i, START_NS + i * PERIOD_NS, **size))
            for i in range(count)]


def bool_message(topic: str, stamp_ns: int, value: bool) -> SimpleNamespace:
    return message(topic, BOOL, stamp_ns, cdr_type(BOOL, data=value))


def write_folder(path: Path, messages, form: str = 'mcap') -> Path:
    """Write a rosbag2 folder."""
    storage, compression = ROSBAG2_FOLDERS[form]
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for m in messages:
            if m.topic not in connections:
                connections[m.topic] = writer.add_connection(
                    m.topic, m.msgtype, typestore=TYPESTORE)
            writer.write(connections[m.topic], m.stamp_ns, m.data)
    return path


def write_mcap(path: Path, messages, form: str = 'plain', chunk_size: int = 4096) -> Path:
    """Write one .mcap file with the ``mcap`` library."""
    compression, chunking = MCAP_FILES[form]
    with path.open('wb') as file:
        writer = McapWriter(file, compression=compression, use_chunking=chunking,
                            chunk_size=chunk_size)
        writer.start('ros2', 'test')
        channels = {}
        for m in messages:
            if m.topic not in channels:
                schema = writer.register_schema(m.msgtype, 'ros2msg', b'')
                channels[m.topic] = writer.register_channel(m.topic, 'cdr', schema)
            writer.add_message(channels[m.topic], m.stamp_ns, m.data, m.stamp_ns)
        writer.finish()
    return path


def write_ros1(path: Path, messages, form: str = 'ros1') -> Path:
    """Write a ROS 1 bag."""
    writer = Writer1(path)
    if ROS1_BAGS[form] is not None:
        writer.set_compression(ROS1_BAGS[form])
    with writer:
        connections = {}
        for m in messages:
            if m.topic not in connections:
                connections[m.topic] = writer.add_connection(m.topic, m.msgtype, typestore=ROS1)
            writer.write(connections[m.topic], m.stamp_ns, m.data)
    return path


def write_form(folder: Path, form: str, count: int = 6) -> Path:
    """Write ``count`` raw frames, ``picture(0)`` and so on, as any of ``FORMS``."""
    if form in ROS1_BAGS:
        return write_ros1(folder / 'lab.bag', raw_messages(count, ROS1), form)
    if form in MCAP_FILES:
        return write_mcap(folder / 'lab.mcap', raw_messages(count), form)
    return write_folder(folder / 'lab', raw_messages(count), form)


def write_video(path: Path, count: int = 12, fps: float = 10.) -> Path:
    """Write a video with each codec that OpenCV's own FFmpeg can encode."""
    codec = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'mp4v', '.webm': 'VP80'}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps,
                             (64, 48))
    assert writer.isOpened(), path.suffix
    for i in range(count):
        writer.write(cv2.cvtColor(picture(i, 48, 64), cv2.COLOR_RGB2BGR))
    writer.release()
    return path
