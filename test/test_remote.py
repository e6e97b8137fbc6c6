"""Recordings and results at addresses of fsspec: in memory, and on a server of S3's protocol."""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import re
import subprocess
import sys
import time

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
import pytest
from recordings import jpeg_messages, picture, write_folder, write_mcap, write_video
from rig_bag import write_rig_bag

from grasp_success_detector.cli.evaluate_classifier import main as evaluate_classifier
from grasp_success_detector.cli.extract_frames import main as extract_frames
from grasp_success_detector.cli.inspect_dataset import main as inspect_dataset
from grasp_success_detector.errors import BagError, RemoteError
from grasp_success_detector.files import FUSED_SAMPLE_BAG, share_path
from grasp_success_detector.images.encoding import encode_png
from grasp_success_detector.recordings import remote
from grasp_success_detector.recordings.fetched_cache import used_until_end
from grasp_success_detector.recordings.hand_messages import read_hand_messages
from grasp_success_detector.recordings.reader import StorageFile
from grasp_success_detector.recordings.sources import find_sources


class Failing(MemoryFileSystem):
    """A store whose connection may be cut, or whose files change or vanish while one is read."""

    protocol = 'failing'
    fault = ''
    reads = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix('failing:/'))

    def get_file(self, rpath, lpath, **options):
        type(self).reads += 1
        if self.fault == 'fails first':
            time.sleep(.3)
            if self.reads == 1:
                raise ConnectionError('connection reset')
        if self.fault == 'vanishes':
            self.rm_file(rpath)
        if self.fault == 'is cut':
            Path(lpath).write_bytes(b'half')
            raise ConnectionError('connection reset')
        super().get_file(rpath, lpath, **options)
        if self.fault == 'ends early':
            os.truncate(lpath, 4)
        if self.fault == 'changes':
            self.pipe_file(rpath, self.cat_file(rpath))

    def put_file(self, lpath, rpath, **options):
        if self.fault == 'is full' and 'success' in rpath:
            raise OSError('quota exceeded')
        super().put_file(lpath, rpath, **options)


