"""Labels on the disk: journal, undo, continuation, and what goes wrong with files."""

from itertools import islice
import json
import os
import random
import resource
import signal
import subprocess
import sys

import pytest
from recordings import jpeg_messages, PERIOD_NS, START_NS, write_folder

from grasp_success_detector.errors import LabellingError
from grasp_success_detector.labelling.cutting import Cuts
from grasp_success_detector.labelling.journal import Journal
from grasp_success_detector.labelling.label_files import IntervalsFile, names_in_file
from grasp_success_detector.labelling.marks import Mark, SourceMarks, Span
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.labelling.session import keys_of
from grasp_success_detector.labelling.store import LabelStore, NoRoomError
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings.ground_truth import read_intervals
from grasp_success_detector.recordings.labels_file import read_labels
from grasp_success_detector.recordings.selection import FrameSelection, plan_source
from grasp_success_detector.recordings.sources import find_sources

CUTS = Cuts((0, 4, 8), how='test')


def labels_of(source, path):
    return read_labels([source], path)[source.name]


@pytest.fixture
def bag(tmp_path):
    return write_folder(tmp_path / 'take', jpeg_messages(12))


class Opened:
    """A store of one recording, opened as the command opens it."""

    def __init__(self, out, *paths, cuts=CUTS):
        self.sources = find_sources(paths)
        self.materials = keys_of([open_recording(s, None, out.parent) for s in self.sources])
        names = dict(zip(self.materials, names_in_file(self.sources), strict=True))
        self.journal = Journal(out)
        try:
            self.store = LabelStore(out, self.journal, IntervalsFile(out, self.materials, names))
            self.how = [self.store.add_source(key, len(m.frames), m.fingerprint, lambda: cuts)
                        for key, m in self.materials.items()]
        except BaseException:
            self.journal.close()
            raise
        self.key = next(iter(self.materials))
        self.marks = self.store.sources[self.key]

    def label(self, frame, mark):
        span = self.marks.span_at(frame)
        self.store.act(self.key, lambda marks: marks.label_from(span, frame, Mark(mark)))

    def text(self):
        return ''.join(self.marks.marks)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.journal.close()


def marks_of(text, *starts):
    return SourceMarks(list(text), [0, *starts])


# Labels and cuts

@pytest.mark.parametrize(('before', 'frame', 'key', 'after'), [
    ('....', 0, 's', 'ssss'),
    ('....', 2, 's', 'ffss'),   # the hand is still on its way
    ('....', 2, 'f', 'ffff'),
    ('....', 2, 'u', 'uuuu'),
    ('ffss', 3, 'f', 'ffsf'),   # lost again
    ('ffss', 1, 's', 'fsss'),
    ('uuss', 3, 'u', 'uusu'),
])
def test_a_key_labels_to_the_end_of_the_attempt(before, frame, key, after):
    marks = marks_of('..' + before + '..', 2, 6)
    undo = marks.apply(marks.label_from(Span(2, 6), frame + 2, Mark(key)))
    assert ''.join(marks.marks) == f'..{after}..'
    marks.apply(undo)
    assert ''.join(marks.marks) == f'..{before}..'


def test_pictures_before_the_one_in_view_get_its_label():
    marks = SourceMarks(list('....'), [0], before=None)
    marks.apply(marks.label_from(Span(0, 4), 2, Mark.SUCCESS))
    assert ''.join(marks.marks) == 'ssss'


@pytest.mark.parametrize(('action', 'starts'), [
    (lambda m: m.split(Span(4, 8), 6), [0, 4, 6, 8]),
    (lambda m: m.join(Span(4, 8)), [0, 8]),
    (lambda m: m.begin_at(Span(4, 8), 5), [0, 5, 8]),
    (lambda m: m.end_at(Span(4, 8), 5), [0, 4, 6]),
], ids=['split', 'join', 'begin', 'end'])
def test_cuts_are_split_joined_and_moved(action, starts):
    marks = marks_of('.' * 12, 4, 8)
    undo = marks.apply(action(marks))
    assert marks.starts == starts
    marks.apply(undo)
    assert marks.starts == [0, 4, 8]


