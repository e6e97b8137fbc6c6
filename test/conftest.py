"""What every test run needs: a ROS environment of its own, and a small checkpoint."""

import os
from pathlib import Path
import tempfile

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Set before anything imports rclpy; child processes inherit it. 1 to 101 are the domains whose
# ports lie below Linux' ephemeral ones.
os.environ.update(
    ROS_DOMAIN_ID=str(1 + os.getpid() % 101),
    ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
    ROS_LOG_DIR=tempfile.mkdtemp(prefix='grasp_success_detector_test_'),
    PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))))
os.environ.pop('ROS_LOCALHOST_ONLY', None)


@pytest.fixture(scope='session')
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cifar_cnn checkpoint with fixed random weights, written by the real code."""
    import torch

    from grasp_success_detector.architectures import build, default_preprocessing
    from grasp_success_detector.checkpoint import CheckpointMetadata, save

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build('cifar_cnn')
    path = tmp_path_factory.mktemp('checkpoint') / 'random.safetensors'
    save(path, model, CheckpointMetadata('cifar_cnn', default_preprocessing('cifar_cnn')))
    return path
