"""Whether a checkpoint is worse than an earlier one on the same attempts: for a lab's own CI."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from grasp_success_detector.errors import ConfigError, DatasetError, one_line
from grasp_success_detector.evaluation.comparison import mcnemar_exact

#: A difference that luck alone would bring less often than this counts.
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Gate:
    """
    Two checkpoints on the same attempts.

    :ivar only_baseline: attempts that only the baseline got right.
    :ivar only_new: attempts that only the new one got right.
    :ivar max_drop: share of attempts that may be lost.
    """

    attempts: int
    only_baseline: int
    only_new: int
    max_drop: float

    @property
    def drop(self) -> float:
        """Return the share of attempts that were lost; negative where some were won."""
        return (self.only_baseline - self.only_new) / self.attempts

    @property
    def p_value(self) -> float:
        """Return McNemar's exact p-value: how probable so uneven a count is by luck."""
        return mcnemar_exact(self.only_baseline, self.only_new)

    @property
    def failed(self) -> bool:
        """
        Say whether the new one is significantly worse.

        More is lost than is allowed, and the loss is no luck by McNemar's exact test (two-sided,
        Psychometrika 12 (1947), 153-157) at the level of 5 %.
        """
        return self.drop > self.max_drop and self.p_value < SIGNIFICANCE

    def __str__(self) -> str:
        verdict = ('significantly worse than the baseline' if self.failed else
                   'not significantly worse than the baseline')
        return (f'{verdict}: {self.only_baseline} attempts lost, {self.only_new} won of '
                f'{self.attempts}, a drop of {self.drop:.1%} (allowed {self.max_drop:.1%}), '
                f"McNemar's exact test p = {self.p_value:.3g}")


def compare_with_baseline(baseline: Path, attempts: list[dict[str, Any]], max_drop: float) -> Gate:
    """
    Compare with an earlier evaluation of the same sources.

    :param baseline: its metrics.json.
    :param attempts: of this evaluation, as metrics.json has them.
    :raises ConfigError: ``max_drop`` is no share.
    :raises DatasetError: no such file, or other attempts or labels than here.
    """
    check_max_drop(max_drop)
    before = read_baseline(baseline)
    now = {a['attempt']: a for a in attempts if a['result'] is not None}
    if not now:
        raise DatasetError(f'{baseline}: nothing to compare with, as no attempt here has a label')
    if differ := before.keys() ^ now.keys():
        raise DatasetError(
            f'{baseline}: {len(before.keys() - now.keys())} of its attempts are not here, and '
            f'{len(now.keys() - before.keys())} of those here not in it, such as {min(differ)}; '
            'expected an evaluation of the same sources')
    if changed := [name for name in now if now[name]['outcome'] != before[name]['outcome']]:
        raise DatasetError(f'{baseline}: {len(changed)} attempts had another label then, such as '
                           f'{changed[0]}; evaluate the baseline again')
    right = [(before[name]['result'] == 'correct', now[name]['result'] == 'correct')
             for name in now]
    return Gate(len(now), right.count((True, False)), right.count((False, True)), max_drop)


def check_max_drop(max_drop: float) -> None:
    """
    Refuse what is no share.

    :raises ConfigError: it is none.
    """
    if not 0. <= max_drop < 1.:
        raise ConfigError(f'--max-drop {max_drop}: expected a share of the attempts, 0 or more '
                          'and below 1')


def read_baseline(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """
    Return the labelled attempts of a metrics.json by their names.

    :raises DatasetError: no metrics.json of evaluate_classifier.
    """
    try:
        attempts = json.loads(path.read_text(encoding='utf-8'))['attempts']
        return {attempt['attempt']: {'outcome': attempt['outcome'], 'result': attempt['result']}
                for attempt in attempts if attempt['result'] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{path}: no metrics.json of evaluate_classifier '
                           f'({type(error).__name__}: {one_line(error)})') from error
