"""What package.xml asks for can be released: packages of ROS and of Ubuntu, nothing of pip."""

from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
PACKAGE = ElementTree.parse(ROOT / 'package.xml').getroot()

# The keys of rosdep (base.yaml, python.yaml) that have a rule for Ubuntu and for Debian.
SYSTEM_KEYS = {
    'python3-hypothesis', 'python3-matplotlib', 'python3-numpy', 'python3-opencv',
    'python3-packaging', 'python3-pytest', 'python3-scipy', 'python3-sklearn', 'python3-yaml'}


def keys(tag: str) -> set[str]:
    return {entry.text or '' for entry in PACKAGE.findall(tag)}


def all_keys() -> set[str]:
    return {entry.text or '' for entry in PACKAGE if entry.tag.endswith('depend')}


def test_no_key_is_of_pip():
    """The build farm of ROS accepts none."""
    assert not {key for key in all_keys() if key.endswith('-pip')}


def test_every_system_key_is_known_to_rosdep():
    assert {key for key in all_keys() if key.startswith('python')} == SYSTEM_KEYS


def test_a_node_needs_three_packages_of_the_distribution():
    assert {key for key in keys('exec_depend') if key.startswith('python')} == {
        'python3-numpy', 'python3-opencv', 'python3-yaml'}


def test_it_is_a_package_of_format_3_that_bloom_takes():
    assert PACKAGE.get('format') == '3'
    assert PACKAGE.findtext('export/build_type') == 'ament_python'
    for tag in ('name', 'version', 'description', 'maintainer', 'license'):
        assert (PACKAGE.findtext(tag) or '').strip(), tag
    assert PACKAGE.find('maintainer').get('email')
