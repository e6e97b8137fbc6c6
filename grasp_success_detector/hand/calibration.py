"""Learn the references of a rig, the joints' P(success) and the fusion from recorded poses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.errors import HandStateError
from grasp_success_detector.hand.closure import flexion, HandReference
from grasp_success_detector.hand.evidence import (
    farthest,
    FEATURE_SETS,
    FEATURES,
    grasp_features,
    joint_log_odds,
    JointModel,
)
from grasp_success_detector.hand.fusion import fit_fusion, Fusion
from grasp_success_detector.hand.kinematics import Geometry
from grasp_success_detector.hand.logistic import fit_logistic, Logistic
from grasp_success_detector.hand.monitor import Pose
from grasp_success_detector.hand.motion import Phase

#: Fewest closes on nothing that a rig's reference is made of.
LEAST_CLOSES = 3

#: Fewest attempts of each outcome from which joints and fusion are learned.
LEAST_ATTEMPTS = 10

#: Features beyond this many times the farthest learned one are unfamiliar.
_FAMILIAR = 1.5

#: Fingers that all come this near (rad) to where they were told to go have closed on nothing: some
#: times the noise and zero errors of the encoders. Not learned from closes on nothing, in which
#: fingers may touch each other.
_EMPTY = .05

_FOLDS = 10


@dataclass(frozen=True)
class LabelledPose:
    """
    A hand that stands closed or opens, and whether it held the object.

    :ivar closed: angles that it was told to reach, or its reference; radians, like ``measured``.
    :ivar opened: mean flexion (rad) of the open hand before.
    :ivar effort: torques of the joints; None where none are published.
    :ivar cameras: P(success) from each camera that could tell at that moment.
    :ivar touch: features of the tactile sensors (2,); None without any.
    :ivar opening: whether it opens, so that its angles tell nothing more.
    :ivar geometry: of the hand; None: unknown.
    """

    attempt: str
    success: bool
    measured: NDArray[np.float64]
    closed: NDArray[np.float64]
    opened: float
    effort: NDArray[np.float64] | None = None
    cameras: tuple[float, ...] = ()
    touch: NDArray[np.float64] | None = None
    opening: bool = False
    geometry: Geometry | None = None


def learn_reference(poses: Sequence[Pose]) -> HandReference:
    """
    Return a rig's reference from closes on nothing.

    :param poses: one pose for each joint state of the recording, in order.
    :raises HandStateError: fewer than LEAST_CLOSES closes, or the hand never opened.
    """
    closed: dict[int, NDArray[np.float64]] = {}
    opened: dict[int, NDArray[np.float64]] = {}
    for pose in poses:
        if pose.phase is Phase.CLOSED:
            closed[pose.attempt] = pose.measured    # the last one of each attempt
        elif pose.phase is Phase.OPEN:
            opened[pose.attempt] = pose.measured
    if len(closed) < LEAST_CLOSES or not opened:
        raise HandStateError(f'{len(closed)} closes on nothing found; expected {LEAST_CLOSES} or '
                             'more: open the hand, close it on nothing and wait a second, and '
                             'this again')
    angles = np.array(list(closed.values()))
    return HandReference(
        tuple(np.median(list(opened.values()), 0).tolist()), tuple(angles.mean(0).tolist()),
        tuple(angles.std(0, ddof=1).tolist()), len(closed))


def command_spread(poses: Sequence[Pose]) -> float:
    """
    Return how much the closes of a recording were told otherwise.

    :param poses: as of :func:`learn_reference`.
    :returns: largest standard deviation between closes of a joint's commanded angle, radians;
        NaN where the command of a close is not known, or there are fewer than two closes.
    """
    told: dict[int, list[NDArray[np.float64]]] = {}
    for pose in poses:
        if pose.phase is Phase.CLOSED:
            told.setdefault(pose.attempt, [])
            if pose.commanded is not None:
                told[pose.attempt].append(pose.commanded)
    if len(told) < 2 or not all(told.values()):
        return float('nan')
    # The median, as the command to open comes before the hand is seen to open.
    return float(np.std([np.median(angles, 0) for angles in told.values()], 0, ddof=1).max())


def learn_joints(poses: Sequence[LabelledPose]) -> JointModel:
    """
    Return the joints' P(success), learned on labelled poses; each attempt counts once.

    :raises HandStateError: fewer than LEAST_ATTEMPTS attempts of one outcome.
    """
    opening = _opening(poses)
    poses = [pose for pose in poses if not pose.opening]
    labels = np.array([pose.success for pose in poses], bool)
    attempts = np.array([pose.attempt for pose in poses])
    for label, name in ((True, 'success'), (False, 'failure')):
        if (count := len(set(attempts[labels == label]))) < LEAST_ATTEMPTS:
            raise HandStateError(f'{count} attempts with a closed hand of label {name}; expected '
                                 f'{LEAST_ATTEMPTS} or more')
    features = _features(poses)
    fits = {name: fit_logistic(rows, labels, _once(attempts)) for name, rows in features.items()}
    return JointModel(
        fits, len(set(attempts)),
        max(farthest(features[name], fit) for name, fit in fits.items()) * _FAMILIAR, _EMPTY,
        float(np.median([flexion(pose.closed).mean() - pose.opened for pose in poses
                         if pose.success])), opening)


def _opening(poses: Sequence[LabelledPose]) -> float:
    """Return the log-odds of success while a hand opens; each attempt counts once."""
    poses = [pose for pose in poses if pose.opening]
    held = float(_once(np.array([pose.attempt for pose in poses], str)) @ np.array(
        [pose.success for pose in poses], float)) if poses else 0.
    # One attempt more of each outcome, so that few do not make it sure (Laplace).
    lost = len({pose.attempt for pose in poses}) - held
    return log((held + 1) / (lost + 1))


def out_of_fold(poses: Sequence[LabelledPose], seed: int = 0) -> NDArray[np.float64]:
    """Return the joints' log-odds (N,) of each pose, learned on the other attempts alone."""
    closed = np.array([not pose.opening for pose in poses])
    found = np.full(len(poses), _opening(poses))    # one number, which needs no folds
    found[closed] = _closed_out_of_fold([pose for pose in poses if not pose.opening], seed)
    return found


