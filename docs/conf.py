"""The documentation as a site: `make docs`; rosdoc2 takes this file too."""

from importlib.util import find_spec
from pathlib import Path
import sys
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PACKAGE = ElementTree.parse(ROOT / 'package.xml').getroot()
REPOSITORY = PACKAGE.findtext("url[@type='repository']")
SOURCE = f'{REPOSITORY}/blob/main'

project = PACKAGE.findtext('name')
author = PACKAGE.findtext('maintainer')
release = PACKAGE.findtext('version')
copyright = f'{author}, Apache-2.0'  # noqa: A001 (Sphinx asks for this name)

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.autosummary']
exclude_patterns = ['_build']
templates_path = ['_templates']
html_theme = 'furo'
html_title = f'{project} {release}'

myst_heading_anchors = 3
autodoc_default_options = {'members': True, 'show-inheritance': True, 'undoc-members': True}
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
# Where the reference is built without ROS or the extras, their modules are stood in for.
autodoc_mock_imports = [name for name in (
    'diagnostic_msgs', 'lifecycle_msgs', 'lightning', 'mujoco', 'rcl_interfaces', 'rclpy',
    'rosgraph_msgs', 'sensor_msgs', 'std_msgs', 'std_srvs',
) if find_spec(name) is None]

# Pages of the site that lie elsewhere in the repository.
ELSEWHERE = {
    '../CHANGELOG.rst': 'changelog.rst', '../CONTRIBUTING.md': 'contributing.md',
    '../DESIGN.md': 'design.md', '../models/README.md': 'model_card.md',
}


def link_to_the_repository(app, page, source):
    """Turn links that lead out of docs/ into links to other pages or to the repository."""
    for path, target in ELSEWHERE.items():
        source[0] = source[0].replace(f']({path}', f']({target}')
    source[0] = source[0].replace('](../', f']({SOURCE}/')


def link_from_elsewhere(app, path, page, source):
    """Turn the links of an included page, which are relative to its own folder."""
    for target, name in ELSEWHERE.items():
        source[0] = source[0].replace(f']({target[3:]}', f']({name}')
    source[0] = source[0].replace('](../docs/', '](').replace('](docs/', '](')
    link_to_the_repository(app, page, source)


def setup(app):
    app.connect('source-read', link_to_the_repository)
    app.connect('include-read', link_from_elsewhere)
