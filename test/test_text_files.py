"""Text files are UTF-8 in any locale: every call that opens one names the encoding."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ('grasp_success_detector', 'benchmarks', 'examples', 'launch')
                 for path in (ROOT / folder).rglob('*.py'))


def leaves_the_encoding_open(call: ast.Call) -> bool:
    """Return whether a call reads or writes text in the encoding of the locale."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if 'encoding' in keywords:
        return False
    if name in ('read_text', 'write_text'):
        return True
    if not (isinstance(call.func, ast.Name) and name == 'open'):
        return False
    mode = keywords.get('mode', call.args[1] if len(call.args) > 1 else ast.Constant('r'))
    return isinstance(mode, ast.Constant) and 'b' not in str(mode.value)


@pytest.mark.parametrize('line, expected', [
    ('path.read_text()', True), ('path.read_text(encoding="utf-8")', False),
    ('path.write_text("x")', True), ('open(path)', True), ('open(path, "w")', True),
    ('open(path, "rb")', False), ('open(path, mode="wb")', False),
    ('open(path, encoding="utf-8")', False), ('Checkpoint.open(path)', False)])
def test_the_check_itself(line, expected):
    assert leaves_the_encoding_open(ast.parse(line, mode='eval').body) is expected


def test_all_text_has_an_encoding():
    wrong = [f'{path.relative_to(ROOT)}:{node.lineno}' for path in SOURCES
             for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
             if isinstance(node, ast.Call) and leaves_the_encoding_open(node)]
    assert not wrong
