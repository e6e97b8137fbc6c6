"""The diagnostics where one verdict has several causes."""

import pytest

pytest.importorskip('diagnostic_msgs')

from grasp_success_detector.decision import NS_PER_S, Reason, unknown
from grasp_success_detector.ros.node.diagnostics import (
    FrameStatistics,
    StageTimes,
)

START_NS = 50 * NS_PER_S


def stale_message(statistics, after_s):
    """Return the diagnostics' text when no frame was judged in time."""
    return statistics.status('/detector', '/image', unknown(Reason.STALE), {},
                             START_NS + round(after_s * NS_PER_S)).message


@pytest.fixture
def statistics():
    """Return the figures of a camera at 10 frames/s whose first five frames were judged."""
    statistics = FrameStatistics()
    for number in range(5):
        at_ns = START_NS + number * NS_PER_S // 10
        statistics.add_received(at_ns, replaced_another=False)
        statistics.add_judged(at_ns, StageTimes(*5 * [1000]))
    return statistics


def test_a_camera_that_stopped_is_not_said_to_send(statistics):
    assert 'no frames any more on /image' in stale_message(statistics, 0.5)


def test_a_camera_that_is_too_fast_for_the_network_is_said_to_send(statistics):
    for number in range(5, 12):
        statistics.add_received(START_NS + number * NS_PER_S // 10, replaced_another=True)
    assert 'frames arrive, but none was judged' in stale_message(statistics, 1.2)
    assert 'no frames any more on /image' in stale_message(statistics, 2.2)
