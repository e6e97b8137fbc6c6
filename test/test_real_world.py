"""The benchmark on photographs: labels, crops, verdicts by attempt, the area within a rig."""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import re
import sys

import cv2
import numpy as np
import pytest

from grasp_success_detector.decision import Reason
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.evaluation.single_pictures import decide_together
from grasp_success_detector.labels import Label, Verdict


@pytest.fixture(scope='module')
def benchmark():
    pytest.importorskip('torch')
    path = Path(__file__).parent.parent / 'benchmarks' / 'real_world.py'
    spec = spec_from_file_location('real_world', path)
    module = sys.modules['real_world'] = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules['real_world']


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    lines = ['file,label,rig,lifted,attempt,hand_bbox']
    for i, (label, rig, lifted) in enumerate([
            ('success', 'one', 1), ('failure', 'one', 1), ('success', 'two', 0),
            ('failure', 'two', 1), ('ambiguous', 'two', 1)]):
        cv2.imwrite(str(tmp_path / f'{i}.png'), rng.integers(0, 255, (60, 80, 3), np.uint8))
        lines.append(f'{i}.png,{label},{rig},{lifted},{i},"10,20,50,60"')
    (tmp_path / 'labels.csv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return tmp_path


def test_tables_and_page_show_every_labelled_picture(benchmark, folder, random_checkpoint, capsys):
    page = folder / 'page.html'
    assert benchmark.main([str(folder), '--checkpoint', str(random_checkpoint), '--crop', '1.5',
                           '--out', str(page)]) == 0
    out = capsys.readouterr().out
    assert re.search(r'\| one \| 2 \(1\) \|', out)
    assert re.search(r'\| all rigs \| 4 \(2\) \|', out)
    assert 'crops of 1.5 times hand_bbox' in out
    assert 'ROC-AUC within a rig:' in out
    text = page.read_text(encoding='utf-8')
    assert text.count('<figure>') == 4
    assert '4.png' not in text


def test_lifted_leaves_out_what_is_not_lifted(benchmark, folder, random_checkpoint, capsys):
    assert benchmark.main([str(folder), '--checkpoint', str(random_checkpoint), '--lifted']) == 0
    assert '| all rigs | 3 (1) |' in capsys.readouterr().out


def test_a_file_with_two_columns_is_enough(benchmark, folder):
    (folder / 'labels.csv').write_text('file,label\n0.png,failure\n', encoding='utf-8')
    picture, = benchmark.read_labels(folder)
    assert picture == benchmark.Picture('0.png', Label.FAILURE, folder.name, True, '0.png', None)


@pytest.mark.parametrize(('text', 'error'), [
    ('file\n0.png\n', 'line 2 has no label; expected the columns file,label'),
    ('file,label,hand_bbox\n0.png,success,"5,5,5,9"\n', "line 2: hand_bbox '5,5,5,9'"),
    ('file,label,hand_bbox\n0.png,success,"a,b"\n', r'expected x0,y0,x1,y1 in pixels'),
    ('file,label\n0.png,ambiguous\n', 'no picture is labelled failure or success'),
])
def test_wrong_labels_are_one_line(benchmark, folder, capsys, text, error):
    (folder / 'labels.csv').write_text(text, encoding='utf-8')
    with pytest.raises(DatasetError, match=error):
        benchmark.read_labels(folder)
    assert benchmark.main([str(folder)]) == 1
    assert capsys.readouterr().err.count('\n') == 1


def test_a_folder_without_labels_is_one_line(benchmark, tmp_path, capsys):
    assert benchmark.main([str(tmp_path)]) == 1
    assert 'labels.csv: cannot be read' in capsys.readouterr().err


def test_attempts_are_decided_by_the_mean_of_their_pictures(benchmark):
    assert decide_together(.5, [.9]) is Verdict.SUCCESS
    assert decide_together(.5, [.9, .2]) is Verdict.SUCCESS
    assert decide_together(.5, [.1, .2]) is Verdict.FAILURE
    assert decide_together(.5, [.45]) is Verdict.UNKNOWN     # close below the threshold
    assert decide_together(.5, [.9] * 5 + [.0] * 95) is Verdict.FAILURE


def test_the_area_within_a_rig_ignores_offsets_between_rigs(benchmark):
    picture = benchmark.Picture('0.png', Label.SUCCESS, 'one', True, '0', None)
    judged = [benchmark.Judged(replace(picture, rig=rig, label=label), p, Reason.DECIDED,
                               Verdict.UNKNOWN)
              for rig, label, p in (('one', Label.SUCCESS, .3), ('one', Label.FAILURE, .2),
                                    ('two', Label.SUCCESS, .9), ('two', Label.FAILURE, .8),
                                    ('three', Label.SUCCESS, .1))]
    assert benchmark.auc_within_rigs(judged) == 1.
    assert benchmark.pooled_auc(judged) == .5
    assert benchmark.auc_within_rigs(judged[-1:]) is None