fsspec.register_implementation('failing', Failing, clobber=True)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """Give a store without a file, and a cache of its own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    Failing.fault, Failing.reads = '', 0
    Failing.store.clear()   # that of memory:// too
    Failing.pseudo_dirs[:] = ['']
    return Failing()


def put(store, folder, address):
    store.put(str(folder), address, recursive=True)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def error_of(main, capsys, *arguments):
    assert main([*map(str, arguments)]) == 1
    text = capsys.readouterr().err
    assert text.count('\n') == 1
    return text.removeprefix('error: ').rstrip('\n')


def test_what_is_extracted_from_an_address_is_what_is_extracted_from_a_folder(store, tmp_path):
    write_folder(tmp_path / 'bags/monday', jpeg_messages(6))
    write_folder(tmp_path / 'bags/tuesday', jpeg_messages(5, first=30))
    put(store, 'bags', '/lab/bags')
    for out, *given in (('local', 'bags'), ('folder', 'failing://lab/bags/'),
                        ('pattern', 'failing://lab/bags/*day'),
                        ('each', 'failing://lab/bags/monday', 'failing://lab/bags/tuesday')):
        assert extract_frames([*given, '--label', 'success', '--out', out, '--jobs', '1']) == 0
    local = files_of(tmp_path / 'local')
    described = local.pop('dataset.json').decode()
    for name in ('folder', 'pattern', 'each'):
        other = files_of(tmp_path / name)
        text = other.pop('dataset.json').decode()
        assert other == local
        assert text.count('"path": "failing://lab/bags/monday"') == 2
    assert described.count('"path"') == text.count('"path"')
    assert Failing.reads == len(files_of(tmp_path / 'bags'))    # each file once


def test_every_kind_of_recording_is_known_at_an_address(store, tmp_path):
    write_folder(tmp_path / 'lab/folder', jpeg_messages(3))
    (tmp_path / 'lab/files').mkdir()
    write_mcap(tmp_path / 'lab/files/take_2.mcap', jpeg_messages(3))
    write_mcap(tmp_path / 'lab/files/take_10.mcap', jpeg_messages(3))
    write_video(tmp_path / 'lab/video.mp4')
    for name in ('success/1.png', 'failure/2.png'):
        path = tmp_path / 'lab/photos' / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_png(picture(1)))
    put(store, 'lab', '/lab')

    def found(*given):
        return [(source.name, source.kind.value, len(source.files), len(source.pictures))
                for source in find_sources(given)]

    whole = ('folder', 'files', 'video.mp4', 'photos')
    assert found(*(f'failing://lab/{name}' for name in whole)) == found(
        *(f'lab/{name}' for name in whole)) != []
    assert found(f'file://{tmp_path}/lab/vid*') == found('lab/video.mp4')
    assert found('failing://lab/files/*.mcap') == [
        ('take_10', 'bag', 1, 0), ('take_2', 'bag', 1, 0)]
    assert found('failing://lab/photos/success/1.png') == [('photos', 'pictures', 0, 1)]
    with pytest.raises(BagError, match='matches single pictures; expected their folder or .zip'):
        found('failing://lab/photos/*/*.png')


def test_joint_states_are_read_at_an_address_too(store):
    bag = share_path(FUSED_SAMPLE_BAG)
    put(store, bag, '/lab/two')
    (there,), (here,) = find_sources(['failing://lab/two']), find_sources([bag])
    assert not there.path.exists()
    read, expected = (read_hand_messages([*map(StorageFile, source.files)]).joints
                      for source in (there, here))
    assert read.keys() == expected.keys() != set()
    for topic, samples in expected.items():
        assert read[topic].times_ns.tolist() == samples.times_ns.tolist()


def test_what_has_changed_is_fetched_anew(store, tmp_path):
    store.pipe_file('/lab/one', b'old')
    path = remote.local('failing://lab/one')
    assert remote.local('failing://lab/one') == path
    assert (Path(path).read_bytes(), Failing.reads) == (b'old', 1)
    store.pipe_file('/lab/one', b'new')
    assert Path(remote.local('failing://lab/one')).read_bytes() == b'new'
    assert Path(path).read_bytes() == b'old'    # who reads it still goes on
    with pytest.raises(RemoteError, match='was changed since the command began; run it again'):
        remote.fetched('failing://lab/one', '0' * 40 + '-3')


def test_who_wants_the_same_at_the_same_time_waits(store):
    store.pipe_file('/lab/one', bytes(1_000_000))
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(remote.local, ['failing://lab/one'] * 8))
    assert (len(paths), Failing.reads) == (1, 1)
    # One fails while another waits; a third must not fetch beside the one that waited.
    store.pipe_file('/lab/one', b'new')
    Failing.fault, Failing.reads = 'fails first', 0
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(remote.local, 'failing://lab/one') for _ in range(2)]
        while not any(call.done() for call in calls):
            time.sleep(.01)
        calls.append(pool.submit(remote.local, 'failing://lab/one'))
    assert sorted(call.exception() is None for call in calls) == [False, True, True]
    assert Failing.reads == 2


HOLD = """
import sys
from grasp_success_detector.recordings import remote
from grasp_success_detector.recordings.fetched_cache import used_until_end
print(remote.local(sys.argv[1]), flush=True)
sys.stdin.read()
"""


def test_the_cache_has_a_limit(tmp_path, monkeypatch):
    """What was used longest ago is removed, but nothing that a task or process uses."""
    for name in 'abcde':
        (tmp_path / name).write_bytes(bytes(1000))
    addresses = {name: f'file://{tmp_path / name}' for name in 'abcde'}
    entries = tmp_path / 'cache/grasp_success_detector/remote'

    def kept():
        return sorted(path.name for path in entries.rglob('?') if path.stat().st_size == 1000)

    monkeypatch.setenv('GRASP_SUCCESS_DETECTOR_CACHE_GB', '3.5e-6')
    with used_until_end():
        for name in 'abc':
            remote.local(addresses[name])
        remote.local(addresses['d'])
        assert kept() == [*'abcd']      # over the limit, but in use
    with used_until_end():
        remote.local(addresses['a'])
    with used_until_end():
        remote.local(addresses['e'])
    assert kept() == [*'ade']           # b and c were used before a and d
    with subprocess.Popen([sys.executable, '-c', HOLD, addresses['d']], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().endswith('/d\n')
        for name in 'abc':
            with used_until_end():
                remote.local(addresses[name])
        assert kept() == [*'bcd']
        other.kill()
        other.wait()
    with used_until_end():
        remote.local(addresses['a'])
    assert kept() == [*'abc']
    monkeypatch.setenv('GRASP_SUCCESS_DETECTOR_CACHE_GB', 'much')
    with pytest.raises(RemoteError, match='GRASP_SUCCESS_DETECTOR_CACHE_GB=much: expected giga'):
        remote.local(addresses['d'])


@pytest.mark.parametrize(('fault', 'text'), (
    ('is cut', r'cannot be fetched \(connection reset\)'),
    ('ends early', r'4 of the \d+ bytes of it arrived; run the same command again'),
    ('vanishes', r'no such file, folder or bucket \(.*\)'),
    ('changes', 'changed while it was fetched; run the same command again')))
def test_what_is_not_fetched_whole_is_not_there(fault, text, store, tmp_path, capsys):
    write_mcap(tmp_path / 'take.mcap', jpeg_messages(9))
    store.put_file('take.mcap', '/lab/take.mcap')
    Failing.fault = fault
    given = ('failing://lab/take.mcap', '--label', 'success', '--out', 'made')
    assert re.fullmatch(f'failing://lab/take.mcap: {text}', error_of(
        extract_frames, capsys, *given, '--jobs', 1))
    entries = tmp_path / 'cache/grasp_success_detector/remote'
    assert {path.name for path in entries.iterdir()} == {'lock', 'users'}
    Failing.fault = ''
    if fault != 'vanishes':
        assert extract_frames([*given]) == 0


@pytest.mark.parametrize(('given', 'text'), (
    ('failing://lab/none', 'no such file, folder or bucket (/lab/none)'),
    ('failing://lab/none*', 'matches nothing'),
    ('failing://lab/../x', 'expected an address such as s3://bucket/bags/monday'),
    ('failing://', 'expected an address such as s3://bucket/bags/monday'),
    ('failing://lab/odd', "'../x' is no name for a local file; rename it there"),
    ('nothing://lab/x', 'cannot be listed (Protocol not known: nothing)')))
def test_an_address_that_cannot_be_read_is_one_line(given, text, store, capsys):
    for name in ('y', '../x'):
        store.pipe_file('/lab/tmp', b'x')
        store.store[f'/lab/odd/{name}'] = store.store.pop('/lab/tmp')
    assert error_of(extract_frames, capsys, given, '--out', 'made') == f'{given}: {text}'


def test_without_the_extra_the_line_names_it(store, monkeypatch, capsys):
    monkeypatch.setitem(__import__('sys').modules, 'fsspec', None)
    assert error_of(extract_frames, capsys, 's3://lab/bags', '--out', 'made').endswith(
        "; in the clone: pip install -c constraints.txt '.[remote]'")


def test_results_at_addresses(store, tmp_path, random_checkpoint, capsys):
    write_rig_bag(tmp_path / 'rig')
    store.put_file(str(random_checkpoint), '/lab/my.safetensors')
    put(store, 'rig', '/lab/rig')
    assert extract_frames(['failing://lab/rig', '--out', 'failing://lab/set']) == 0
    assert extract_frames(['rig', '--out', 'set']) == 0
    assert {name.removeprefix('/lab/set/') for name in store.find('/lab/set')} == {
        *files_of(tmp_path / 'set')}
    assert evaluate_classifier(['failing://lab/my.safetensors', 'failing://lab/rig',
                                '--out', 'failing://lab/judged']) == 0
    assert evaluate_classifier([str(random_checkpoint), 'failing://lab/set', '--split', 'all',
                                '--out', 'judged']) == 0
    assert store.exists('/lab/judged/metrics.json')
    assert inspect_dataset(['failing://lab/set']) == 0
    assert (tmp_path / 'set-inspection/index.html').is_file()
    capsys.readouterr()
    for main, given in ((extract_frames, ('rig', '--out', 'failing://lab/set')),
                        (evaluate_classifier, (random_checkpoint, 'rig', '--out',
                                               'failing://lab/judged'))):
        assert error_of(main, capsys, *given) == (
            f'{given[-1]}: exists already and is not overwritten; choose another name')
    assert error_of(extract_frames, capsys, 'rig', '--dask', 'tcp://head:8786', '--out',
                    'failing://lab/more').startswith(
        'failing://lab/more: with --dask the workers write the result; expected a folder that ')
    assert error_of(inspect_dataset, capsys, 'set', '--out', 's3://lab/page') == (
        's3://lab/page: expected a local path for this argument, no address; copy between the '
        'two by hand')
    assert files_of(tmp_path / 'cache/grasp_success_detector/out') == {}


def test_what_cannot_be_put_in_place_is_not_lost(store, tmp_path, capsys):
    write_rig_bag(tmp_path / 'rig')
    Failing.fault = 'is full'
    given = ('rig', '--out', 'failing://lab/set')
    assert re.fullmatch(
        r'failing://lab/set: cannot be written, and the result stays in .*/set \(quota exceeded\)',
        error_of(extract_frames, capsys, *given))
    assert store.find('/lab/set') == []
    Failing.fault = ''
    assert extract_frames([*given]) == 0
    assert 'was complete already' in capsys.readouterr().out
    assert store.exists('/lab/set/dataset.json')


def test_s3(tmp_path, monkeypatch, capsys):
    """The same over S3's protocol, where a test server and s3fs are installed."""
    pytest.importorskip('s3fs')
    server = pytest.importorskip('moto.server').ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        for name, value in (('ENDPOINT_URL', f'http://127.0.0.1:{port}'), ('ACCESS_KEY_ID', 'me'),
                            ('SECRET_ACCESS_KEY', 'secret'), ('DEFAULT_REGION', 'us-east-1')):
            monkeypatch.setenv(f'AWS_{name}', value)
        write_rig_bag(tmp_path / 'rig')
        store = fsspec.filesystem('s3', skip_instance_cache=True)
        store.mkdir('lab')
        store.put('rig', 'lab/rig', recursive=True)
        assert extract_frames(['rig', '--out', 'set']) == 0
        assert extract_frames(['s3://lab/rig', '--out', 's3://lab/set']) == 0
        store.invalidate_cache()
        store.get('lab/set', 'from_there', recursive=True)
        local, there = files_of(tmp_path / 'set'), files_of(tmp_path / 'from_there')
        assert local.pop('dataset.json') != there.pop('dataset.json')   # other paths
        assert there == local
        capsys.readouterr()
        for given, text in (('s3://nothing/rig', 'no such file, folder or bucket (The specified '
                             'bucket does not exist)'),
                            ('s3://lab/*/none', 'matches nothing')):
            assert error_of(extract_frames, capsys, given, '--out', 'x') == f'{given}: {text}'
        assert error_of(extract_frames, capsys, 'rig', '--out', 's3://nothing/set') == (
            's3://nothing/set: no such file, folder or bucket (The specified bucket does not '
            'exist)')
    finally:
        server.stop()
