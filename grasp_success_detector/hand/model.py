"""The file of a hand: what is learned of its joints, the rig's references, the fusion."""

from dataclasses import dataclass, field
import hashlib
import json
from pathlib import Path
from typing import Any

from grasp_success_detector.errors import HandStateError, one_line
from grasp_success_detector.files import expanded, json_text, read_json, share_path, write_whole
from grasp_success_detector.hand.closure import HandReference
from grasp_success_detector.hand.evidence import JointModel
from grasp_success_detector.hand.fusion import Fusion
from grasp_success_detector.hand.logistic import Logistic

#: The one that ships with the package, learned on simulated attempts.
SHIPPED_HAND = 'models/allegro_hand_simulated.json'

_FORMAT = 4


@dataclass(frozen=True)
class HandModel:
    """
    Everything that the node needs to judge a hand by its joints.

    :ivar joints: P(success) from closure deficits, torques and distances of the fingers.
    :ivar fusion: of the cameras' P(success) and the joints'.
    :ivar tactile: log-odds from those of the joints and the features of tactile sensors; None:
        tactile sensors count for nothing.
    :ivar reference: the rig's own closes on nothing; None: only commands tell where it closes.
    :ivar about: how, when and on what it was learned, for readers.
    """

    joints: JointModel
    fusion: Fusion
    reference: HandReference | None = None
    tactile: Logistic | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of all fields, for diagnostics and against damage."""
        return hashlib.sha256(json.dumps(self._fields(), sort_keys=True).encode()).hexdigest()

    def _fields(self) -> dict[str, Any]:
        # Through JSON, so that a model has the same hash before it is written and after.
        return dict(json.loads(json.dumps({
            'format_version': _FORMAT, 'about': self.about, 'joints': self.joints.to_json(),
            'fusion': self.fusion.to_json(),
            'tactile': None if self.tactile is None else self.tactile.to_json(),
            'reference': None if self.reference is None else self.reference.to_json()})))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; raises OSError."""
        write_whole(path, json_text({**self._fields(), 'sha256': self.sha256}))


def read_hand(given: str = '') -> HandModel:
    """
    Read the file of a hand.

    :param given: path, where ``~`` is expanded; empty: the one that ships.
    :raises HandStateError: it is missing, damaged, or of another kind or version.
    :raises ResourceError: the shipped one is not installed.
    """
    path = expanded(given) if given else share_path(SHIPPED_HAND)
    try:
        read = read_json(path)
        if read['format_version'] != _FORMAT:
            raise ValueError(f'format_version {read["format_version"]!r}; expected {_FORMAT}')
        joints, fusion, reference = read['joints'], read['fusion'], read['reference']
        tactile = None if read['tactile'] is None else _logistic(read['tactile'])
        model = HandModel(
            JointModel(**joints | {'regressions': {
                name: _logistic(fit) for name, fit in joints['regressions'].items()}}),
            Fusion(**fusion | {'logistic': _logistic(fusion['logistic'])}),
            None if reference is None else HandReference(
                _floats(reference['opened']), _floats(reference['closed']),
                _floats(reference['spread']), int(reference['closes'])),
            tactile, dict(read['about']))
        damaged = model.sha256 != read['sha256']
    except OSError as error:
        raise HandStateError(f'{path}: cannot be read ({error.strerror}); expected a file of '
                             'calibrate_hand') from error
    except (HandStateError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise HandStateError(f'{path}: no file of calibrate_hand ({one_line(error)})') from error
    if damaged:
        raise HandStateError(f'{path}: damaged, or changed by hand: its hash is another one; make '
                             'it again with calibrate_hand')
    return model


def _floats(read: list[Any]) -> tuple[float, ...]:
    return tuple(map(float, read))


def _logistic(read: dict[str, Any]) -> Logistic:
    return Logistic(_floats(read['weights']), float(read['bias']), _floats(read['mean']),
                    _floats(read['scale']))
