"""The node keeps the seconds around doubtful verdicts as bags; over real DDS."""

import os
from pathlib import Path
import subprocess
import sys
import time

import pytest

rclpy = pytest.importorskip('rclpy')

from node_pictures import success_frame  # noqa: E402
from ros_processes import Detector, detector, run, wait_until  # noqa: E402
from test_node_company import Filming  # noqa: E402

from grasp_success_detector.decision import Decision, Reason, unknown  # noqa: E402
from grasp_success_detector.labels import Verdict  # noqa: E402
from grasp_success_detector.recordings.bags import open_bag  # noqa: E402
from grasp_success_detector.recordings.sources import find_sources, SourceKind  # noqa: E402
from grasp_success_detector.ros.node.doubtful_recorder import doubt  # noqa: E402


def decided(probability, verdict=Verdict.SUCCESS):
    return Decision(verdict, Reason.DECIDED, probability, 3, 0)


@pytest.mark.parametrize(('decision', 'probability', 'why'), [
    (unknown(Reason.TOO_DARK), None, 'too_dark'), (unknown(Reason.STALE), None, 'stale'),
    (unknown(Reason.UNDECIDED), 0.4, 'undecided'),
    (unknown(Reason.NO_FRAMES), None, ''), (unknown(Reason.TOO_FEW_FRAMES), 0.9, ''),
    (unknown(Reason.INACTIVE), None, ''), (unknown(Reason.DISABLED), None, ''),
    (decided(0.95), 0.9, ''), (decided(0.55), 0.9, 'near_threshold'),
    (decided(0.05, Verdict.FAILURE), 0.1, ''),
    (decided(0.8), 0.1, 'overruled'), (decided(0.2, Verdict.FAILURE), 0.7, 'overruled')])
def test_what_is_doubtful(decision, probability, why):
    assert doubt(decision, 0.5, probability) == why


def bags(folder):
    return sorted(path for path in Path(folder).iterdir() if not path.name.startswith('.'))


@pytest.fixture(scope='module')
def sure(settings, classifier):
    """Return parameters with which every picture is SUCCESS, far from the threshold."""
    assert classifier.predict([success_frame(classifier)])[0] > 0.3
    return {**settings, 'threshold': 0.1, 'min_frames': 2, 'window_s': 0.3}


@pytest.mark.slow
def test_the_seconds_around_unknown_are_kept(ears, sure, classifier, tmp_path):
    folder = tmp_path / 'new' / 'doubtful'
    with detector(namespace='doubtful', record_doubtful=folder, **sure) as child:
        seen = Detector(ears, child, 'doubtful')
        with Filming(seen.camera, success_frame(classifier)):
            wait_until(lambda: seen.verdicts[-1].data)
            time.sleep(2.)
        assert not bags(folder)
        with Filming(seen.camera, success_frame(classifier) * 0):
            wait_until(lambda: not seen.verdicts[-1].data)
            time.sleep(0.3)
        with Filming(seen.camera, success_frame(classifier)):
            wait_until(lambda: seen.verdicts[-1].data)
            wait_until(lambda: bags(folder))
        bag, = bags(folder)
        assert bag.name.endswith(('too_dark', 'stale'))
        child.wait_for(f'record_doubtful: {bag}')
    with open_bag(bag) as reader:
        topics = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
        assert topics['/doubtful/image'][0] == 'sensor_msgs/msg/Image'
        assert topics['/doubtful/image'][1] > 20    # a second before and one after, at 20 Hz
        assert topics['/doubtful/grasp_success'][1] > 20
        assert topics['/doubtful/grasp_success/confidence'][1] > 20
        told = [reader.deserialize(data, connection.msgtype).data
                for connection, _, data in reader.messages() if connection.topic.endswith(
                    '/grasp_success')]
        assert told[0] and told[-1] and not all(told)
        assert 1.5 < reader.duration / 1e9 < 7.
    assert [source.path for source in find_sources([folder])] == [bag]
    assert find_sources([folder])[0].kind is SourceKind.BAG
    # Other commands take the folder as it is.
    done = subprocess.run(
        [sys.executable, '-m', 'grasp_success_detector.cli.extract_frames', folder, '--out',
         tmp_path / 'frames', '--label', 'success', '--no-dedupe'],
        capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
def test_a_full_folder_and_a_broken_one_leave_the_node_running(
        ears, sure, classifier, tmp_path):
    (tmp_path / 'old').write_bytes(bytes(20_000_000))
    with detector(namespace='full', record_doubtful=tmp_path, record_doubtful_max_mb=20,
                  **sure) as child:
        seen = Detector(ears, child, 'full')
        for line in ('has reached record_doubtful_max_mb = 20; nothing more is recorded until '
                     'bags are moved away', 'record_doubtful: not kept: '):
            with Filming(seen.camera, success_frame(classifier)):
                wait_until(lambda: seen.verdicts[-1].data)
            with Filming(seen.camera, success_frame(classifier) * 0):
                wait_until(lambda: not seen.verdicts[-1].data)
            with Filming(seen.camera, success_frame(classifier)):
                child.wait_for(line)
                wait_until(lambda: seen.verdicts[-1].data)
            # Then the folder goes away, and a file stands in its place.
            if tmp_path.is_dir() and (tmp_path / 'old').exists():
                (tmp_path / 'old').unlink()
                tmp_path.rmdir()
                tmp_path.write_bytes(b'')
        assert child.output.count('record_doubtful: ') == 2
        assert 'Traceback' not in child.output
    tmp_path.unlink()
    tmp_path.mkdir()


def test_a_folder_that_cannot_be_made_ends_it_with_one_line(random_checkpoint, tmp_path):
    (tmp_path / 'file').touch()
    child = run('detector_node', '--ros-args', '-p', f'checkpoint:={random_checkpoint}', '-p',
                f'record_doubtful:={tmp_path / "file" / "folder"}')
    assert child.returncode == 1
    assert 'configure failed: record_doubtful: ' in child.output
    assert len(child.output.strip().splitlines()) == 1


def test_a_folder_of_bags_stands_for_its_bags(tmp_path):
    for name in ('b10', 'b9'):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.mcap').touch()
    (tmp_path / '.partial').mkdir()
    assert [source.path.name for source in find_sources([tmp_path])] == ['b9', 'b10']
    assert [source.name for source in find_sources([tmp_path])] == ['b9', 'b10']
