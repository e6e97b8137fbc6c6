"""Damaged inputs for every parser: only the package's own errors, no hang, no growth of memory."""

from pathlib import Path
import subprocess
import sys

from fuzz.edits import apply, Edit, Kind
from fuzz.loop import check, resident
from fuzz.targets import targets
from hypothesis import given, HealthCheck, settings, strategies as st
import pytest

TARGETS = {target.name: target for target in targets()}
PLACE = st.integers(0, (1 << 16) - 1)
EDITS = st.lists(st.builds(Edit, st.sampled_from(Kind), PLACE, PLACE, st.integers(1, 400)),
                 min_size=1, max_size=8)


def target_of(name):
    """Return a target; skip where it needs an extra that is not installed."""
    if name in ('recipe', 'request'):
        pytest.importorskip({'recipe': 'torch', 'request': 'jinja2'}[name])
    return TARGETS[name]


@pytest.mark.parametrize('name', TARGETS)
def test_damaged_inputs_are_refused_or_read(name):
    target = target_of(name)
    contents = [path.read_bytes() for path in target.seeds]
    for data in contents:
        target.run(data)
    before = resident()

    @settings(max_examples=500 if target.images else 120, deadline=None, database=None,
              derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(contents), EDITS)
    def run(data, edits):
        assert check(target, apply(data, edits)) == ''

    run()
    assert resident() - before < 128 << 20


@pytest.mark.parametrize('name', ['picture', 'mcap', 'db3', 'bag', 'mcap.zstd', 'db3.zstd',
                                  'image_message', 'labels', 'picture_labels', 'hand', 'recipe',
                                  'metadata', 'checkpoint'])
def test_the_good_files_of_the_corpus_are_read(name):
    target = target_of(name)
    for path in target.seeds:
        assert target.run(path.read_bytes()) is not None, path


def test_an_input_that_fails_is_found_and_kept():
    def fails(data):
        raise RuntimeError('not of this package')

    broken = type(TARGETS['labels'])('broken', fails, ())
    assert 'RuntimeError: not of this package' in check(broken, b'')


@pytest.mark.slow
def test_a_short_run_prints_its_seed_and_counts(tmp_path):
    test = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, '-m', 'fuzz', '--minutes', '0.01', '--jobs', '1', '--seed', '7',
         '--target', 'labels', '--failures', str(tmp_path)], capture_output=True, text=True,
        cwd=test, timeout=120, env={'PYTHONPATH': f'{test.parent}:{test}', 'PATH': '/usr/bin'})
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'seed 7: 0.01 minutes in 1 processes; --seed 7 repeats the inputs' in done.stdout
    assert '0 images' in done.stdout
