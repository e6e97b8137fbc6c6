"""Wilson's interval against published values and against its own definition."""

import math

from hypothesis import given, strategies as st
import pytest

from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.metrics import wilson_interval


@pytest.mark.parametrize('successes, n, low, high', [
    # R. G. Newcombe, Two-sided confidence intervals for the single proportion, Statistics in
    # Medicine 17 (1998), 857-872, table I, method 3
    (81, 263, .2553, .3662),
    (15, 148, .0624, .1605),
    (0, 20, .0000, .1611),
    (1, 29, .0061, .1718),
    # The 32 test images of the design: all right still means from 89 %.
    (32, 32, .8928, 1.),
])
def test_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_solve_the_score_equation(counts):
    """A bound is where the observed proportion lies z standard errors of *that bound* away."""
    successes, n = counts
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    for bound in {low, high} - {0., 1.}:
        z = abs(successes / n - bound) / math.sqrt(bound * (1 - bound) / n)
        assert z == pytest.approx(1.959964, rel=1e-4)


def test_confidence_widens():
    low, high = wilson_interval(45, 50, confidence=.8)
    wider_low, wider_high = wilson_interval(45, 50, confidence=.99)
    assert wider_low < low < high < wider_high


def test_interval_of_no_trials():
    assert wilson_interval(0, 0) == (0., 1.)


@pytest.mark.parametrize('arguments, text', [
    ((3, 2), '3 successes of 2; expected 0 to 2'),
    ((-1, 2), '-1 successes of 2'),
    ((1, 2, 1.), r'confidence is 1\.0; expected between 0 and 1'),
])
def test_impossible_counts(arguments, text):
    with pytest.raises(ConfigError, match=text):
        wilson_interval(*arguments)
