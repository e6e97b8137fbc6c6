"""Metrics against scikit-learn, against brute force, and in degenerate cases."""

import json
import os

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from grasp_success_detector.decision import DecisionConfig, Reason
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    reliability,
)
from grasp_success_detector.evaluation.metrics import attempts_text, summarize
from grasp_success_detector.evaluation.predictions import (
    FrameVerdict,
    Prediction,
    read_predictions,
    write_predictions,
)
from grasp_success_detector.evaluation.threshold import (
    average_precision,
    choose_threshold,
    precision_recall_curve,
    roc_auc,
    roc_curve,
)
from grasp_success_detector.labels import Label, Verdict

#: Values with many ties, the ends among them.
PROBABILITIES = st.one_of(st.sampled_from([0., .1, .25, .5, .75, 1.]), st.floats(0, 1))
FRAMES = st.lists(st.tuples(PROBABILITIES, st.sampled_from(Label)), min_size=1, max_size=60)


def draw(seed, n=400, ties=True):
    rng = np.random.default_rng(seed)
    labels = [Label(int(label)) for label in rng.integers(0, 2, n)]
    values = np.clip(rng.normal(.5, .25, n) + .25 * (np.array(labels) - .5), 0, 1)
    return (np.round(values, 2) if ties else values), labels


def predictions(values, labels, attempts=None, uncalibrated=None):
    return [Prediction('test', 'bag', f'bag/{i if attempts is None else attempts[i]}',
                       i * 100_000_000, f'x/{i}.jpg', label, value,
                       value if uncalibrated is None else uncalibrated[i])
            for i, (value, label) in enumerate(zip(values, labels, strict=True))]


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('ties', [False, True])
def test_curves_and_areas_are_scikit_learns(seed, ties):
    metrics = pytest.importorskip('sklearn.metrics')
    values, labels = draw(seed, ties=ties)
    assert roc_auc(values, labels) == pytest.approx(metrics.roc_auc_score(labels, values))
    assert average_precision(values, labels) == pytest.approx(
        metrics.average_precision_score(labels, values))
    assert brier_score(values, labels) == pytest.approx(
        metrics.brier_score_loss(labels, values))
    curve = roc_curve(values, labels)
    for ours, theirs in zip(curve, metrics.roc_curve(labels, values, drop_intermediate=False),
                            strict=True):
        assert ours == pytest.approx(theirs)
    curve = precision_recall_curve(values, labels)
    precision, recall, thresholds = metrics.precision_recall_curve(labels, values)
    assert curve.x == pytest.approx(recall[::-1])
    assert curve.y == pytest.approx(precision[::-1])
    assert curve.thresholds[1:] == pytest.approx(thresholds[::-1])


def test_confusion_and_accuracy_are_scikit_learns():
    metrics = pytest.importorskip('sklearn.metrics')
    values, labels = draw(7)
    decision = DecisionConfig(min_frames=1, undecided=0.)
    summary = summarize(predictions(values, labels), .6, decision)
    said = [Label(int(value >= .6)) for value in values]
    theirs = metrics.confusion_matrix(labels, said)
    names = ('failure', 'success')
    assert [[summary['confusion']['frames'][t][s] for s in names] for t in names] == (
        theirs.tolist())
    assert summary['frames']['value'] == pytest.approx(metrics.accuracy_score(labels, said))
    assert [summary['classes'][name]['value'] for name in names] == pytest.approx(
        metrics.recall_score(labels, said, average=None).tolist())
    # Each frame is an attempt of its own here.
    assert summary['attempts'] == summary['frames']
    assert all(summary['confusion']['attempts'][name]['unknown'] == 0 for name in names)


def test_reliability_is_scikit_learns_calibration_curve():
    calibration = pytest.importorskip('sklearn.calibration')
    values, labels = draw(3, ties=False)
    _, counts, said, true = reliability(values, labels)
    their_true, their_said = calibration.calibration_curve(labels, values, n_bins=15)
    assert said[counts > 0] == pytest.approx(their_said)
    assert true[counts > 0] == pytest.approx(their_true)
    assert counts.sum() == len(values)


