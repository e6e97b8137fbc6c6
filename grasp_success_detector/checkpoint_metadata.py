"""What a checkpoint says about its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
import math
from typing import Any

from grasp_success_detector.architecture_names import check_architecture
from grasp_success_detector.errors import CheckpointError, ConfigError
from grasp_success_detector.labels import CLASS_NAMES
from grasp_success_detector.preprocessing import Preprocessing

FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointMetadata:
    """
    What a checkpoint says about its weights.

    :ivar architecture: name that :func:`~grasp_success_detector.architectures.build` knows.
    :ivar preprocessing: how a frame becomes the model's input.
    :ivar class_names: names of the logits, in order.
    :ivar threshold: P(success) from which on a frame counts as success, 0 to 1.
    :ivar temperature: what the logits are divided by before the softmax, above 0.
    :ivar training: how and on what it was trained; anything JSON can hold.
    :ivar metrics: what was measured, on which split; anything JSON can hold.
    :ivar format_version: of the file.
    :raises CheckpointError: a field has a value that cannot be used.
    """

    architecture: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...] = CLASS_NAMES
    threshold: float = 0.5
    temperature: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ('training', 'metrics'):
            if not isinstance(getattr(self, name), Mapping):
                raise CheckpointError(
                    f'{name} is {getattr(self, name)!r}; expected names and values')
        try:
            check_architecture(self.architecture)
        except ConfigError as error:
            raise CheckpointError(str(error)) from error
        if tuple(self.class_names) != CLASS_NAMES:
            raise CheckpointError(
                f'class names are {list(self.class_names)}; expected {list(CLASS_NAMES)}, in '
                'this order')
        if not _is_number(self.threshold) or not 0 <= self.threshold <= 1:
            raise CheckpointError(
                f'threshold is {self.threshold!r}; expected a probability from 0 to 1')
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise CheckpointError(
                f'temperature is {self.temperature!r}; expected a number above 0')

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__},
                'class_names': list(self.class_names),
                'preprocessing': self.preprocessing.to_metadata()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> 'CheckpointMetadata':
        """
        Build from what :meth:`to_json` returned.

        :raises CheckpointError: fields are missing, unknown, or have unusable values.
        """
        wrong = set(document) ^ set(cls.__dataclass_fields__)
        if wrong:
            raise CheckpointError(
                f'fields missing from or unknown in the metadata: {", ".join(sorted(wrong))}')
        try:
            return cls(**{**document,
                          'class_names': tuple(document['class_names']),
                          'preprocessing': Preprocessing.from_metadata(document['preprocessing'])})
        except (ConfigError, TypeError) as error:
            raise CheckpointError(str(error)) from error


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value))
