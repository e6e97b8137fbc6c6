"""Frames that look like none that a checkpoint knows are told, in every engine, and UNKNOWN."""

from dataclasses import asdict, replace
import json

import numpy as np
import pytest
import torch

from grasp_success_detector.decision import DecisionConfig, Reason, WindowedDecider
from grasp_success_detector.errors import CheckpointError
from grasp_success_detector.evaluation.attempts import decide_attempts
from grasp_success_detector.evaluation.frame_sources import open_recordings
from grasp_success_detector.evaluation.judging import judge
from grasp_success_detector.export.agreement import bag_images
from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.labels import Verdict
from grasp_success_detector.networks.architectures import build, default_preprocessing
from grasp_success_detector.networks.checkpoint import Checkpoint, CheckpointMetadata, save
from grasp_success_detector.networks.familiarity import (
    Familiarity,
    FAMILIARITY_QUANTILE,
    fit,
    fit_pictures,
    SHARES,
)
from grasp_success_detector.recordings.selection import FrameSelection


def draw(rng, count, centre=0., hand=4.):
    """Return features of frames, 5 numbers that vary together around a centre, and mean logits."""
    features = centre + rng.standard_normal((count, 5)) @ np.diag([3., 1., 1., .5, .1])
    return np.hstack([features, hand + rng.standard_normal((count, 1))])


@pytest.fixture(scope='module')
def known():
    rng = np.random.default_rng(0)
    return fit(draw(rng, 2000), draw(rng, 20_000), 'blocks.3.2')


def strangers():
    """Return noise, stripes and a plain picture, RGB uint8 (240, 320, 3) each."""
    rng = np.random.default_rng(3)
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[::8] = 255
    return [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8), stripes,
            np.full((240, 320, 3), (200, 30, 160), np.uint8)]


def test_a_quantile_is_the_share_of_known_frames_that_are_familiar(known):
    frames = draw(np.random.default_rng(1), 20_000)
    for share in (.5, .9, .99):
        assert abs((known.of(frames) >= known.limit(share)).mean() - share) < .01
    assert known.limit(.99) == pytest.approx(-1, abs=1e-5)
    assert (known.of(frames) >= known.limit(0)).all()
    # far in the direction in which known frames vary least, though not far by other measures
    assert (known.of([[0, 0, 0, 0, 1., 4.]]) < known.limit(1)).all()


def test_a_low_mean_logit_is_unfamiliar_to_a_network_that_knows_pictures_without_a_hand(known):
    rng = np.random.default_rng(6)
    learned = fit(draw(rng, 2000), draw(rng, 20_000), 'blocks.3.2', knows_hands=True)
    frames, other_things = draw(rng, 20_000), draw(rng, 500, hand=-4.)
    hands = replace(learned, scale=(1e-9,))     # the mean logits alone
    for share in (.5, .9, .99):
        shares = [(each.of(frames) >= learned.limit(share)).mean() for each in (
            hands, replace(learned, hand=None))]
        assert abs(min(shares) - share) < .01
    assert learned.limit(.99) == pytest.approx(-1, abs=1e-5)
    assert abs((learned.of(frames) >= learned.limit(.99)).mean() - .98) < .005
    assert (learned.of(other_things) < learned.limit(.99)).all()
    assert (known.of(other_things) >= known.limit(.99)).mean() > .95
    assert np.isfinite(learned.of(draw(rng, 1, hand=-1e6))).all()
    # a rig whose hand resembles other things
    pictures = draw(rng, 14, hand=0.)
    adapted = fit_pictures(learned, pictures, [str(i) for i in range(14)])
    limit = adapted.limit(FAMILIARITY_QUANTILE)
    assert (learned.of(draw(rng, 500, hand=0.)) < limit).mean() > .8
    assert (adapted.of(draw(rng, 500, hand=0.)) >= limit).mean() > .9
    assert (adapted.of(other_things) < limit).mean() > .9


