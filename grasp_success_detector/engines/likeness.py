"""Whether an engine resembles torch at all: what is broken answers otherwise, or nothing."""

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.checkpoint import Checkpoint, CheckpointFile
from grasp_success_detector.engines.engine import Engine, Precision, Wanted
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.preprocessing import Preprocessing
from grasp_success_detector.probability import success_probabilities

# P(success) may differ so much on made-up pictures, which rounding can move far. What is broken
# (a driver, another machine's cache) differs by more, or gives no numbers at all.
_GROSS = .35


def pictures(size: Preprocessing) -> NDArray[np.uint8]:
    """Return two smooth pictures of the network's input size, RGB uint8 (2, H, W, 3)."""
    down, across = np.mgrid[:size.height, :size.width]
    ramp = (255 * (down / size.height + across / size.width) / 2).astype(np.uint8)
    grey = np.full_like(ramp, 128)
    return np.ascontiguousarray(np.stack(
        [np.stack(planes, -1) for planes in ((grey, grey, grey), (ramp, 255 - ramp, grey))]))


def torchs_logits(checkpoint: Checkpoint | CheckpointFile) -> NDArray[np.float32]:
    """Return what torch in fp32 answers to :func:`pictures`, float32 (2, 2)."""
    from grasp_success_detector.engines.torch_engine import TorchEngine

    engine = TorchEngine(Wanted(checkpoint, None, Precision.FP32, 'cpu', None))
    return engine.logits(pictures(checkpoint.metadata.preprocessing))


def check_likeness(engine: Engine, checkpoint: Checkpoint | CheckpointFile) -> None:
    """
    Refuse an engine that answers to smooth pictures quite unlike torch, whatever is broken.

    Torch is asked only where nobody has kept its answers beside what the engine was read from.

    :raises ConfigError: it does.
    """
    expected = torchs_logits(checkpoint) if engine.expected is None else engine.expected
    given = engine.logits(pictures(checkpoint.metadata.preprocessing))
    ours, theirs = (success_probabilities(logits, checkpoint.metadata.temperature)
                    for logits in (given, expected))
    difference = float(abs(ours - theirs).max())
    if not difference <= _GROSS:  # nor is NaN
        raise ConfigError(f'its P(success) differs by {difference:.2f} from torch: something is '
                          'broken (driver, installation)')
