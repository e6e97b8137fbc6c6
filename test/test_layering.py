"""Imports point one way, the core needs no ROS, and torchvision can be imported everywhere."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / 'grasp_success_detector'


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return '.'.join(part for part in parts if part != '__init__')


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}

# Every room (a folder, or a module at the top), lowest first: it may import itself and what stands
# before it. No two rooms share a place, so that none can lean on each other.
ORDER = [
    '__init__', 'errors', 'labels', 'settings', 'files', 'decision', 'console', 'images',
    'networks', 'inference', 'hand', 'recordings', 'datasets', 'evaluation', 'training', 'export',
    'simulation', 'reports', 'labelling', 'ros', 'ros.node', 'ros.tools', 'cli',
]
PLACE = {room: number for number, room in enumerate(ORDER)}

# What runs on the robot needs nothing of these.
OFFLINE = {'datasets', 'evaluation', 'training', 'export', 'simulation', 'reports', 'labelling'}

# Commands that start a node.
ROS_COMMANDS = {f'grasp_success_detector.cli.{name}' for name in (
    'detector_node', 'evaluate_replay', 'fusion_node', 'grasp_demo', 'play_bag')}


def room(module):
    """Return the room of a module, such as ``'ros.node'`` or ``'errors'``."""
    parts = module.split('.')[1:]
    name = '.'.join(parts[:2]) if parts[:1] == ['ros'] else '.'.join(parts[:1])
    return name if name in PLACE else parts[0] if parts else '__init__'


def is_ros(name):
    root = name.partition('.')[0]
    return root in ('rclpy', 'cv_bridge', 'launch', 'launch_ros', 'ament_index_python',
                    'rosidl_runtime_py') or root.endswith(('_msgs', '_srvs'))


def imports(path, package):
    """Return the absolute names of all imports of a file, those within functions as well."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = package.split('.')[:len(package.split('.')) - node.level + 1]
                base = '.'.join([*parents, *filter(None, [base])])
            names.add(base)
            # `from package import room` names a room
            names |= {f'{base}.{alias.name}' for alias in node.names} & MODULES.keys()
    return names


IMPORTS = {
    module: imports(path, module if path.stem == '__init__' else module.rpartition('.')[0])
    for module, path in MODULES.items()}


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, '-c', program, *arguments], capture_output=True, text=True, timeout=120)


def own_imports():
    for module, names in IMPORTS.items():
        for name in names:
            if name.startswith('grasp_success_detector.'):
                yield module, name


def test_every_room_has_a_place():
    homeless = {room(module) for module in MODULES} - PLACE.keys()
    assert not homeless, f'say in ORDER from where to where these may import: {homeless}'


def test_at_most_six_modules_stand_outside_a_room():
    loose = [path for path in PACKAGE.glob('*.py') if path.stem != '__init__']
    assert len(loose) <= 6


def test_imports_point_one_way():
    wrong = sorted(f'{module} imports {name}' for module, name in own_imports()
                   if PLACE[room(name)] > PLACE[room(module)])
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    left = {module: {name for name in names if name in MODULES} - {module}
            for module, names in IMPORTS.items()}
    while ready := {module for module, names in left.items() if not names & left.keys()}:
        left = {module: names for module, names in left.items() if module not in ready}
    assert not left


def test_the_node_imports_no_offline_room():
    wrong = sorted(f'{module} imports {name}' for module, name in own_imports()
                   if room(module) in ('ros', 'ros.node') and room(name) in OFFLINE)
    assert not wrong


def test_only_ros_and_the_commands_that_start_it_import_ros():
    found = {module for module, names in IMPORTS.items() if any(map(is_ros, names))}
    assert {module for module in found if not room(module).startswith('ros')} <= ROS_COMMANDS
    assert found, 'nothing imports rclpy: the check itself is broken'


BLOCK_ROS = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        root = name.partition('.')[0]
        if root in ('rclpy', 'cv_bridge') or root.endswith(('_msgs', '_srvs')):
            raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Block())
for name in sys.argv[1:]:
    if name in ('rclpy', 'sensor_msgs.msg'):  # proof that the block blocks
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        sys.exit(f'{name} could be imported')
    importlib.import_module(name)
"""


@pytest.mark.slow
def test_all_but_ros_works_without_ros():
    core = [module for module in MODULES
            if not room(module).startswith('ros') and module not in ROS_COMMANDS]
    done = run(BLOCK_ROS, 'rclpy', 'sensor_msgs.msg', *core)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(('module', 'heavy'), [
    ('', {'torch', 'rclpy', 'numpy', 'cv2'}),
    ('.labelling.server', {'torch', 'rclpy'}), ('.ros.node.lifecycle_node', {'torch'}),
    ('.ros.node.launch_arguments', {'torch', 'rosbags', 'rclpy'})])
def test_what_a_part_does_not_load(module, heavy):
    if 'ros' in module:
        pytest.importorskip('rclpy')
    if 'labelling' in module:
        pytest.importorskip('starlette')
    done = run(f'import sys, grasp_success_detector{module}\n'
               'print(*sorted({name.partition(".")[0] for name in sys.modules}))')
    loaded = set(done.stdout.split())
    assert 'grasp_success_detector' in loaded, done.stderr
    assert loaded.isdisjoint(heavy)


# torchvision beside a torch that it was not linked with

@pytest.mark.slow
def test_torchvision_can_be_imported_in_this_environment():
    done = run("""
from grasp_success_detector.networks.torchvision_ops import declare_missing_operators
assert declare_missing_operators() == ()  # the import has done it, a second time is harmless
import torchvision
import timm
assert declare_missing_operators() == ()
""")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_operators_that_exist_are_left_alone():
    """Working operators that are registered already go on working."""
    done = run("""
import torch
library = torch.library.Library('torchvision', 'DEF')
for name in ('nms', 'qnms'):
    library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
library.impl('nms', lambda dets, scores, iou_threshold: scores + iou_threshold, 'CPU')
from grasp_success_detector.networks.torchvision_ops import declare_missing_operators
assert declare_missing_operators() == ()
import torchvision
one = torch.ones(1)
assert torch.ops.torchvision.nms(one, one, 2.).item() == 3.
assert torchvision.ops.nms is not None
""")
    assert done.returncode == 0, done.stderr
