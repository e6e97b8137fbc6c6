"""Commands on a Dask cluster and on processes: the same results, whichever process dies."""

from collections import deque
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import os
import shutil
import signal
from threading import Event, Thread, Timer
import time

from frames import colour_frames, split_frames, write_dataset
from processes import interrupt, start, wait_until
import pytest
from recordings import raw_messages, write_mcap
from rig_bag import write_rig_bag

from grasp_success_detector.cli.adapt_classifier import main as adapt_classifier
from grasp_success_detector.cli.evaluate_classifier import main as evaluate_classifier
from grasp_success_detector.cli.extract_frames import main as extract_frames
from grasp_success_detector.cli.inspect_dataset import main as inspect_dataset
from grasp_success_detector.cli.simulate_grasps import main as simulate_grasps
from grasp_success_detector.datasets.workers import open_workers, Workers
from grasp_success_detector.errors import ClusterError, ConfigError, WorkersError
from grasp_success_detector.simulation import recorder
from grasp_success_detector.simulation.presets import RecordingSettings
from grasp_success_detector.simulation.recorder import record

pytestmark = pytest.mark.slow
distributed = pytest.importorskip('distributed')


@pytest.fixture(scope='module')
def cluster():
    """Start a scheduler and two worker processes, which are started again where they die."""
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=':0') as cluster:
        yield cluster


@contextmanager
def one_worker_killed(cluster):
    """Kill the first worker that is seen at work, and let another one join, during the block."""
    killed, over = [], Event()

    def watch():
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            while not over.is_set() and not killed:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                pids = client.run(os.getpid, workers=busy[:1], on_error='ignore') if busy else {}
                for pid in pids.values():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                time.sleep(.005)
        cluster.scale(3)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert killed


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.fixture
def compare(cluster, tmp_path, monkeypatch):
    """
    Run a command with one process, with four, and on the cluster, of which a worker is killed.

    The folder is one in which the cluster's workers do not run, and paths are relative to it.
    """
    def run(command, *arguments, one=('--jobs', '1')):
        made = {}
        for name, work in (('one', one), ('four', ('--jobs', '4')),
                           ('cluster', ('--dask', cluster.scheduler_address))):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            given = [part.replace('SHARED', '../common') for part in arguments]
            if name == 'cluster':
                with one_worker_killed(cluster):
                    assert command([*given, *work]) == 0
            else:
                assert command([*given, *work]) == 0
            made[name] = files_of(tmp_path / name)
        assert made['one']
        for name in ('four', 'cluster'):
            assert made[name].keys() == made['one'].keys()
            assert [file for file, data in made[name].items() if data != made['one'][file]] == []
        return made['one']

    (tmp_path / 'common').mkdir()
    return run


def test_simulate_grasps(compare):
    made = compare(simulate_grasps, 'bag', '--attempts', '32', '--frames', '2', '--width', '64',
                   '--height', '48', '--seed', '5')
    assert {*made} == {'bag/metadata.yaml', 'bag/bag.mcap'}


def test_ctrl_c_on_a_cluster_leaves_what_goes_on(cluster, tmp_path, monkeypatch):
    arguments = ('bag', '--attempts', '24', '--frames', '2', '--width', '64', '--height', '48')
    work = ('--dask', cluster.scheduler_address)
    process = start('simulate_grasps', *arguments, *work, cwd=tmp_path)
    kept = tmp_path / '.bag.attempts'
    wait_until(lambda: (kept / '3').exists(), process, 300.)
    code, _, err = interrupt(process, timeout_s=300.)
    assert code == 130 and err.splitlines()[-1] == 'interrupted'
    assert [path.name for path in tmp_path.iterdir()] == ['.bag.attempts']
    done = (kept / '3').stat().st_mtime_ns
    assert simulate_grasps([str(tmp_path / 'whole/bag'), *arguments[1:]]) == 0
    monkeypatch.chdir(tmp_path)
    assert (kept / '3').stat().st_mtime_ns == done
    assert simulate_grasps([*arguments, *work]) == 0
    assert not kept.exists()
    assert (tmp_path / 'bag/bag.mcap').read_bytes() == (
        tmp_path / 'whole/bag/bag.mcap').read_bytes()