def test_pictures_of_another_rig_become_familiar_and_nothing_else_does(known):
    rng = np.random.default_rng(2)
    pictures, attempts = draw(rng, 14, 10.), [str(i // 2) for i in range(14)]
    adapted = fit_pictures(known, pictures, attempts)
    same_rig, elsewhere, old = draw(rng, 500, 10.), draw(rng, 500, -10.), draw(rng, 500)
    limit = adapted.limit(FAMILIARITY_QUANTILE)
    assert (known.of(same_rig) < limit).mean() > .95
    assert (adapted.of(same_rig) >= limit).mean() > .8
    assert (adapted.of(elsewhere) < limit).all()
    assert (adapted.of(old) < limit).all()


def test_frames_of_one_attempt_do_not_make_the_others_unfamiliar(known):
    rng = np.random.default_rng(4)
    attempts = np.repeat(draw(rng, 7, 10.), 4, axis=0)
    pictures = attempts + 1e-3 * rng.standard_normal(attempts.shape)
    adapted = fit_pictures(known, pictures, [str(i // 4) for i in range(28)])
    assert (adapted.of(draw(rng, 500, 10.)) >= -1).mean() > .7


@pytest.mark.parametrize('change, text', [
    ({'mean': [0.] * 4}, 'sizes do not fit'),
    ({'scale': [0.]}, 'sizes do not fit|out of order'),
    ({'reached': [0.] * (len(SHARES) - 1)}, 'sizes do not fit'),
    ({'reached': list(range(len(SHARES)))}, 'out of order'),
    ({'projection': []}, 'familiarity'),
    ({'prototypes': 3}, 'prototypes 3'),
    ({'module': None}, 'module None'),
    ({'colour': 1}, 'familiarity: cannot be used')])
def test_a_familiarity_that_cannot_be_used_is_refused(known, change, text):
    about = CheckpointMetadata('efficientnet_lite0', default_preprocessing('efficientnet_lite0'),
                               familiarity=known)
    document = json.loads(json.dumps(asdict(about)))
    assert CheckpointMetadata.from_json(document).familiarity == known
    document['familiarity'] |= change
    with pytest.raises(CheckpointError, match=text):
        CheckpointMetadata.from_json(document)


@pytest.mark.slow
@pytest.mark.parametrize('engine, precision', [
    ('torch', 'fp32'), ('openvino', 'fp32'), ('openvino', 'int8'), ('opencv', 'fp32')])
def test_every_engine_tells_strangers_from_frames_of_the_rig(engine, precision):
    checkpoint = Checkpoint.open('efficientnet_lite0_rig')
    if engine == 'openvino':
        pytest.importorskip('openvino')
    classifier = GraspClassifier(checkpoint, 'cpu', engine=engine, precision=precision)
    own = list(bag_images(share_path(SAMPLE_BAG), checkpoint.metadata.preprocessing, 40))
    limit = checkpoint.metadata.familiarity.limit(FAMILIARITY_QUANTILE)
    judged, strange = classifier.judge(own), classifier.judge(strangers())
    assert (judged.familiarity >= limit).mean() > .97
    assert (strange.familiarity < limit).all()
    np.testing.assert_array_equal(judged.probabilities, classifier.predict(own))
    exact = GraspClassifier(checkpoint, 'cpu').judge(own).familiarity
    assert abs(judged.familiarity - exact).max() < (.8 if precision == 'int8' else 1e-3)


def test_without_familiarity_a_checkpoint_works_as_before(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'a.safetensors'
    save(path, build('cifar_cnn'), CheckpointMetadata('cifar_cnn', default_preprocessing(
        'cifar_cnn')))
    classifier = GraspClassifier.from_checkpoint(path, 'cpu')
    assert classifier.judge(strangers()).familiarity is None
    assert not classifier.unfamiliar(3, .99).any()


@pytest.mark.slow
def test_the_offline_evaluation_says_unknown_for_unfamiliar_frames(tmp_path):
    checkpoint = Checkpoint.open('efficientnet_lite0_rig')
    known = checkpoint.metadata.familiarity
    # a checkpoint that knows something else: every frame is far from its only prototype
    elsewhere = replace(known, prototypes=((1e3,) * len(known.prototypes[0]),))
    moved = Checkpoint.of_model(checkpoint.model, replace(
        checkpoint.metadata, familiarity=elsewhere))
    recording, = open_recordings([str(share_path(SAMPLE_BAG))], FrameSelection(), tmp_path)
    some = replace(recording, frames=recording.frames[:40])
    config = DecisionConfig(moved.metadata.threshold)
    for quantile, strange in ((.99, True), (0., False)):
        judged = judge(GraspClassifier(moved, 'cpu'), some, familiarity_quantile=quantile)
        frames = [frame for attempt in decide_attempts([judged], config)
                  for frame in attempt.frames]
        assert all(frame.probability is not None for frame in frames)
        assert judged.refused.get('unfamiliar', 0) == (40 if strange else 0)
        assert all((frame.verdict, frame.reason) == (Verdict.UNKNOWN, Reason.UNFAMILIAR)
                   for frame in frames) is strange


def test_an_unfamiliar_frame_ends_a_success_at_once():
    decider = WindowedDecider(DecisionConfig(threshold=.6))
    for i in range(6):
        decider.observe(i * 10 ** 8, .9, i * 10 ** 8)
    assert decider.decide(5 * 10 ** 8).holds_object
    decider.observe_blind(Reason.UNFAMILIAR, 6 * 10 ** 8)
    decision = decider.decide(6 * 10 ** 8)
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.UNFAMILIAR)
    assert not decision.holds_object and decision.confidence == 0
    decider.observe(7 * 10 ** 8, .9, 7 * 10 ** 8)
    assert decider.decide(7 * 10 ** 8).holds_object


def test_the_dataclass_is_what_a_file_holds(known):
    assert Familiarity(**json.loads(json.dumps(asdict(known)))) == known
