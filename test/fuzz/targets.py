"""The parsers under test: how each is called with a file's bytes, and its seeds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
import tempfile
from typing import Any

from grasp_success_detector.errors import GraspSuccessDetectorError

CORPUS = Path(__file__).parent / 'corpus'
MODELS = Path(__file__).parent.parent.parent / 'models'

#: CPU seconds that one case may take.
MAX_CASE_S = 1.


@dataclass(frozen=True)
class Target:
    """
    One parser.

    :ivar check: takes the bytes; raises an error that is not the package's own if it fails.
    :ivar seeds: good files.
    :ivar images: whether a case is a picture, else a file.
    """

    name: str
    check: Callable[[bytes], object]
    seeds: tuple[Path, ...]
    images: bool = False

    def run(self, data: bytes) -> object:
        """Check one case; return what the parser made of it, None if it was refused."""
        try:
            return self.check(data)
        except GraspSuccessDetectorError as error:
            text = str(error)
            if not text or '\n' in text or len(text) > 2000:
                raise AssertionError(f'{self.name}: error of {len(text)} characters: '
                                     f'{text[:300]!r}') from error
            return None


@cache
def folder() -> Path:
    """Return a folder in memory, where there is one, for files that are read by their paths."""
    shared = Path('/dev/shm')
    made = tempfile.TemporaryDirectory(prefix='grasp_fuzz_', dir=shared if shared.is_dir() else
                                       None)
    _kept.append(made)
    return Path(made.name)


_kept: list[Any] = []


def _written(name: str, data: bytes) -> Path:
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _picture(data: bytes) -> object:
    from grasp_success_detector.images.decoding import decode_bytes
    return decode_bytes(data)


def _message(msgtype: str) -> Callable[[bytes], object]:
    def check(data: bytes) -> object:
        from grasp_success_detector.images.decoding import decode_message
        from grasp_success_detector.recordings.reader import _deserialize, ImageTopic

        try:
            message = _deserialize(data, ImageTopic('/image', msgtype, False))
        except ValueError:  # what read_frames counts as an unreadable message
            return None
        return decode_message(message)
    return check


def _recording(name: str) -> Callable[[bytes], object]:
    def check(data: bytes) -> object:
        from grasp_success_detector.images.decoding import decode_message
        from grasp_success_detector.recordings import reader, selection, sources

        source, = sources.find_sources([_written(name, data)])
        plan = selection.plan_source(source, selection.FrameSelection(label='success'), [],
                                     folder() / 'unpacked')
        if plan.unreadable:
            return None
        read = list(reader.read_frames(
            plan.files, plan.topic, plan.frames, lambda m: decode_message(m).shape, lambda p: p))
        assert len(read) == len(plan.frames)
        return plan
    return check


def _intervals(data: bytes) -> object:
    from grasp_success_detector.recordings.ground_truth import read_intervals
    return read_intervals(_written('labels.csv', data))


def _picture_rows(data: bytes) -> object:
    from grasp_success_detector.recordings.picture_labels import read_picture_rows
    return read_picture_rows(_written('picture_labels.csv', data))


def _hand(data: bytes) -> object:
    from grasp_success_detector.hand.model import read_hand
    return read_hand(str(_written('hand.json', data)))


def _manifest(data: bytes) -> object:
    from grasp_success_detector.datasets.dataset import MANIFEST, read_extracted, write_marker

    path = _written(f'dataset/{MANIFEST}', data)
    write_marker(path.parent, {'frames': 1})
    return read_extracted(path.parent)


def _marker(data: bytes) -> object:
    from grasp_success_detector.datasets.dataset import MARKER, read_marker
    return read_marker(_written(f'marked/{MARKER}', data).parent)


def _checkpoint(data: bytes) -> object:
    from grasp_success_detector.networks.checkpoint import Checkpoint
    return Checkpoint.open(_written('checkpoint.safetensors', data))


def _engines(data: bytes) -> object:
    from grasp_success_detector.inference.engine_selection import proof_path, read_proof
    from grasp_success_detector.networks.checkpoint import Checkpoint

    checkpoint = _cached_checkpoint(Checkpoint)
    _written(proof_path(checkpoint.path).name, data)
    return read_proof(checkpoint)


@cache
def _cached_checkpoint(kind: Any) -> Any:
    return kind.open(_written('engines.safetensors',
                              (MODELS / 'cifar_cnn_rig.safetensors').read_bytes()))


def _recipe(data: bytes) -> object:
    from grasp_success_detector.training.recipe import load_config
    return load_config(_written('recipe.yaml', data), {})


def _metadata(data: bytes) -> object:
    from grasp_success_detector.recordings.bags import declared_messages
    return declared_messages(_written('bag/metadata.yaml', data).parent, '/camera/image_raw')


def _request(data: bytes) -> object:
    from fuzz.page_requests import answer
    return answer(data, CORPUS / 'mcap' / 'plain.mcap', folder())


def seeds(name: str) -> tuple[Path, ...]:
    """Return the files of a target's folder in the corpus."""
    return tuple(sorted((CORPUS / name).iterdir()))


def targets() -> Iterator[Target]:
    """Yield all targets."""
    yield Target('picture', _picture, seeds('picture'), True)
    yield Target('image_message', _message('sensor_msgs/msg/Image'), seeds('image_message'), True)
    yield Target('compressed_message', _message('sensor_msgs/msg/CompressedImage'),
                 seeds('compressed_message'), True)
    for suffix in ('mcap', 'db3', 'bag', 'mcap.zstd', 'db3.zstd'):
        yield Target(suffix, _recording(f'lab.{suffix}'), seeds(suffix))
    yield Target('labels', _intervals, seeds('labels'))
    yield Target('picture_labels', _picture_rows, seeds('picture_labels'))
    yield Target('hand', _hand, (MODELS / 'allegro_hand_simulated.json',))
    yield Target('manifest', _manifest, seeds('manifest'))
    yield Target('marker', _marker, seeds('marker'))
    yield Target('checkpoint', _checkpoint, (MODELS / 'cifar_cnn_rig.safetensors',))
    yield Target('engines', _engines, (MODELS / 'efficientnet_lite0_rig.engines.json',))
    yield Target('recipe', _recipe, tuple(sorted((MODELS.parent / 'config').glob('train_*'))))
    yield Target('metadata', _metadata, seeds('metadata'))
    yield Target('request', _request, seeds('request'))