@pytest.mark.parametrize(('action', 'text'), [
    (lambda m: m.split(Span(0, 4), 0), 'cannot be split before its first'),
    (lambda m: m.join(Span(0, 4)), 'none before it'),
    (lambda m: m.begin_at(Span(0, 4), 2), 'the first attempt'),
    (lambda m: m.end_at(Span(8, 12), 9), 'the last attempt'),
    (lambda m: m.begin_at(Span(4, 8), 4), 'begins here already'),
    (lambda m: m.end_at(Span(4, 8), 7), 'ends here already'),
    (lambda m: m.label_from(Span(0, 6), 1, Mark.SUCCESS), 'was changed meanwhile'),
    (lambda m: m.label_from(Span(0, 4), 7, Mark.SUCCESS), 'is not in the attempt'),
])
def test_an_action_that_does_not_fit_is_refused(action, text):
    with pytest.raises(LabellingError, match=text):
        action(marks_of('.' * 12, 4, 8))


def test_an_attempt_counts_by_its_last_label():
    marks = marks_of('ffssfsfu.fssuuuu', 4, 8, 12)
    assert [marks.mark_of(span).value for span in marks.spans()] == ['s', 'f', '.', 'u']


# On the disk

def test_the_file_is_what_other_commands_read(bag, tmp_path):
    with Opened(tmp_path / 'l.csv', bag) as opened:
        opened.label(2, 's')
        opened.label(4, 'f')
        opened.label(10, 'u')
    intervals = labels_of(opened.sources[0], tmp_path / 'l.csv')
    assert [(i.start_ns, i.end_ns, i.label.name, i.attempt) for i in intervals] == [
        (0, 2 * PERIOD_NS, 'FAILURE', '1'), (2 * PERIOD_NS, 4 * PERIOD_NS, 'SUCCESS', '1'),
        (4 * PERIOD_NS, 8 * PERIOD_NS, 'FAILURE', '2')]


def test_an_adaptation_also_gets_the_attempts_without_labels(bag, tmp_path):
    with Opened(tmp_path / 'l.csv', bag) as opened:
        opened.label(2, 's')
        opened.label(9, 'u')
        (tmp_path / 'all.csv').write_text(opened.store.attempts_text())
    plan = plan_source(opened.sources[0], FrameSelection(labels=tmp_path / 'all.csv'),
                       read_intervals(tmp_path / 'all.csv')['take'], tmp_path, unlabelled=True)
    assert [(f.label, f.attempt) for f in plan.frames] == [
        *[(Label.FAILURE, 'take/1')] * 2, *[(Label.SUCCESS, 'take/1')] * 2,
        *[(None, 'take/2')] * 4]     # the third one was left out
    with Opened(tmp_path / 'all.csv', bag) as again:    # as cuts, they are taken over
        assert again.how == ['the attempts of the label file']
        assert (again.text(), again.marks.starts) == ('ffss........', [0, 4])


def test_it_goes_on_where_it_was_with_all_that_can_be_undone(bag, tmp_path):
    out = tmp_path / 'l.csv'
    with Opened(out, bag) as opened:
        opened.label(2, 's')
        opened.store.act(opened.key, lambda marks: marks.split(Span(4, 8), 6))
        opened.label(6, 'f')
        opened.store.undo()
        opened.label(10, 'u')
        before, starts, text = opened.text(), list(opened.marks.starts), out.read_text()
    with Opened(out, bag, cuts=Cuts((0, 1), how='another')) as opened:
        assert (opened.text(), opened.marks.starts, out.read_text()) == (before, starts, text)
        assert opened.how == ['test']
        for _ in range(opened.store.undoable):
            opened.store.undo()
        assert opened.text() == '.' * 12
        assert opened.marks.starts == [0, 4, 8]
        with pytest.raises(LabellingError, match='nothing to undo'):
            opened.store.undo()
    assert out.read_text() == 'source,start_s,end_s,label,attempt\n'


def test_any_actions_are_undone_and_read_again_alike(bag, tmp_path):
    choose = random.Random(0)
    out = tmp_path / 'l.csv'
    states = []
    with Opened(out, bag) as opened:
        for _ in range(60):
            span = choose.choice(list(opened.marks.spans()))
            frame = choose.randrange(*span)
            states.append((opened.text(), list(opened.marks.starts)))
            try:
                opened.store.act(opened.key, choose.choice([
                    lambda m, s=span, f=frame: m.label_from(s, f, Mark(choose.choice('sfu'))),
                    lambda m, s=span, f=frame: m.split(s, f), lambda m, s=span: m.join(s),
                    lambda m, s=span, f=frame: m.begin_at(s, f),
                    lambda m, s=span, f=frame: m.end_at(s, f)]))
            except LabellingError:
                states.pop()
    with Opened(out, bag) as opened:
        assert opened.store.undoable == len(states)
        for state in reversed(states):
            opened.store.undo()
            assert (opened.text(), opened.marks.starts) == state