def test_attempts_in_a_folder_that_lags_are_waited_for(tmp_path, monkeypatch):
    settings = RecordingSettings(attempts=1, frames=1, width=32, height=24)
    record(settings, tmp_path / 'whole/bag', 1)
    written, late = recorder.write_attempt, []

    def lagging(folder, summary, messages):
        late.append(Timer(1.5, written, (folder, summary, messages)))
        late[0].start()

    class Lagging(Workers):
        lag_s = 30.

    monkeypatch.setattr(recorder, 'write_attempt', lagging)
    monkeypatch.setattr(recorder, 'open_workers', lambda *args, **more: nullcontext(Lagging()))
    assert [summary.attempt for summary in record(settings, tmp_path / 'late/bag')] == [0]
    assert (tmp_path / 'late/bag/bag.mcap').read_bytes() == (
        tmp_path / 'whole/bag/bag.mcap').read_bytes()


@pytest.mark.parametrize('command, arguments, hidden', [
    (extract_frames, ('rig', '--out', 'made'), 'rig/*.mcap'),
    (inspect_dataset, ('set', '--out', 'made'), 'set/success/*'),
    (evaluate_classifier, ('CHECKPOINT', 'set', '--split', 'all', '--out', 'made'),
     'set/success/*'),
    (evaluate_classifier, ('CHECKPOINT', 'rig', '--out', 'made'), 'rig/*.mcap')])
def test_workers_wait_for_files_of_a_folder_that_lags(
        cluster, tmp_path, monkeypatch, random_checkpoint, command, arguments, hidden):
    monkeypatch.chdir(tmp_path)
    write_rig_bag(tmp_path / 'rig')
    write_dataset(tmp_path / 'set', split_frames(colour_frames(40)))
    arguments = [str(random_checkpoint) if part == 'CHECKPOINT' else part for part in arguments]
    assert command(arguments) == 0
    (tmp_path / 'made').rename('in_time')
    run = Workers.run

    def run_late(self, *given, **more):
        """Hide files as soon as the command itself has looked at them."""
        paths = [*tmp_path.glob(hidden)]
        for path in paths:
            path.rename(path.with_name(f'.{path.name}'))
        Timer(1.5, lambda: [path.with_name(f'.{path.name}').rename(path) for path in paths]
              ).start()
        return run(self, *given, **more)

    monkeypatch.setattr(Workers, 'run', run_late)
    assert command([*arguments, '--dask', cluster.scheduler_address]) == 0
    assert files_of(tmp_path / 'made') == files_of(tmp_path / 'in_time')


def test_extract_frames(compare, tmp_path):
    for number in range(3):
        write_mcap(tmp_path / f'common/{number}.mcap', raw_messages(150, height=100 + number))
    made = compare(extract_frames, 'SHARED/*.mcap', '--label', 'success', '--format', 'png',
                   '--split', '1/0/0', '--out', 'set')
    assert sum(name.endswith('.png') for name in made) == 450


def test_inspect_dataset(compare, tmp_path):
    write_dataset(tmp_path / 'common/set', split_frames(colour_frames(300)))
    compare(inspect_dataset, 'SHARED/set', '--out', 'page')


def test_evaluate_classifier(compare, tmp_path, random_checkpoint):
    write_rig_bag(tmp_path / 'common/rig')
    made = compare(evaluate_classifier, str(random_checkpoint), 'SHARED/rig', '--out', 'judged')
    assert b'P(success)' in made['judged/report.html']


def test_adapt_classifier(compare, tmp_path, random_checkpoint):
    write_rig_bag(tmp_path / 'common/rig', attempts=6)
    shutil.copy(random_checkpoint, tmp_path / 'common/start.safetensors')
    compare(adapt_classifier, 'SHARED/start.safetensors', 'SHARED/rig', '--out', 'rig.safetensors')


