"""
What pyproject.toml cannot say: the facts of package.xml, and the files outside the package.

pip and colcon both run this file in the folder that it lies in, so paths are relative.
"""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import Distribution, find_packages, setup

PACKAGE = ElementTree.parse('package.xml').getroot()
NAME = PACKAGE.findtext('name')
MAINTAINER = PACKAGE.find('maintainer')
SHARE = f'share/{NAME}'

# Each command is a console script in bin/ (pyproject.toml) and an executable in lib/<package>,
# where `ros2 run` and `ros2 launch` look.
COMMANDS = sorted(path.name for path in Path('libexec').iterdir() if path.is_file())


class PackageDistribution(Distribution):
    """A distribution that pip's editable install and colcon both understand."""

    def has_data(self):
        """Return whether there are data files: the editable install asks under this name."""
        return self.has_data_files()

    def parse_config_files(self, *arguments, **options):
        """Read pyproject.toml, and keep ``requires-python`` as text: colcon evaluates literals."""
        super().parse_config_files(*arguments, **options)
        if getattr(self, 'python_requires', None):
            self.python_requires = self.metadata.python_requires = str(self.python_requires)


def tree(folder, destination, patterns):
    """Return data_files entries that keep the folder's structure."""
    files = {}
    for pattern in patterns:
        for path in sorted(Path(folder).rglob(pattern)):
            if path.is_file():
                files.setdefault(str(Path(destination) / path.parent), set()).add(str(path))
    return [(target, sorted(names)) for target, names in sorted(files.items())]


def package_data():
    """Return the files inside the package that are not Python modules."""
    return [
        str(path.relative_to(NAME)) for path in sorted(Path(NAME).rglob('*'))
        if path.is_file() and path.suffix not in ('.py', '.pyc')]


setup(
    distclass=PackageDistribution,
    name=NAME,
    version=PACKAGE.findtext('version'),
    description=' '.join(PACKAGE.findtext('description').split()),
    maintainer=MAINTAINER.text,
    maintainer_email=MAINTAINER.get('email'),
    license=PACKAGE.findtext('license'),
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: package_data()},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (SHARE, ['package.xml']),
        *tree('launch', SHARE, ['*.launch.py']),
        *tree('config', SHARE, ['*.yaml']),
        *tree('models', SHARE, ['*.safetensors', '*.json', '*.md']),
        *tree('samples', SHARE, ['*']),
        *tree('examples', SHARE, ['*.py', '*.yaml', '*.json']),
        (f'lib/{NAME}', [f'libexec/{command}' for command in COMMANDS]),
    ],
    zip_safe=False,
    # As in pyproject.toml, which the setuptools of Ubuntu 22.04 cannot read, and which colcon does
    # not link into the folder that it builds in with --symlink-install.
    entry_points={'console_scripts': [
        f'{command} = {NAME}.cli.{command}:main' for command in COMMANDS]},
)
