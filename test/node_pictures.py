"""Frames for tests of the node, and the P(success) that a random network gives them."""

import numpy as np
from sensor_msgs.msg import Image


def pictures():
    """Return RGB frames that differ much; none of them is too dark or saturated."""
    noise = np.random.default_rng(3)
    ramp = np.linspace(0, 255, 160, dtype=np.uint8)
    frames = [np.full((120, 160, 3), 40, np.uint8), np.full((120, 160, 3), 230, np.uint8),
              np.broadcast_to(ramp[:, None], (120, 160, 3)),
              noise.integers(0, 256, (120, 160, 3), np.uint8)]
    for colour in np.eye(3, dtype=np.uint8) * 255:
        frames.append(np.broadcast_to(colour, (120, 160, 3)))
    return [np.ascontiguousarray(frame) for frame in frames]


def raw_message(frame):
    """Return RGB uint8 (H, W, 3) as a message."""
    height, width, _ = frame.shape
    return Image(height=height, width=width, encoding='rgb8', step=3 * width,
                 data=frame.tobytes())


def success_frame(classifier):
    """Return the picture that looks most like a success."""
    return max(pictures(), key=lambda frame: classifier.predict([frame])[0])


def failure_frame(classifier):
    """Return the picture that looks least like one."""
    return min(pictures(), key=lambda frame: classifier.predict([frame])[0])
