"""What every test run needs: a ROS environment of its own, and a small checkpoint."""

import os
from pathlib import Path
import shutil
import signal
import tempfile

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Temporary files of this run and its child processes lie in one folder, which goes with it: launch
# leaves its parameter files, and a process that a test kills can remove nothing. Those of pytest
# stay where they are, to look at what a test has left. Chromium's sockets want short paths.
os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', tempfile.gettempdir())
TEMPORARY = tempfile.mkdtemp(prefix='grasp_test_')     # that of an xdist worker lies in its run's
tempfile.tempdir = TEMPORARY

# Set before anything imports rclpy; child processes inherit it. 1 to 101 are the domains whose
# ports lie below Linux' ephemeral ones.
os.environ.update(
    TMPDIR=TEMPORARY,
    ROS_DOMAIN_ID=str(1 + os.getpid() % 101),
    ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
    ROS_LOG_DIR=TEMPORARY,
    PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))))
os.environ.pop('ROS_LOCALHOST_ONLY', None)

# Threads that wait for work leave the cores to the other processes of a test run.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

# `make test &` in a script starts the tests with Ctrl-C ignored, and all their children inherit
# that: those that a test interrupts would go on. A handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What rosdep or pip install only where it is asked for: `colcon test` on a robot has few of them.
OPTIONAL = {
    'PIL', 'backports', 'dask', 'distributed', 'fsspec', 'hypothesis', 'isal', 'jinja2',
    'lightning', 'lz4', 'matplotlib', 'mcap', 'mujoco', 'nncf', 'onnx', 'onnxruntime', 'openvino',
    'packaging', 'rclpy', 'rich', 'rosbags', 'ruamel', 'safetensors', 'selenium', 'skimage',
    'sklearn', 'starlette', 'tensorboard', 'timm', 'torch', 'torchvision', 'uvicorn'}


def pytest_unconfigure():
    """Remove what the run has left."""
    shutil.rmtree(TEMPORARY, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """Skip a test module that imports an optional package which is not installed."""
    report = (yield).get_result()
    error = report.call.excinfo and report.call.excinfo.value.__cause__
    if isinstance(error, ModuleNotFoundError) and error.name in OPTIONAL:
        report.outcome = 'skipped'
        report.longrepr = (str(collector.path), None, f'Skipped: needs {error.name}')


def pytest_collection_modifyitems(items):
    """Mark the tests of each module that imports rclpy: they talk over DDS."""
    for item in items:
        if 'rclpy' in vars(item.module):
            item.add_marker('dds')


@pytest.fixture(scope='module')
def one_thread():
    """
    Let torch use one thread, here and in child processes.

    The number of threads decides the order in which floating point numbers are added up, and
    small networks run several times faster with one.
    """
    torch = pytest.importorskip('torch')
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OMP_NUM_THREADS', '1')
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cifar_cnn checkpoint with fixed random weights, written by the real code."""
    torch = pytest.importorskip('torch')

    from grasp_success_detector.networks.architectures import build, default_preprocessing
    from grasp_success_detector.networks.checkpoint import CheckpointMetadata, save

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build('cifar_cnn')
    path = tmp_path_factory.mktemp('checkpoint') / 'random.safetensors'
    save(path, model, CheckpointMetadata('cifar_cnn', default_preprocessing('cifar_cnn')))
    return path


# What tests of the node share. ROS and torch are imported where they are used: a run without ROS
# loads this file too.

@pytest.fixture(scope='session')
def classifier(random_checkpoint):
    """Return the classifier that the nodes under test load."""
    from grasp_success_detector.inference.classifier import GraspClassifier

    return GraspClassifier.from_checkpoint(random_checkpoint, device='cpu')


@pytest.fixture(scope='session')
def threshold(classifier):
    """Return a threshold between the pictures' P(success), so that both verdicts occur."""
    from node_pictures import pictures
    import numpy as np

    probabilities = np.sort(classifier.predict(pictures()).astype(float))
    gap = np.diff(probabilities).argmax()
    return float(probabilities[gap:gap + 2].mean())


@pytest.fixture(scope='session')
def settings(random_checkpoint, threshold):
    """Return parameters of a node that judges each frame for itself."""
    return {'checkpoint': random_checkpoint, 'threshold': threshold, 'device': 'cpu',
            'hysteresis': '0.0', 'undecided': '0.0', 'window_s': '0.0', 'min_frames': 1,
            'stale_after_s': 1., 'max_bad_frames': 3,
            # The same few pictures are shown again and again.
            'frozen_after_s': '0.0'}


@pytest.fixture(scope='module')
def ears():
    """Return a node of the test process that stores all messages it receives."""
    from ros_processes import Ears

    listening = Ears()
    yield listening
    listening.close()


@pytest.fixture
def unwritable_folders():
    """Return paths below which not even root can create a file: a file and two folders."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        unreachable, read_only = folder / 'unreachable', folder / 'read_only'
        unreachable.mkdir(mode=0o700)
        (folder / 'file').touch()
        read_only.mkdir(mode=0o755)
        user = os.geteuid()
        if user == 0:   # may read and write everything: be another user meanwhile
            os.seteuid(65534)
        else:
            unreachable.chmod(0)
            read_only.chmod(0o555)
        yield folder / 'file', unreachable, read_only
        os.seteuid(user)
        unreachable.chmod(0o700)
        read_only.chmod(0o700)
