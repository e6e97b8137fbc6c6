"""Pictures of the page: read when they are asked for, in a cache of limited size."""

from recordings import jpeg_messages, write_folder

from grasp_success_detector.labelling.frame_cache import FrameCache
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.recordings.sources import find_sources


def test_the_cache_keeps_the_latest_pictures_within_its_limit(tmp_path):
    source, = find_sources([write_folder(tmp_path / 'take', jpeg_messages(40))])
    materials = {'take': open_recording(source, None, tmp_path)}
    whole = FrameCache(materials)
    pictures = [whole.jpeg('take', number, 160) for number in range(40)]
    assert len(set(pictures)) > 1
    limit = whole.bytes_kept // 4
    small = FrameCache(materials, limit)
    for number in (*range(40), *reversed(range(40))):   # dropped ones are read again
        assert small.jpeg('take', number, 160) == pictures[number]
        assert 0 < small.bytes_kept <= limit
