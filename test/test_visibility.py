"""Frames that are too dark, saturated or frozen."""

import numpy as np
import pytest

from grasp_success_detector.decision import NS_PER_S, Reason
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.images.visibility import (
    BLACK,
    black_and_white,
    VisibilityCheck,
    VisibilityConfig,
    WHITE,
)

NOISE = np.random.default_rng(1).integers(BLACK + 1, WHITE, (480, 640, 3), np.uint8)


def check(**config):
    return VisibilityCheck(VisibilityConfig(**config))


def mostly(value, share):
    """Return noise with a share of its rows filled with one grey."""
    frame = NOISE.copy()
    frame[:round(share * len(frame))] = value
    return frame


@pytest.mark.parametrize('shape', [(480, 640), (1080, 1920), (32, 32), (1, 1), (3, 2000)])
@pytest.mark.parametrize(('value', 'expected'), [
    (0, Reason.TOO_DARK), (BLACK, Reason.TOO_DARK), (BLACK + 1, None), (128, None),
    (WHITE - 1, None), (WHITE, Reason.SATURATED), (255, Reason.SATURATED)])
def test_black_and_white_frames_are_blind_at_any_size(shape, value, expected):
    assert check().look(np.full((*shape, 3), value, np.uint8), 0) is expected


@pytest.mark.parametrize(('value', 'limit', 'reason'), [
    (0, VisibilityConfig.max_black, Reason.TOO_DARK),
    (255, VisibilityConfig.max_white, Reason.SATURATED)])
def test_the_share_decides(value, limit, reason):
    assert check().look(mostly(value, limit - 0.02), 0) is None
    assert check().look(mostly(value, limit + 0.015), 0) is reason


def test_a_pure_colour_is_neither_black_nor_white():
    for colour in np.eye(3, dtype=np.uint8) * 255:
        assert black_and_white(np.broadcast_to(colour, (40, 60, 3))) == (0., 0.)


def test_limits_of_1_switch_it_off():
    off = check(max_black=1., max_white=1., frozen_after_s=0.)
    for stamp_ns in range(0, 10 * NS_PER_S, NS_PER_S):
        assert off.look(np.zeros((40, 60, 3), np.uint8), stamp_ns) is None
        assert off.look(np.full((40, 60, 3), 255, np.uint8), stamp_ns) is None


def test_the_same_picture_is_frozen_when_its_stamps_have_gone_on_for_long_enough():
    looking = check(frozen_after_s=1.)
    says = [looking.look(NOISE.copy(), tenth * NS_PER_S // 10) for tenth in range(13)]
    assert says == [None] * 10 + [Reason.FROZEN] * 3
    other = NOISE.copy()
    other[-1, -1, -1] ^= 1      # a single bit of noise
    assert looking.look(other, 13 * NS_PER_S // 10) is None
    assert looking.look(NOISE, 14 * NS_PER_S // 10) is None


def test_stamps_that_stand_still_or_jump_back_freeze_nothing():
    looking = check(frozen_after_s=1.)
    for stamp_s in (5, 5, 5, 3, 3.5, 2, 2.9):
        assert looking.look(NOISE, int(stamp_s * NS_PER_S)) is None


def test_another_size_is_another_picture():
    looking = check(frozen_after_s=1.)
    grey = np.full((40, 60, 3), 128, np.uint8)
    assert looking.look(grey, 0) is None
    assert looking.look(grey[:20], 2 * NS_PER_S) is None


def test_config_names_every_culprit():
    with pytest.raises(ConfigError, match=r'max_black -1 .*, max_white 1.5 .*, frozen_after'):
        VisibilityConfig(max_black=-1, max_white=1.5, frozen_after_s=float('nan'))