def test_calibration_error_by_hand():
    # Bin 0: 2 frames of 0 and 1/15, said 1/30, true 1/2; last bin: 1 frame, said 1, true 1.
    labels = [Label.FAILURE, Label.SUCCESS, Label.SUCCESS]
    assert expected_calibration_error([0., 1 / 15, 1.], labels) == pytest.approx(
        2 / 3 * (1 / 2 - 1 / 30))
    assert brier_score([.2, .7, 1.], labels) == pytest.approx((.04 + .09) / 3)


@given(FRAMES, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_threshold_finds_most_successes_at_the_wanted_rate(frames, rate):
    """Compare with a search over all thresholds."""
    values, labels = np.array([p for p, _ in frames]), [label for _, label in frames]
    success = np.array(labels) == Label.SUCCESS
    if success.all():
        with pytest.raises(DatasetError, match='there are no failure frames to validate on'):
            choose_threshold(values, labels, rate)
        return
    threshold = choose_threshold(values, labels, rate)
    assert 0 < threshold <= 1

    def outcome(at):
        said = values >= at
        return int((said & success).sum()), -int((said & ~success).sum())

    within = [outcome(at) for at in {*values.tolist(), 1.} - {0.}
              if -outcome(at)[1] <= rate * (~success).sum() + 1e-9]
    # Below all and above all are thresholds too; above 1 is none.
    within += [(0, 0)] if values.max() < 1 else []
    best = max(within, default=outcome(1.))
    assert outcome(threshold) == best


def test_threshold_lies_in_the_middle_of_the_gap():
    labels = [Label.FAILURE] * 3 + [Label.SUCCESS] * 2
    assert choose_threshold([.1, .2, .3, .7, .9], labels, 0.) == pytest.approx(.5)
    # A rate that nothing is gained by is not used up.
    assert choose_threshold([.1, .2, .3, .7, .9], labels, .9) == pytest.approx(.5)
    assert choose_threshold([.1, .2, .8, .7, .9], labels, 0.) == pytest.approx(.85)
    assert choose_threshold([.1, .2, .8, .7, .9], labels, .34) == pytest.approx(.45)
    with pytest.raises(ConfigError, match='max_false_positive_rate is 1.5; expected a share'):
        choose_threshold([.1], [Label.FAILURE], 1.5)


def test_attempts_are_decided_by_their_last_half_second():
    """Frames in any order; a good end makes up for a bad begin; too few frames are unknown."""
    failure, success = Label
    values = [.9, .9, .1, .1, .1, .1, .1, .9, .9, .9, .9, .9]
    labels = [failure] * 7 + [success] * 3 + [failure, failure]
    attempts = [0] * 10 + [1] * 2
    rows = predictions(values, labels, attempts)
    decision = DecisionConfig(window_s=.25, min_frames=3, undecided=0.)
    summary = summarize(rows[::-1], .5, decision)
    assert summary['confusion']['attempts'] == {
        'failure': {'failure': 0, 'success': 0, 'unknown': 1},
        'success': {'failure': 0, 'success': 1, 'unknown': 0}}
    assert attempts_text(summary) == (
        '1 correct, 0 wrong, 1 unknown; right 50.0% (1/2, 95 % interval 9.5% to 90.5%)')
    assert (summary['frames']['correct'], summary['frames']['total']) == (8, 12)
    # Only the given threshold counts, for attempts as well.
    assert summarize(rows, .95, decision)['confusion']['attempts']['success']['failure'] == 1


@pytest.mark.parametrize('labels', [[], [Label.SUCCESS] * 3, [Label.FAILURE] * 3])
def test_undefined_metrics_are_null(labels):
    values = [.2, .6, .9][:len(labels)]
    summary = summarize(predictions(values, labels), .5, DecisionConfig())
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary['roc_auc'] is None and summary['average_precision'] is None
    assert (summary['brier'] is None) == (summary['frames']['value'] is None) == (not labels)
    missing = 'failure' if Label.SUCCESS in labels else 'success'
    assert summary['classes'][missing]['value'] is None
    assert summary['classes'][missing]['wilson_95'] == [0., 1.]
    assert roc_curve(values, labels) is None and precision_recall_curve(values, labels) is None


def test_calibrated_and_uncalibrated_are_kept_apart():
    values, labels = draw(1)
    raw = np.clip(values * 1.3 - .15, 0, 1)
    summary = summarize(predictions(values, labels, uncalibrated=raw), .5, DecisionConfig())
    assert summary['ece'] == expected_calibration_error(values, labels)
    assert summary['ece_uncalibrated'] == expected_calibration_error(raw, labels)
    assert summary['brier'] == brier_score(values, labels) != summary['brier_uncalibrated']


@given(FRAMES)
@settings(max_examples=30, deadline=None)
def test_predictions_are_read_as_written(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp('run') / 'predictions.csv'
    rows = predictions(np.float32([p for p, _ in frames]), [label for _, label in frames])
    write_predictions(path, rows)
    assert read_predictions(path) == rows


def test_names_that_are_no_utf_8_are_read_as_written_and_by_every_reader(tmp_path):
    path, row = tmp_path / 'predictions.csv', predictions([.75], [Label.SUCCESS])[0]
    rows = [row._replace(attempt=os.fsdecode(name), file=os.fsdecode(name)) for name in (
        b'caf\xe9', b'caf\xc3\xa9', rb'\xE9', rb'\x5CxE9', rb'a\x')]
    write_predictions(path, rows)
    assert r',caf\xE9,' in path.read_text(encoding='utf-8')
    assert read_predictions(path) == rows
    path.write_bytes(path.read_bytes().replace(rb'caf\xE9', b'caf\xe9'))    # of earlier versions
    assert read_predictions(path) == rows


def test_predictions_of_an_evaluation_are_read_as_those_of_a_training(tmp_path):
    verdicts = [FrameVerdict('bag', 'bag/\N{GREEK SMALL LETTER ALPHA}', i, 10 * i, '', label, p, p,
                             Verdict.UNKNOWN, reason, None)
                for i, (label, p, reason) in enumerate([
                    (Label.SUCCESS, .75, Reason.TOO_FEW_FRAMES), (Label.FAILURE, None, None),
                    (None, .5, Reason.DECIDED)])]
    path = tmp_path / 'predictions.csv'
    write_predictions(path, verdicts)
    assert path.read_text(encoding='utf-8').splitlines()[:2] == [
        'split,source,attempt,number,stamp_ns,file,label,probability,uncalibrated,verdict,reason,'
        'window_probability',
        'test,bag,bag/\N{GREEK SMALL LETTER ALPHA},0,0,,success,0.75,0.75,unknown,'
        'too_few_frames,']
    assert read_predictions(path) == [Prediction(
        'test', 'bag', 'bag/\N{GREEK SMALL LETTER ALPHA}', 0, '', Label.SUCCESS, .75, .75)]


@pytest.mark.parametrize('text', [
    'split,source,attempt,stamp_ns,file,label,probability,uncalibrated\n'
    'test,bag,bag/0,5,a.jpg,success,0.75,0.5\n',
    'source,attempt,number,stamp_ns,file,label,probability,uncalibrated,verdict,reason,'
    'window_probability\nbag,bag/0,0,5,a.jpg,success,0.75,0.5,unknown,too_few_frames,0.75\n'])
def test_predictions_of_earlier_versions_are_read(tmp_path, text):
    path = tmp_path / 'predictions.csv'
    path.write_text(text, encoding='utf-8')
    assert read_predictions(path) == [
        Prediction('test', 'bag', 'bag/0', 5, 'a.jpg', Label.SUCCESS, .75, .5)]


@pytest.mark.parametrize('old, new, error', [
    ('split,', 'spilt,', 'expected the columns split,source,attempt'),
    ('test,bag', 'exam,bag', r"line 2 is damaged \(label 'success', split 'exam'\)"),
    ('0.75,0.75', '0.75,nan', r'line 2 is damaged \(P\(success\) = nan'),
    ('0.75,0.75', '0.75', r'line 2 is damaged \('),
])
def test_broken_predictions_are_one_line(tmp_path, old, new, error):
    path = tmp_path / 'predictions.csv'
    write_predictions(path, predictions([.75], [Label.SUCCESS]))
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DatasetError, match=error):
        read_predictions(path)
    path.unlink()
    with pytest.raises(DatasetError, match='cannot be read'):
        read_predictions(path)