def test_labels_of_sources_that_are_not_given_stay(bag, tmp_path):
    other, out = write_folder(tmp_path / 'other', jpeg_messages(5, 50)), tmp_path / 'l.csv'
    with Opened(out, bag) as opened:
        opened.label(0, 's')
    with Opened(out, other, cuts=Cuts(how='one')) as opened:
        opened.label(0, 'f')
    assert set(read_intervals(out)) == {'take', 'other'}
    with Opened(out, bag, other) as opened:
        assert opened.text() == 'ssss........'
        opened.store.undo()
        assert set(read_intervals(out)) == {'take'}


def test_a_label_file_of_other_origin_is_taken_over_as_done(bag, tmp_path):
    out = tmp_path / 'l.csv'
    out.write_text('source,start_s,end_s,label,attempt\ntake,0,.2,failure,a\n'
                   'take,.2,.5,success,a\ntake,.5,.9,failure,b\nelsewhere,0,1,success,\n')
    with Opened(out, bag) as opened:
        assert opened.text() == 'ffsssffff...'
        assert opened.marks.starts == [0, 5]
        assert opened.how == ['the attempts of the label file']
        opened.label(9, 's')
    assert set(read_intervals(out)) == {'take', 'elsewhere'}


@pytest.mark.parametrize('content', ['a,b\n1,2\n', 'source,start_s,end_s,label\nx,3,2,maybe\n'])
def test_a_file_that_is_no_label_file_is_refused_and_left_alone(content, bag, tmp_path):
    out = tmp_path / 'l.csv'
    out.write_text(content)
    with pytest.raises(LabellingError, match=r'l\.csv.*choose another --out'):
        Opened(out, bag)
    assert out.read_text() == content


def test_a_label_file_changed_by_hand_is_refused_until_the_journal_is_gone(bag, tmp_path):
    out = tmp_path / 'l.csv'
    with Opened(out, bag) as opened:
        opened.label(0, 's')
    out.write_text(out.read_text().replace('success', 'failure'))
    with pytest.raises(LabellingError, match='was changed since .* move l.csv.journal away'):
        Opened(out, bag)
    (tmp_path / 'l.csv.journal').unlink()
    with Opened(out, bag) as opened:
        assert opened.text().startswith('ffff')


def test_another_recording_under_the_same_path_is_refused(bag, tmp_path):
    out = tmp_path / 'l.csv'
    with Opened(out, bag) as opened:
        opened.label(0, 's')
    for file in bag.iterdir():
        file.unlink()
    bag.rmdir()
    messages = jpeg_messages(12)
    messages[5].stamp_ns += 7
    write_folder(bag, messages)
    with pytest.raises(LabellingError, match='is another recording'):
        Opened(out, bag)


def test_a_line_that_was_cut_off_is_dropped_and_the_one_before_counts(bag, tmp_path):
    out, journal = tmp_path / 'l.csv', tmp_path / 'l.csv.journal'
    with Opened(out, bag) as opened:
        opened.label(0, 's')
    with journal.open('ab') as file:
        file.write(b'{"op":"label","at":0,"ma')
    with Opened(out, bag) as opened:
        assert opened.text() == 'ssss........'
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_what_is_no_journal_is_refused(bag, tmp_path):
    (tmp_path / 'l.csv.journal').write_text('my notes\n')
    with pytest.raises(LabellingError, match='no journal of label_attempts'):
        Opened(tmp_path / 'l.csv', bag)
    assert (tmp_path / 'l.csv.journal').read_text() == 'my notes\n'


