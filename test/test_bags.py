"""Opening bags: all formats, and files that are not bags."""

from pathlib import Path

import pytest

from grasp_success_detector.errors import BagError
from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.recordings.bags import COMPRESSED_TOPIC, image_topic, open_bag

SAMPLE = share_path(SAMPLE_BAG)
MCAP = next(SAMPLE.glob('*.mcap'))


def test_a_folder_and_its_file_hold_the_same():
    counts = []
    for path in (SAMPLE, MCAP):
        with open_bag(path) as reader:
            assert image_topic(reader) == COMPRESSED_TOPIC
            counts.append({c.topic: c.msgcount for c in reader.connections})
    assert counts[0] == counts[1]
    assert counts[0][COMPRESSED_TOPIC] == 480


def make(folder: Path, kind: str) -> Path:
    """Make a path that is not a bag."""
    if kind == 'empty folder':
        folder.joinpath('bag').mkdir()
        return folder / 'bag'
    if kind == 'truncated':
        path = folder / 'cut.mcap'
        path.write_bytes(MCAP.read_bytes()[:200_000])
        return path
    path = folder / f'file{kind}'
    path.write_text('hello')
    return path


@pytest.mark.parametrize('kind', ['.mcap', '.db3', '.bag', '.txt', 'empty folder', 'truncated'])
def test_a_path_that_is_not_a_bag_is_one_line(tmp_path, kind):
    path = make(tmp_path, kind)
    with pytest.raises(BagError, match='not a readable bag .*; expected a rosbag2') as caught:
        with open_bag(path):
            pass
    assert str(caught.value).startswith(str(path)) and '\n' not in str(caught.value)


def test_missing_and_damaged_bags_have_different_errors(tmp_path):
    with pytest.raises(BagError, match='nowhere: no such bag; expected'), open_bag('nowhere'):
        pass


def test_errors_of_the_caller_are_not_changed():
    with pytest.raises(OSError, match='disk full'), open_bag(SAMPLE):
        raise OSError('disk full')


def test_a_topic_that_is_not_there_is_named_with_those_that_are():
    with open_bag(SAMPLE) as reader:
        with pytest.raises(BagError, match=r'no image topic /joints; .* here: /camera\S+ \(480\)'):
            image_topic(reader, '/joints')
