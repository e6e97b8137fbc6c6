"""Which architectures there are, for those who need to know no more: without torch."""

import re

from grasp_success_detector.errors import ConfigError

#: Names that ``architectures.build`` knows, besides ``timm:NAME`` for any model of timm.
ARCHITECTURES = ('cifar_cnn', 'resnet34', 'efficientnet_lite0')

TIMM_PREFIX = 'timm:'

_TIMM_NAME = re.compile(r'timm:[\w.-]+')


def is_timm_name(name: object) -> bool:
    """Say whether this could be the name of a timm model; timm itself is not asked."""
    return isinstance(name, str) and _TIMM_NAME.fullmatch(name) is not None


def check_architecture(name: object) -> None:
    """
    Refuse what cannot be the name of an architecture.

    Whether timm has a model ``timm:NAME`` is left to ``build``: asking it takes seconds.

    :raises ConfigError: unknown name.
    """
    if not is_timm_name(name) and name not in ARCHITECTURES:
        raise ConfigError(f'unknown architecture {name!r}; expected one of '
                          f'{", ".join(ARCHITECTURES)}, or timm:NAME')
