"""corpus: make the good files that fuzzing damages: python -m fuzz.corpus (in test/)."""

from pathlib import Path
import shutil
import tempfile

import numpy as np
import recordings

from fuzz.targets import CORPUS
from grasp_success_detector.datasets.dataset import MANIFEST, ManifestRow, MARKER
from grasp_success_detector.files import csv_text, json_text, SAMPLE_BAG, share_path
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.labels import Label
from grasp_success_detector.recordings import reader, selection, sources

FAILURES = 6


def make(corpus: Path = CORPUS) -> None:
    """Write the corpus anew; the same code gives the same files."""
    shutil.rmtree(corpus, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        for target, file, data in _files(Path(name)):
            path = corpus / target / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _files(work):
    import cv2

    picture = recordings.picture(1)
    progressive = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    restarts = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes()
    deep = cv2.imencode('.png', picture.astype(np.uint16) * 257)[1].tobytes()
    pictures = {'a.jpg': encode_jpeg(picture), 'progressive.jpg': progressive,
                'restarts.jpg': restarts, 'a.png': encode_png(picture), 'deep.png': deep}
    for file, data in pictures.items():
        yield 'picture', file, data
        yield 'compressed_message', file + '.cdr', recordings.compressed_image(
            data, recordings.START_NS)
    yield 'compressed_message', 'bayer.cdr', recordings.compressed_image(
        encode_png(picture), 1).replace(b'rgb8; jpeg', b'bayer_rggb8')
    for encoding in (b'rgb8\0', b'bgr8\0', b'yuyv\0', b'uyvy\0'):
        yield 'image_message', f'{encoding[:4].decode()}.cdr', recordings.raw_image(
            picture, recordings.START_NS).replace(b'rgb8\0', encoding)
    for form in recordings.FORMS:
        (work / form).mkdir()
        path = recordings.write_form(work / form, form, 3)
        for file in (path.iterdir() if path.is_dir() else [path]):
            if file.name == 'metadata.yaml':
                yield 'metadata', f'{form}.yaml', file.read_bytes()
            else:
                suffix = file.name.split('.', 1)[1]
                yield suffix, f'{form}.{suffix}', file.read_bytes()
    yield 'labels', 'labels.csv', csv_text(
        ('source', 'start_s', 'end_s', 'label', 'attempt'),
        [('lab', i, i + .5, ('failure', 'success')[i % 2], i) for i in range(8)]).encode()
    yield 'manifest', MANIFEST, csv_text(ManifestRow._fields, (
        (f'success/{i}.jpg', 'success', 'lab', '/camera', i, f'lab/{i}', 'train', 'ab' * 32)
        for i in range(8))).encode()
    yield 'marker', MARKER, json_text({'format_version': 1, 'frames': 8, 'plan': {}}).encode()
    at = b'"source":0,"start":0,"end":3,"frame":0'
    for name, request in {
            'label': b'POST /api/label\n\n{' + at + b',"mark":"s"}',
            'split': b'POST /api/split\n\n{' + at.replace(b'"frame":0', b'"frame":1') + b'}',
            'join': b'POST /api/join\n\n{' + at.replace(b':0,"end"', b':1,"end"') + b'}',
            'begin': b'POST /api/begin\n\n{' + at + b'}',
            'end': b'POST /api/end\n\n{' + at + b'}', 'undo': b'POST /api/undo\n\n{}',
            'show': b'POST /api/show\n\n{"source":0,"frame":1}',
            'state': b'GET /api/state?since=0.1.0.0.0\nx: y\n\n',
            'sources': b'GET /api/sources\n\n',
            'page': b'GET /page/app.js\ncookie: a=b; c="d"\norigin: http://localhost\n\n',
            'index': b'GET /?token=wrong\nx-label-token: wrong\nhost: localhost\n\n',
            'picture': b'GET /picture/x/small/0/1\nrange: bytes=0-9\n\n'}.items():
        yield 'request', name, request
    yield from _failures(work)


def _failures(work):
    """Yield pictures of failed attempts of the sample bag."""
    source, = sources.find_sources([share_path(SAMPLE_BAG)])
    plan = selection.plan_source(source, selection.FrameSelection(every=3), [], work)
    frames = [frame for frame in plan.frames if frame.label is Label.FAILURE]
    chosen = frames[::-(-len(frames) // FAILURES)]
    for frame, data in reader.read_frames(
            plan.files, plan.topic, chosen, lambda message: bytes(message.data), lambda p: b''):
        yield 'failure', f'{frame.number}.jpg', data


if __name__ == '__main__':
    make()