def _closed_out_of_fold(poses: Sequence[LabelledPose], seed: int) -> NDArray[np.float64]:
    names = np.unique([pose.attempt for pose in poses])
    folds = dict(zip(names.tolist(), np.random.default_rng(seed).permutation(len(names)) % _FOLDS,
                     strict=True))
    fold = np.array([folds[pose.attempt] for pose in poses])
    features = next(iter(_features(poses).values()))
    labels = np.array([pose.success for pose in poses], bool)
    attempts = np.array([pose.attempt for pose in poses])
    found = np.empty(len(poses))
    for number in range(_FOLDS):
        rest = fold != number
        if (fold == number).any():
            found[fold == number] = joint_log_odds(features[fold == number], fit_logistic(
                features[rest], labels[rest], _once(attempts[rest])))
    return found


def _features(poses: Sequence[LabelledPose]) -> dict[str, NDArray[np.float64]]:
    """Return the features (N, F) of each of FEATURE_SETS that all poses have."""
    parts = [grasp_features(pose.measured, pose.closed, pose.effort, pose.geometry)
             for pose in poses]
    kinds = {kind: np.array([part[kind] for part in parts]) for kind in FEATURES
             if all(kind in part for part in parts)}
    return {name: np.hstack([kinds[kind] for kind in name.split()]) for name in FEATURE_SETS
            if set(name.split()) <= set(kinds)}


def learn_fusion(poses: Sequence[LabelledPose], log_odds: NDArray[np.float64]) -> Fusion:
    """
    Return the fusion, learned on poses at which a camera could tell.

    The cameras' checkpoint must not have learned from these attempts.

    :param log_odds: the joints' (N,), of :func:`out_of_fold`.
    :raises HandStateError: no camera could tell, or there are poses of only one label.
    """
    seen = [i for i, pose in enumerate(poses) if pose.cameras]
    if not seen:
        raise HandStateError('no camera could tell at any labelled pose')

    # One camera at a time: together they err less, so that the weight of one would be too large.
    each = [(i, camera) for i in seen for camera in poses[i].cameras]
    rows = [i for i, _ in each]
    fusion = fit_fusion([[camera] for _, camera in each], log_odds[rows],
                        np.array([poses[i].success for i in rows], bool),
                        np.array([poses[i].attempt for i in rows]))
    several = [i for i in seen if len(poses[i].cameras) > 1]
    if not several:
        return fusion
    return min((replace(fusion, independence=share) for share in (0., .25, .5, .75, 1.)),
               key=lambda fusion: _loss(fusion.probability, [poses[i] for i in several],
                                        log_odds[several]))


def learn_tactile(poses: Sequence[LabelledPose]) -> Logistic | None:
    """
    Return log-odds from those of the joints and the features of tactile sensors.

    :returns: None where too few attempts of one outcome have tactile sensors.
    """
    felt = [pose for pose in poses if pose.touch is not None and not pose.opening]
    attempts = {success: {pose.attempt for pose in felt if pose.success is success}
                for success in (True, False)}
    if min(map(len, attempts.values())) < LEAST_ATTEMPTS:
        return None
    return fit_logistic(
        np.column_stack([out_of_fold(felt), np.array([pose.touch for pose in felt])]),
        np.array([pose.success for pose in felt], bool),
        _once(np.array([pose.attempt for pose in felt])))


def _loss(probability: Callable[[Sequence[float], float], float], poses: Sequence[LabelledPose],
          log_odds: NDArray[np.float64]) -> float:
    said = np.array([probability(pose.cameras, odds) for pose, odds in zip(
        poses, log_odds.tolist(), strict=True)])
    right = np.where([pose.success for pose in poses], said, 1 - said)
    return float(-np.log(np.maximum(right, 1e-6)) @ _once(
        np.array([pose.attempt for pose in poses])))


def _once(attempts: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return weights that add up to 1 for each attempt."""
    _, numbers, counts = np.unique(attempts, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[numbers])
