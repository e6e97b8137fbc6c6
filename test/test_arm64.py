"""
The runtime on an ARM64 processor, emulated by QEMU: the verdicts must be those of x86-64.

``make test-arm64`` makes both places, of the same packages of Debian or Ubuntu, by
``test/arm64_env.sh`` and ``test/bare_env.sh``, and names their Pythons here.
"""

import json
import os
from pathlib import Path
import subprocess

import pytest

from grasp_success_detector.files import SAMPLE_BAG, share_path
from grasp_success_detector.recordings.bags import image_topic, open_bag

HERE = Path(__file__).parent
ARM64_PYTHON, BARE_PYTHON = (os.environ.get(name, '') for name in ('ARM64_PYTHON', 'BARE_PYTHON'))
pytestmark = pytest.mark.skipif(not (ARM64_PYTHON and BARE_PYTHON), reason='make test-arm64 does')

#: Frames of an attempt of the sample, and how many at its end the default network is run on:
#: each takes seconds.
ATTEMPT, AT_ITS_END = 60, 5


@pytest.fixture(scope='module')
def jpegs():
    """Return the frames of the sample recording by stamp, ns."""
    with open_bag(share_path(SAMPLE_BAG)) as reader:
        topic = image_topic(reader)
        connections = [c for c in reader.connections if c.topic == topic]
        return {stamp: bytes(reader.deserialize(data, c.msgtype).data)
                for c, stamp, data in reader.messages(connections)}


@pytest.mark.parametrize('checkpoint, count', [
    ('cifar_cnn_rig', ATTEMPT), ('efficientnet_lite0_rig', AT_ITS_END)])
def test_verdicts_are_those_of_x86_64(checkpoint, count, jpegs, tmp_path):
    for i, (stamp, jpeg) in enumerate(jpegs.items()):
        if i % ATTEMPT >= ATTEMPT - count:
            (tmp_path / f'{stamp}.jpg').write_bytes(jpeg)
    arm, bare = (json.loads(subprocess.run(
        [python, str(HERE / 'frame_verdicts.py'), checkpoint, str(tmp_path)], check=True,
        stdout=subprocess.PIPE, env=os.environ | {'PYTHONPATH': str(HERE.parent)}).stdout)
        for python in (ARM64_PYTHON, BARE_PYTHON))
    assert (arm['machine'], bare['machine']) == ('aarch64', 'x86_64')
    assert arm['opencv'] == bare['opencv']
    verdicts = [frame['verdict'] for frame in arm['frames']]
    assert verdicts == [frame['verdict'] for frame in bare['frames']]
    assert {'SUCCESS', 'FAILURE'} <= set(verdicts)
    differences = [abs(ours['probability'] - theirs['probability'])
                   for ours, theirs in zip(arm['frames'], bare['frames'], strict=True)]
    pixels = sum(ours['pixels'] == theirs['pixels']
                 for ours, theirs in zip(arm['frames'], bare['frames'], strict=True))
    print(f'{checkpoint}, OpenCV {arm["opencv"]}: {len(verdicts)} frames, the same verdict on '
          f'each; pixels equal on {pixels}; largest difference of P(success) '
          f'{max(differences):.2g}')
    assert max(differences) < .01
