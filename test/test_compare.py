"""compare_classifiers: the same attempts, McNemar's test, latency, the page."""

from itertools import product
from pathlib import Path
import re
import shutil

from frames import colour_frames, split_frames, write_dataset
import pytest
from report_page import Page

from grasp_success_detector.cli.compare_classifiers import main, read_contestants
from grasp_success_detector.datasets.dataset import read_extracted
from grasp_success_detector.errors import RunError
from grasp_success_detector.evaluation.comparison import compare, mcnemar_exact
from grasp_success_detector.evaluation.predictions import read_predictions, write_predictions
from grasp_success_detector.labels import Label
from grasp_success_detector.training.fit import fit
from grasp_success_detector.training.recipe import TrainingConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train twice on the same data set."""
    folder = tmp_path_factory.mktemp('trained')
    dataset = write_dataset(folder / 'set', split_frames(colour_frames(32)))
    for name, frozen in (('whole', 0), ('head', 2)):
        fit(TrainingConfig(architecture='cifar_cnn', pretrained=False, epochs=1, batch_size=8,
                           freeze_conv_layers=frozen), read_extracted(dataset), folder / name,
            [dataset], say=lambda line: None)
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """Return copies: the first all right, the second wrong on the first three test attempts."""
    for name, wrong in (('whole', 0), ('head', 3)):
        shutil.copytree(trained / name, tmp_path / name)
        change(tmp_path / name, wrong)
    return tmp_path / 'whole', tmp_path / 'head'


def change(run, wrong, keep=lambda row: True):
    """Write predictions that are right except for ``wrong`` test attempts."""
    rows = [row for row in read_predictions(run / 'predictions.csv') if keep(row)]
    bad = sorted({row.attempt for row in rows if row.split == 'test'})[:wrong]
    write_predictions(run / 'predictions.csv', [
        row._replace(probability=.999 if (row.label is Label.SUCCESS) != (row.attempt in bad)
                     else .0001) for row in rows])


def in_words(capsys):
    return capsys.readouterr().out


@pytest.mark.parametrize('first, second', [
    (0, 0), (1, 0), (0, 5), (5, 5), (8, 1), (3, 12), (40, 61), (3000, 2800)])
def test_mcnemar_is_scipys_binomial_test(first, second):
    stats = pytest.importorskip('scipy.stats')
    n = first + second
    expected = stats.binomtest(first, n, .5).pvalue if n else 1.
    assert mcnemar_exact(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('first, second', list(product(range(6), repeat=2)))
def test_mcnemar_is_the_count_of_all_outcomes(first, second):
    """The p-value is the share of outcomes that are at least as uneven as the given one."""
    n = first + second
    uneven = [abs(2 * sum(way) - n) >= abs(first - second) for way in product((0, 1), repeat=n)]
    assert mcnemar_exact(first, second) == pytest.approx(sum(uneven) / 2 ** n)


def test_counts_of_agreement(runs):
    found = compare(read_contestants(runs))
    attempt, = found.by_attempt
    assert (attempt.first, attempt.second) == ('whole', 'head')
    assert (attempt.both, attempt.only_first, attempt.only_second, attempt.neither) == (5, 3, 0, 0)
    assert attempt.p_value == pytest.approx(.25)
    frame, = found.by_frame
    assert (frame.both, frame.only_first, frame.only_second, frame.neither) == (15, 9, 0, 0)


def test_command_prints_the_table_and_writes_the_page(runs, tmp_path, capsys):
    page_path = tmp_path / 'comparison.html'
    assert main([*map(str, runs), '--out', str(page_path), '--device', 'cpu',
                 '--threads', '1']) == 0
    printed = in_words(capsys)
    for line in (
            r' +whole +head', r'architecture +cifar_cnn +cifar_cnn',
            r'test attempts right( +[\d.]+ %){2}', r'test frames right( +[\d.]+ %){2}',
            r'( +[\d.]+ % to [\d.]+ % \(\d+/8\)){2}', r'ROC-AUC( +\d\.\d{4}){2}',
            r'expected calibration error( +\d\.\d{4}){2}', r'parameters( +61,326){2}',
            r'( +[\d,]+ trained){2}', r'checkpoint( +0\.3 MB){2}',
            r'latency of one frame( +[\d.]+ ms){2}',
            r'latency: median of 50 frames of 40 x 40 pixels after warm-up, .*, cpu, 1 thread',
            r"attempts: only whole right 3, only head right 0, both 5, neither 0; McNemar's "
            r'exact p = 0\.2500',
            r"frames: only whole right 9, .*; McNemar's exact p = 0\.0039",
            r'\(frames of one attempt are not independent, .*\)', r'report: .*comparison\.html'):
        assert re.search(f'^{line}$', printed, re.MULTILINE), line
    page = Page(page_path.read_text())
    assert page.needs_nothing_else and len(page.loads) == 3
    assert page.headings == ['Is one better?', 'Side by side', 'Trade-off and calibration',
                             'Where they disagree', 'Data']
    assert 'On 3 attempts some are right and others wrong' in page.text
    assert '0.2500' in page.text and 'frames of one attempt are not independent' in page.text
    assert page.text.count('right: whole') == 3
    # What is there already stays.
    before = page_path.read_bytes()
    assert main([*map(str, runs), '--out', str(page_path)]) == 1
    assert 'comparison.html: exists already; choose another name' in capsys.readouterr().err
    assert page_path.read_bytes() == before


def test_several_pairs_are_reported_as_uncorrected(runs, tmp_path, capsys):
    third = tmp_path / 'other/head'
    shutil.copytree(runs[1], third)
    page = tmp_path / 'three.html'
    assert main([*map(str, (*runs, third)), '--out', str(page)]) == 0
    printed = in_words(capsys)
    assert printed.count('attempts: only') == 3 and str(third) in printed
    text = Page(page.read_text()).text
    assert 'Comparison of 3 classifiers' in text
    assert 'not corrected for the number of pairs' in text


def test_pictures_that_are_gone_cost_only_themselves(runs, trained, tmp_path, capsys):
    (trained / 'set').rename(trained / 'moved')
    try:
        page = tmp_path / 'page.html'
        assert main([*map(str, runs), '--out', str(page)]) == 0
    finally:
        (trained / 'moved').rename(trained / 'set')
    assert 'of 640 x 480 pixels' in in_words(capsys)
    assert not Page(page.read_text()).loads


@pytest.mark.parametrize('keep, error', [
    (lambda row: row.attempt != 'made/12',
     'whole and head were tested on different attempts: 1 only in whole, 0 only in head, such as '
     'made/12; train both on the same data set, or with the same --test'),
    (lambda row: row.attempt != 'made/13' or row.stamp_ns,
     'the same attempts, but 1 frames of 1 of them differ or are labelled differently, such as '
     'of made/13'),
])
def test_different_tests_are_one_line(runs, keep, error):
    change(runs[1], 0, keep)
    with pytest.raises(RunError, match=error):
        compare(read_contestants(runs))


def test_another_label_is_another_test(runs):
    rows = read_predictions(runs[1] / 'predictions.csv')
    write_predictions(runs[1] / 'predictions.csv', [
        row._replace(label=Label(1 - row.label)) if row.attempt == 'made/14' else row
        for row in rows])
    with pytest.raises(RunError, match='3 frames of 1 of them differ or are labelled differently'):
        compare(read_contestants(runs))


def test_runs_that_cannot_be_compared_are_one_line(runs, tmp_path, capsys):
    whole, head = map(str, runs)

    def error(*arguments):
        assert main([*arguments]) == 1
        captured = capsys.readouterr()
        assert not captured.out and captured.err.count('\n') == 1
        return captured.err

    assert '1 run folder to compare; expected two or more' in error(whole)
    assert 'whole: given more than once; expected different runs' in error(whole, head, whole)
    assert f'{tmp_path}: no run of train_classifier (run.json is missing)' in error(
        whole, str(tmp_path))
    assert 'nowhere: no such folder' in error(whole, str(tmp_path / 'nowhere'))
    assert "unknown device 'gpu9'" in error(whole, head, '--device', 'gpu9')
    for out in (tmp_path / 'no/page.html', runs[0] / 'run.json/page.html',
                Path('/proc/page.html')):
        assert f'{out}: cannot be written (' in error(whole, head, '--out', str(out))
    (runs[1] / 'run.json').unlink()
    assert 'head: this training is not finished' in error(whole, head)
    for run in runs:
        change(run, 0, lambda row: row.split == 'val')
    with pytest.raises(RunError, match='has no test attempts to compare on'):
        (runs[1] / 'run.json').write_text((runs[0] / 'run.json').read_text())
        compare(read_contestants(runs))
