"""The thread that works on the newest item only."""

from threading import current_thread, Event
import time

import pytest

pytest.importorskip('rclpy')

from grasp_success_detector.ros.node.latest_item_worker import LatestItemWorker

PATIENCE_S = 40.


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_newest_item_wins():
    begun, go, done = Event(), Event(), []

    def work(item):
        begun.set()
        go.wait(timeout=PATIENCE_S)
        done.append(item)

    worker = LatestItemWorker(work, 'test')
    worker.start()
    assert not worker.offer(1)
    assert begun.wait(timeout=PATIENCE_S)
    assert [worker.offer(item) for item in (2, 3, 4)] == [False, True, True]
    go.set()
    wait_until(lambda: len(done) == 2)
    assert worker.stop(timeout_s=PATIENCE_S)
    worker.offer(5)     # the worker is stopped and drops it
    worker.start()
    worker.offer(6)
    wait_until(lambda: done[-1] == 6)
    assert worker.stop(timeout_s=PATIENCE_S)
    assert done == [1, 4, 6]


def test_a_worker_that_is_late_to_end_does_not_go_on_after_a_new_start():
    begun, go, threads = Event(), Event(), []

    def work(item):
        threads.append(current_thread())
        begun.set()
        go.wait(timeout=PATIENCE_S)

    worker = LatestItemWorker(work, 'test')
    worker.start()
    worker.offer(1)
    assert begun.wait(timeout=PATIENCE_S)
    assert not worker.stop(timeout_s=0.01)
    worker.start()
    go.set()
    threads[0].join(timeout=PATIENCE_S)
    assert not threads[0].is_alive()
    worker.offer(2)
    wait_until(lambda: len(threads) == 2)
    assert threads[1] is not threads[0]
    assert worker.stop(timeout_s=PATIENCE_S)