def test_each_worker_fetches_from_an_address_for_itself(cluster, tmp_path, monkeypatch,
                                                        random_checkpoint):
    pytest.importorskip('aiohttp')  # with which fsspec speaks HTTP
    (tmp_path / 'bags').mkdir()
    write_mcap(tmp_path / 'bags/take.mcap', raw_messages(60))
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(
        SimpleHTTPRequestHandler, directory=tmp_path / 'bags'))
    Thread(target=server.serve_forever).start()
    client = distributed.Client(cluster.scheduler_address, set_as_default=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'here'))
    monkeypatch.chdir(tmp_path)
    try:
        client.run(lambda: os.environ.update(XDG_CACHE_HOME=str(tmp_path / 'there')))
        given = (f'http://127.0.0.1:{server.server_port}/take.mcap', '--label', 'success')
        work = ('--dask', cluster.scheduler_address)
        assert extract_frames([*given, '--out', 'set', *work]) == 0
        assert extract_frames(['bags/take.mcap', *given[1:], '--out', 'local']) == 0
        made, local = files_of(tmp_path / 'set'), files_of(tmp_path / 'local')
        assert made.pop('dataset.json') != local.pop('dataset.json')    # other paths
        assert made == local
        assert not (tmp_path / 'here').exists()     # the command itself reads no bag
        assert [path.name for path in (tmp_path / 'there').rglob('*.mcap')] == ['take.mcap']
        assert evaluate_classifier([str(random_checkpoint), *given, '--out', 'judged', *work]) == 0
    finally:
        client.run(lambda: os.environ.pop('XDG_CACHE_HOME', None))
        client.close()
        server.shutdown()
        server.server_close()


def die(folder, number, times):
    """Kill this worker process the first few times that the task runs; then count the run."""
    count = len(list(folder.glob(f'{number}-*')))
    (folder / f'{number}-{count}').touch()
    if count < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_task_whose_process_dies_runs_again_but_not_for_ever(tmp_path):
    def results(times):
        with open_workers(2, helps=False) as workers:
            return sorted(result for _, result in workers.run(deque(
                partial(die, tmp_path, number, times if number == 3 else 0)
                for number in range(9))))

    assert results(2) == [*range(9)]
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(WorkersError, match='a worker process died, and 3 times with the same'):
        results(99)


def test_a_cluster_with_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr('grasp_success_detector.datasets.workers.__version__', '0.0.1')
    with (open_workers(dask=cluster.scheduler_address) as workers,
          pytest.raises(ConfigError, match='a worker of the cluster has .*, expected 0.0.1')):
        list(workers.run(deque([partial(abs, -7)])))


def test_the_loss_of_the_last_worker_is_said_and_the_next_one_goes_on(capsys):
    with (distributed.LocalCluster(1, processes=False, dashboard_address=':0') as cluster,
          open_workers(dask=cluster.scheduler_address) as workers):
        results = workers.run(deque(partial(time.sleep, .1) for _ in range(30)))
        next(results)
        cluster.scale(0)
        deadline = time.monotonic() + 60.
        while cluster.scheduler.workers:    # meanwhile no further task is handed out
            assert time.monotonic() < deadline
            time.sleep(.05)
        Timer(3., cluster.scale, (1,)).start()
        assert len([*results]) == 29
    assert 'its last worker is gone; waiting for another' in capsys.readouterr().err


def test_a_scheduler_that_ends_ends_the_run():
    with (distributed.LocalCluster(1, processes=False, dashboard_address=':0') as cluster,
          open_workers(dask=cluster.scheduler_address) as workers):
        results = workers.run(deque(partial(time.sleep, .1) for _ in range(100)))
        next(results)
        cluster.close()
        with pytest.raises(ClusterError, match='this Dask scheduler is gone; start one, and the'):
            list(results)