def test_a_second_labeller_is_told_the_process_of_the_first(tmp_path):
    code = ('import sys, pathlib, time\n'
            'from grasp_success_detector.labelling.journal import Journal\n'
            'journal = Journal(pathlib.Path(sys.argv[1])); print(flush=True); time.sleep(60)')
    out = tmp_path / 'l.csv'
    with subprocess.Popen([sys.executable, '-c', code, out], stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        with pytest.raises(LabellingError, match=rf'already \(process {first.pid}\)'):
            Journal(out)
        first.kill()
        first.wait()
        Journal(out).close()     # the lock died with its process


KILLED = """
import itertools, pathlib, sys
sys.path.insert(0, sys.argv[3])
from test_labelling_store import Opened
opened = Opened(pathlib.Path(sys.argv[1]), sys.argv[2])
for i in itertools.count():
    opened.label(i % 12, 'sf'[i // 12 % 2])
    print(i, opened.text(), flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_no_key_that_was_answered(bag, tmp_path):
    out = tmp_path / 'l.csv'
    with subprocess.Popen(
            [sys.executable, '-c', KILLED, out, bag, os.path.dirname(__file__)],
            stdout=subprocess.PIPE, text=True) as process:
        first = list(islice(process.stdout, 20))
        process.send_signal(signal.SIGKILL)
        answered = (first + process.stdout.read().splitlines())[-1].split()[1]
    with Opened(out, bag) as opened:
        if opened.text() != answered:   # the key that was being written is there, too
            opened.store.undo()
        assert opened.text() == answered


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / 'disk'
    folder.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder],
                          capture_output=True)
    if done.returncode:
        pytest.skip('cannot mount a small disk here')
    yield folder
    subprocess.run(['umount', '-l', folder], check=True)


def fill(folder):
    with (folder / 'filler').open('wb', buffering=0) as file:
        try:
            while file.write(b'x' * 4096):
                pass
        except OSError:
            pass


def test_a_full_disk_refuses_the_key_and_loses_nothing(bag, small_disk):
    out = small_disk / 'l.csv'
    with Opened(out, bag) as opened:
        opened.label(0, 's')
        fill(small_disk)
        before, text = opened.text(), out.read_text()
        refused = 0
        for i in range(200):    # the last block of each file takes some keys
            try:
                opened.label(4 + i % 8, 'f')
                before, text = opened.text(), out.read_text()
            except NoRoomError as error:
                assert 'make room on the disk' in str(error)
                assert (opened.text(), out.read_text()) == (before, text)
                refused += 1
        assert refused
        (small_disk / 'filler').unlink()
        opened.label(8, 's')
        after = opened.text()
    with Opened(out, bag) as opened:
        assert opened.text() == after != before


def test_a_limit_of_the_file_size_refuses_the_key(bag, tmp_path):
    out = tmp_path / 'l.csv'
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Opened(out, bag) as opened:
        opened.label(0, 's')
        limit = (tmp_path / 'l.csv.journal').stat().st_size + 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(NoRoomError, match='not taken'):
                opened.label(4, 'f')
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert opened.text() == 'ssss........'
        opened.label(4, 'f')
    with Opened(out, bag) as opened:
        assert opened.text() == 'ssssffff....'


def test_a_bag_that_has_grown_keeps_its_labels(tmp_path):
    messages, out = jpeg_messages(20), tmp_path / 'l.csv'
    bag = write_folder(tmp_path / 'take', messages[:12])
    with Opened(out, bag) as opened:
        opened.label(9, 's')
    for file in bag.iterdir():
        file.unlink()
    bag.rmdir()
    write_folder(bag, messages)
    with Opened(out, bag, cuts=Cuts((0, 2, 15), how='again')) as opened:
        assert opened.text() == '........fsss........'
        assert opened.marks.starts == [0, 4, 8, 15]


@pytest.mark.parametrize('name', [
    "it's \"quoted\".mcap", '<script>alert(1)</script>.mcap'.replace('/', '_'), '=1+1.mcap',
    'line\nend.mcap', ' spaces .mcap', 'ünïcode.mcap', b'no-utf8-\xff.mcap'])
def test_sources_with_hostile_names_are_found_again_by_their_labels(name, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), name if isinstance(name, bytes) else name.encode())
    write_folder(tmp_path / 'made', jpeg_messages(4))
    os.rename(next((tmp_path / 'made').glob('*.mcap')), path)
    out = tmp_path / 'l.csv'
    with Opened(out, os.fsdecode(path), cuts=Cuts(how='one')) as opened:
        opened.label(0, 's')
    source, = find_sources([os.fsdecode(path)])
    assert len(labels_of(source, out)) == 1
    assert not any(line.startswith('=') for line in out.read_text().splitlines())


def test_sources_of_the_same_file_name_are_told_apart(tmp_path):
    paths = [write_folder(tmp_path / day / 'take', jpeg_messages(4)) for day in ('a', 'b')
             if (tmp_path / day).mkdir() is None]
    assert names_in_file(find_sources(paths)) == [str(path) for path in paths]
    (tmp_path / 'l.csv').write_text('source,start_s,end_s,label\ntake,0,1,success\n')
    with pytest.raises(LabellingError, match=(
            r'l\.csv: source take names 2 recordings .*; choose another --out')), Opened(
                tmp_path / 'l.csv', *paths):
        pass


def test_frames_of_the_same_time_get_one_label(tmp_path):
    messages = jpeg_messages(6)
    for i in (3, 4):
        messages[i].stamp_ns = START_NS + 2 * PERIOD_NS
    bag, out = write_folder(tmp_path / 'take', messages), tmp_path / 'l.csv'
    with Opened(out, bag, cuts=Cuts(how='one')) as opened:
        opened.label(3, 's')
    assert len(read_intervals(out)['take']) == 2
