"""Metrics of evaluations: against scikit-learn on random data, and by hand."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

from grasp_success_detector.cli.arguments import ReportOptions
from grasp_success_detector.decision import DecisionConfig, Reason
from grasp_success_detector.errors import ConfigError, DatasetError
from grasp_success_detector.evaluation.attempts import (
    attempt_result,
    confident_thresholds,
    durations_s,
    find_label_errors,
)
from grasp_success_detector.evaluation.comparison import compare_with_baseline
from grasp_success_detector.evaluation.evaluation import (
    bootstrap_interval,
    evaluation_metrics,
    mean_of,
    roc_auc_of,
)
from grasp_success_detector.evaluation.predictions import FrameVerdict
from grasp_success_detector.labels import Label, Verdict

S, F, U = Verdict.SUCCESS, Verdict.FAILURE, Verdict.UNKNOWN
CONFIG = DecisionConfig()


def attempt(name, labels, probabilities, verdicts=None, period_s=.1):
    """Make an attempt; labels are 1, 0 or None."""
    verdicts = verdicts or [U] * len(labels)
    return attempt_result([FrameVerdict(
        'bag', name, i, round(i * period_s * 1e9), '', None if label is None else Label(label),
        p, p, verdict, Reason.DECIDED, p)
        for i, (label, p, verdict) in enumerate(zip(labels, probabilities, verdicts,
                                                    strict=True))], CONFIG)


def random_attempts(seed, count=9, length=17):
    rng = np.random.default_rng(seed)
    return [attempt(
        f'bag/{i}', rng.integers(0, 2, length).tolist(),
        # few different values, so that there are ties
        (rng.integers(0, 12, length) / 11).tolist(),
        [Verdict(value) for value in rng.choice(['success', 'failure', 'unknown'], length)])
        for i in range(count)]


@pytest.mark.parametrize('seed', range(5))
def test_numbers_are_those_of_scikit_learn(seed):
    attempts = random_attempts(seed)
    metrics = evaluation_metrics(attempts, CONFIG)
    truth = [int(f.label) for a in attempts for f in a.frames]
    scores = [f.probability for a in attempts for f in a.frames]
    said = [int(score >= CONFIG.threshold) for score in scores]
    assert metrics['frames']['value'] == pytest.approx(accuracy_score(truth, said))
    assert metrics['roc_auc'] == pytest.approx(roc_auc_score(truth, scores))
    names = ['failure', 'success']
    assert [[metrics['confusion']['frames'][t][s] for s in names] for t in names] == (
        confusion_matrix(truth, said).tolist())
    names.append('unknown')
    assert [[metrics['confusion']['attempts'][t][s] for s in names] for t in names[:2]] == (
        confusion_matrix([a.outcome.name.lower() for a in attempts],
                         [a.verdict.value for a in attempts], labels=names).tolist()[:2])


@pytest.mark.parametrize('seed', range(5))
def test_resampled_roc_auc_is_that_of_weighted_frames(seed):
    attempts = random_attempts(seed)
    times = np.random.default_rng(seed).integers(0, 3, len(attempts))
    frames = [(int(f.label), f.probability, times[i])
              for i, a in enumerate(attempts) for f in a.frames]
    truth, scores, weights = map(list, zip(*frames, strict=True))
    assert roc_auc_of(attempts)(times) == pytest.approx(
        roc_auc_score(truth, scores, sample_weight=weights))


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        low, high = bootstrap_interval(mean_of(rng.normal(2., 1., 40).tolist()), 40)
        hits += low <= 2. <= high
    assert hits >= 50
    assert bootstrap_interval(mean_of([1.]), 1) is None
    assert bootstrap_interval(mean_of([None, None]), 2) is None


def test_times_of_an_attempt():
    result = attempt('bag/0', [0, 0, 0, None, 1, 1, 1, None], [.5] * 8, [U, F, S, S, F, F, S, U])
    assert result.first_decision_s == pytest.approx(.1)
    assert result.success_delay_s == pytest.approx(.2)  # from 0.4 s, said at 0.6 s
    assert result.false_true_s == pytest.approx(.1)     # one frame; the next has no label
    assert result.outcome is Label.SUCCESS
    assert result.verdict is S  # after the last labelled frame, not the last one
    assert result.result == 'correct'
    never = attempt('bag/1', [0, 0], [.5] * 2)
    assert (never.first_decision_s, never.success_delay_s, never.result) == (None, None, 'unknown')
    assert attempt('bag/2', [None], [.5]).result is None


def test_a_frame_counts_for_no_longer_than_it_is_fresh():
    frames = attempt('bag/0', [0, 0, 0], [.5] * 3, [S, S, S], period_s=2.).frames
    assert durations_s(frames, .5) == [.5, .5, .5]


def test_attempts_without_label_do_not_count():
    labelled = random_attempts(0)
    blank = attempt('bag/blank', [None] * 3, [.9] * 3, [S] * 3)
    with_blank, without = (evaluation_metrics(a, CONFIG) for a in ([*labelled, blank], labelled))
    assert with_blank == without
    assert evaluation_metrics([blank], CONFIG) is None
    json.dumps(without, allow_nan=False)


# labels that a confident model does not believe

def test_confidence_is_the_mean_over_the_frames_of_a_label():
    thresholds = confident_thresholds([attempt('bag/0', [1, 1, 0, 0, None], [.9, .7, .3, .8, 0.])])
    assert thresholds[Label.SUCCESS] == pytest.approx(.8)
    assert thresholds[Label.FAILURE] == pytest.approx(.5)  # the mean is 0.45


def test_wrong_labels_are_found_and_right_ones_are_not():
    good = [attempt(f'bag/{i}', [0] * 5 + [1] * 5, [.03] * 5 + [.95] * 5) for i in range(4)]
    swapped = attempt('bag/swapped', [0] * 10, [.03] * 4 + [.97] * 6)
    blip = attempt('bag/blip', [0] * 10, [.03] * 4 + [.99] * 3 + [.03] * 3)
    unsure = attempt('bag/unsure', [0] * 10, [.6] * 10)
    missing = attempt('bag/missing', [1] * 10, [.02] * 7 + [None] + [.02] * 2)
    found = find_label_errors([*good, swapped, blip, unsure, missing], CONFIG)
    assert [(f.attempt, len(f.frames), f.label) for f in found] == [
        ('bag/missing', 9, Label.SUCCESS), ('bag/swapped', 6, Label.FAILURE)]
    assert (found[1].start_s, found[1].end_s) == (pytest.approx(.4), pytest.approx(.9))
    assert found[1].believed == pytest.approx(.97)


# the gate

def gate(tmp_path, before, now, max_drop=0.):
    """Compare attempts that were right (1) or wrong (0) before and now."""
    def attempts(rights):
        return [{'attempt': f'bag/{i}', 'outcome': 'success',
                 'result': 'correct' if right else 'wrong'} for i, right in enumerate(rights)]
    path = tmp_path / 'metrics.json'
    path.write_text(json.dumps({'attempts': attempts(before)}))
    return compare_with_baseline(path, attempts(now), max_drop)


@pytest.mark.parametrize('lost, max_drop, failed', [
    (5, 0., False),     # p = 0.0625
    (6, 0., True),      # p = 0.03125
    (6, .1, True),
    (6, .12, False),    # exactly as much as is allowed
    (30, .5, True)])
def test_gate_fails_on_a_significant_and_too_large_loss(tmp_path, lost, max_drop, failed):
    found = gate(tmp_path, [1] * 50, [0] * lost + [1] * (50 - lost), max_drop)
    assert found.failed is failed
    assert found.duel.p_value == pytest.approx(2 * .5 ** lost)
    assert found.drop == pytest.approx(lost / 50)


def test_gate_lets_a_better_one_pass(tmp_path):
    assert not gate(tmp_path, [0] * 50, [1] * 50).failed


def test_gate_wants_the_same_attempts(tmp_path):
    with pytest.raises(DatasetError, match='1 of its attempts are not here, and 0 of those here '
                                           'not in it, such as bag/2'):
        gate(tmp_path, [1] * 3, [1] * 2)
    with pytest.raises(ConfigError, match=r'max_drop 1.5 \(expected a number of 0 or more and '):
        ReportOptions(max_drop=1.5)
    labelled = '{"outcome": "success", "result": "wrong", "attempt": '
    for text in ('{"val": 1}', '[]', 'no JSON', '\xff', '{"attempts": 5}',
                 '{"attempts": {"a": 1}}', '{"attempts": [1]}'):
        (tmp_path / 'other.json').write_text(text, encoding='latin-1')
        with pytest.raises(DatasetError, match='no metrics.json of evaluate_classifier'):
            compare_with_baseline(tmp_path / 'other.json', [], 0.)
    # Names of another kind differ from those here; they do not break the comparison.
    (tmp_path / 'other.json').write_text(f'{{"attempts": [{labelled}5}}, {labelled}"a"}}]}}')
    now = [{'attempt': 'b', 'outcome': 'success', 'result': 'wrong'}]
    with pytest.raises(DatasetError, match='2 of its attempts are not here, and 1 of those here'):
        compare_with_baseline(tmp_path / 'other.json', now, 0.)
