"""What the joints of the hand say about the frames of a recording, for suggestions."""

from collections.abc import Callable, Mapping

from grasp_success_detector.decision import FUSED_THRESHOLD
from grasp_success_detector.errors import HandStateError
from grasp_success_detector.evaluation.hand_replay import hand_stream, poses_at
from grasp_success_detector.hand.model import HandModel
from grasp_success_detector.hand.monitor import judge_pose
from grasp_success_detector.labelling.material import Material
from grasp_success_detector.recordings.hand_messages import read_hand_messages

#: Log-odds of success by frame, of those at which joints can tell.
LogOdds = Mapping[int, float]


class Hands:
    """
    The joint states of recordings, each read once.

    :param materials: recordings by key; one that grows is read again.
    """

    def __init__(self, model: HandModel, materials: Mapping[str, Material]) -> None:
        self._model, self._materials = model, materials
        self._known: dict[str, tuple[int, LogOdds]] = {}

    def fuse(self, key: str, curve: Mapping[int, float | None], threshold: float,
             ) -> tuple[dict[int, float | None], float]:
        """
        Return P(success) of camera and joints together by frame, and its threshold.

        :param curve: P(success) of the camera by frame; None for a frame that cannot be judged.
        :param threshold: of the camera alone, returned where the recording has no joint states.
        """
        hand = self._log_odds(key)
        if not hand:
            return dict(curve), threshold
        fuse: Callable[..., float] = self._model.fusion.probability
        return {frame: probability if frame not in hand else fuse(
            [] if probability is None else [probability], hand[frame])
            for frame, probability in curve.items()}, FUSED_THRESHOLD

    def _log_odds(self, key: str) -> LogOdds:
        material = self._materials[key]
        count, found = self._known.get(key, (-1, {}))
        if count != len(material.frames):
            found = {} if material.topic is None or material.attempts else self._read(material)
            self._known[key] = len(material.frames), found
        return found

    def _read(self, material: Material) -> LogOdds:
        try:
            stream = hand_stream(read_hand_messages(material.files))
        except HandStateError:
            return {}   # no hand of a known driver: the camera alone suggests
        stamps = {frame.number: frame.stamp_ns for frame in material.frames}
        order = sorted(stamps, key=lambda number: stamps[number])
        poses = poses_at(stream, [stamps[number] for number in order])
        said = {number: judge_pose(pose, self._model).evidence.log_odds
                for number, pose in zip(order, poses, strict=True) if pose is not None}
        return {number: odds for number, odds in said.items() if odds is not None}
