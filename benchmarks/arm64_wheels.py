"""
Say for which Pythons the registry has wheels of the runtime's packages for ARM64, as pinned.

`test/arm64_env.sh` does as much for the packages of apt, by installing them.

    python benchmarks/arm64_wheels.py
    python benchmarks/arm64_wheels.py numpy timm --pythons 3.12
"""

import argparse
from pathlib import Path
import subprocess
import sys
import tempfile

from contestants import table_head, table_row
from packaging.requirements import Requirement

CONSTRAINTS = Path(__file__).parent.parent / 'constraints.txt'

#: What runs a node, the other engines, recordings, and ROS 2 itself.
PACKAGES = ('numpy', 'opencv-python-headless', 'pyyaml', 'openvino', 'torch', 'rosbags', 'lz4',
            'ros-kilted-rclpy', 'ros-jazzy-rclpy')
PYTHONS = ('3.10', '3.11', '3.12', '3.13')
PLATFORMS = tuple(f'manylinux_2_{minor}_aarch64' for minor in (17, 26, 28, 34, 35, 39)) + (
    'manylinux2014_aarch64',)


def pinned(package: str, python: str) -> str:
    """Return a package with the version that the constraints have for a Python."""
    for line in CONSTRAINTS.read_text(encoding='utf-8').splitlines():
        pin = Requirement(line) if line and not line.startswith('#') else None
        if pin and pin.name == package and (pin.marker is None or pin.marker.evaluate(
                {'python_full_version': f'{python}.0', 'python_version': python,
                 'platform_machine': 'aarch64'})):
            return f'{package}{pin.specifier}'
    raise SystemExit(f'{package}: not in {CONSTRAINTS}')


def available(package: str, python: str) -> bool:
    """Ask pip, which downloads nothing where the registry tells a wheel's needs beside it."""
    # ROS' packages are empty ones that need the real ones; torch needs much that is not asked for.
    alone = [] if package.startswith('ros-') else ['--no-deps']
    with tempfile.TemporaryDirectory() as target:
        return not subprocess.run(
            [sys.executable, '-m', 'pip', 'install', '--quiet', '--dry-run', *alone, '--target',
             target, '--only-binary', ':all:', '--python-version', python,
             *(f'--platform={platform}' for platform in PLATFORMS), pinned(package, python)],
            capture_output=True).returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('packages', nargs='*', default=PACKAGES)
    parser.add_argument('--pythons', nargs='+', default=PYTHONS)
    args = parser.parse_args()
    table_head('package', *args.pythons)
    for package in args.packages:
        table_row(package, *('yes' if available(package, python) else 'no'
                             for python in args.pythons))


if __name__ == '__main__':
    main()
