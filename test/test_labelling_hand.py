"""Suggestions for labels from joint states: of the sample bag with two cameras."""

from rig_bag import write_rig_bag

from grasp_success_detector.files import FUSED_SAMPLE_BAG, share_path
from grasp_success_detector.hand.model import read_hand
from grasp_success_detector.labelling.hand import Hands
from grasp_success_detector.labelling.marks import Span
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.labelling.suggestions import suggest
from grasp_success_detector.recordings.sources import find_sources


def test_joints_decide_what_a_camera_cannot_tell(tmp_path):
    source, = find_sources([str(share_path(FUSED_SAMPLE_BAG))])
    material = open_recording(source, '/camera/image_raw/compressed', tmp_path)
    hands = Hands(read_hand(), {'bag': material})
    # Of the last attempt joints alone cannot tell that the object was left on the table.
    curve = {frame: .5 if frame < 72 else .02 for frame in range(len(material.frames))}
    fused, threshold = hands.fuse('bag', curve, .55)
    assert threshold == .6
    # Before it closes, a hand that was not seen to open says nothing.
    assert fused[0] == .5
    suggested = [suggest(Span(start, start + 24), fused, threshold).mark.name
                 for start in range(0, 96, 24)]
    assert suggested == ['FAILURE', 'SUCCESS', 'SUCCESS', 'FAILURE']
    # Where the picture cannot be judged, the joints alone suggest.
    alone, _ = hands.fuse('bag', {23: None, 47: None}, .55)
    assert alone[23] < .3 and alone[47] > .7


def test_a_recording_without_joint_states_is_suggested_by_the_camera(tmp_path):
    write_rig_bag(tmp_path / 'rig')
    source, = find_sources([str(tmp_path / 'rig')])
    hands = Hands(read_hand(), {'bag': open_recording(source, None, tmp_path)})
    assert hands.fuse('bag', {0: .5, 1: None}, .55) == ({0: .5, 1: None}, .55)
