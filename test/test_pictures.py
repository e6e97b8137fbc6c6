"""Folders, zip files and single pictures as sources: labels, attempts, splits, faults."""

from dataclasses import replace
import io
import json
import os
from pathlib import Path
import shutil
import zipfile

import cv2
import numpy as np
from PIL import Image
import pytest
from recordings import PERIOD_NS, picture, raw_messages, write_mcap, write_video

from grasp_success_detector.cli.adapt_classifier import main as adapt_main
from grasp_success_detector.cli.evaluate_classifier import main as evaluate_main
from grasp_success_detector.cli.extract_frames import main as extract_main
from grasp_success_detector.cli.inspect_dataset import main as inspect_main
from grasp_success_detector.cli.train_classifier import main as train_main
from grasp_success_detector.datasets.dataset import read_manifest
from grasp_success_detector.datasets.splits import completed_split, shares_of_few
from grasp_success_detector.errors import ImageDecodeError
from grasp_success_detector.images.encoding import encode_jpeg, encode_png
from grasp_success_detector.images.picture_files import decode_picture
from grasp_success_detector.labels import Label
from grasp_success_detector.networks.checkpoint import Checkpoint, save
from grasp_success_detector.networks.learnt_frames import with_record


def write(folder: Path, *names: str, first: int = 0) -> Path:
    """Write a different jpeg under each name."""
    for number, name in enumerate(names, first):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number, 48, 64)))
    return folder


def both(*names: str) -> list[str]:
    return [f'{label}/{name}' for label in ('failure', 'success') for name in names]


def extract(*arguments: object, rc: int = 0) -> None:
    assert extract_main([*map(str, arguments), '--jobs', '1']) == rc


def rows_of(folder: Path):
    return {Path(row.file).name: row for row in read_manifest(folder)}


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_a_picture_is_turned_upright_as_exif_says(kind):
    upright = cv2.resize(picture(1), (64, 48), interpolation=cv2.INTER_NEAREST)
    stored = np.rot90(upright)     # orientation 6 turns it back, clockwise
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(stored).save(file, kind, exif=exif.tobytes() if kind != 'TIFF' else exif)
    decoded = decode_picture(file.getvalue())
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < 12


@pytest.mark.parametrize('mode', ['1', 'L', 'LA', 'RGBA', 'P', 'CMYK', 'I;16'])
def test_every_mode_of_a_tiff_becomes_rgb(mode):
    grey = picture(3)[..., 1]
    image = (Image.fromarray(grey.astype(np.uint16) * 257) if mode == 'I;16' else
             Image.fromarray(picture(3)).convert(mode))
    file = io.BytesIO()
    image.save(file, 'TIFF')
    decoded = decode_picture(file.getvalue())
    assert decoded.shape == (24, 32, 3) and decoded.dtype == np.uint8
    if mode == 'I;16':
        assert np.array_equal(decoded[..., 0], grey)


@pytest.mark.parametrize(('data', 'reason'), [
    (b'', 'empty_data'), (b'GIF89a', 'unknown_format'), (b'BM' + bytes(60), 'broken_data'),
    (encode_jpeg(picture(0))[:-40], 'truncated')])
def test_a_picture_that_cannot_be_decoded_has_a_reason(data, reason):
    with pytest.raises(ImageDecodeError) as caught:
        decode_picture(data)
    assert caught.value.reason in (reason, 'unknown_format')


def test_pictures_with_the_names_of_others_are_attempts_of_their_own(tmp_path, capsys):
    write(tmp_path / 'lab', *both(*(f'{i}.jpg' for i in range(8))))
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    rows = read_manifest(tmp_path / 'set')
    assert len(rows) == len({row.attempt for row in rows}) == 16
    assert all(row.file.split('/')[0] == row.label.name.lower() for row in rows)
    assert '16 attempts: each picture on its own' in capsys.readouterr().out


def test_names_with_a_running_number_are_attempts(tmp_path, capsys):
    write(tmp_path / 'lab', *both(*(f'take{t}_{i:04}.jpg' for t in range(4) for i in range(3))))
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    assert {row.attempt for row in read_manifest(tmp_path / 'set')} == {
        f'lab/take{t}' for t in range(4)}
    assert '4 attempts: names with a running number' in capsys.readouterr().out


def test_the_names_of_a_camera_are_no_attempts(tmp_path):
    write(tmp_path / 'lab', *both('IMG_1.jpg', 'IMG_2.jpg', 'IMG_3.jpg', 'a.jpg', 'b.jpg'))
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    assert len({row.attempt for row in read_manifest(tmp_path / 'set')}) == 10


def test_near_duplicates_are_one_attempt(tmp_path, capsys):
    write(tmp_path / 'lab', *both('a.jpg', 'b.jpg', 'c.jpg'))
    (tmp_path / 'lab/failure/again.jpg').write_bytes(encode_jpeg(picture(0, 48, 64), 60))
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    rows = rows_of(tmp_path / 'set')
    assert (rows['lab__failure_again.jpg'].attempt == rows['lab__failure_a.jpg'].attempt)
    assert '6 attempts: near duplicates together' in capsys.readouterr().out


def test_a_csv_gives_labels_attempts_and_splits(tmp_path, capsys):
    write(tmp_path / 'lab', *(f'{i}.jpg' for i in range(6)))
    (tmp_path / 'lab/labels.csv').write_text(
        'file,label,attempt,split\n0.jpg,success,a,train\n1.jpg,failure,b,train\n'
        '2.jpg,success,c,test\n3.jpg,FAILURE,d,test\n4.jpg,,,\n', encoding='utf-8')
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    rows = rows_of(tmp_path / 'set')
    assert sorted(rows) == [f'lab__{i}.jpg' for i in range(4)]
    assert rows['lab__2.jpg'].split == rows['lab__3.jpg'].split == 'test'
    assert rows['lab__3.jpg'].label is Label.FAILURE and rows['lab__3.jpg'].attempt == 'lab/d'
    assert '2 no label' in capsys.readouterr().out


@pytest.mark.parametrize(('text', 'expected'), [
    ('name,label\n0.jpg,success\n', 'no column file; expected a CSV with file,label'),
    ('file,label\n0.jpg,held\n', "line 2: label 'held' (expected failure or success"),
    ('file,label\n9.jpg,success\n', '1 of its files are not there: 9.jpg'),
    ('file,label\n0.jpg,success\n0.jpg,failure\n', 'lines 2 and 3 both name 0.jpg'),
    ('file,label,split\n0.jpg,success,exam\n', "split 'exam' (expected train, val or test)"),
    ('file,label,attempt,split\n0.jpg,success,a,train\n1.jpg,failure,a,test\n',
     'has attempts in several splits: a (test, train)')])
def test_a_wrong_csv_is_one_line(tmp_path, capsys, text, expected):
    write(tmp_path / 'lab', '0.jpg', '1.jpg')
    (tmp_path / 'mine.csv').write_text(text, encoding='utf-8')
    extract(tmp_path / 'lab', '--labels', tmp_path / 'mine.csv', '--out', tmp_path / 'set', rc=1)
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize(('names', 'expected'), [
    (('good/0.jpg', 'bad/1.jpg'), 'folders bad, good, no picture has a label; expected folders'),
    (('success/0.jpg', 'fail/1.jpg'), 'folders fail beside success/; expected failure/: rename'),
    (('0.jpg',), 'no picture has a label'),
    (('success/failure/0.jpg',), 'lies in success/ and in failure/')])
def test_missing_labels_are_one_line(tmp_path, capsys, names, expected):
    write(tmp_path / 'lab', *names)
    extract(tmp_path / 'lab', '--out', tmp_path / 'set', rc=1)
    error = capsys.readouterr().err
    assert expected in error and error.count('\n') == 1


def test_a_folder_with_a_bag_and_pictures_is_refused(tmp_path, capsys):
    write(tmp_path / 'lab', *both('0.jpg'))
    write_mcap(tmp_path / 'lab/a.mcap', raw_messages(2))
    extract(tmp_path / 'lab', '--out', tmp_path / 'set', rc=1)
    assert 'holds a bag (a.mcap) and 2 pictures' in capsys.readouterr().err


def test_results_beside_bags_are_no_recordings(tmp_path, capsys):
    for name in ('one', 'two'):
        (tmp_path / f'bags/{name}').mkdir(parents=True)
        write_mcap(tmp_path / f'bags/{name}/a.mcap', raw_messages(2))
    write(tmp_path / 'bags/one-inspection', 'contact_sheet.png')
    write(tmp_path / 'bags/evaluation', 'label_errors/0.jpg')
    (tmp_path / 'bags/evaluation/report.html').touch()
    extract(tmp_path / 'bags', '--label', 'success', '--split', '1/0/0', '--out', tmp_path / 'set')
    assert 'set: 4 frames' in capsys.readouterr().out


def test_splits_of_folders_are_kept_and_their_leaks_reported(tmp_path, capsys):
    names = [f'{split}/{name}' for split in ('train', 'validation', 'test')
             for name in both('0.jpg', '1.jpg')]
    write(tmp_path / 'lab', *names)
    (tmp_path / 'lab/test/success/2.jpg').write_bytes(
        (tmp_path / 'lab/train/success/0.jpg').read_bytes())
    extract(tmp_path / 'lab', '--out', tmp_path / 'set')
    splits = [row.split for row in read_manifest(tmp_path / 'set')]
    assert [splits.count(split) for split in ('train', 'val', 'test')] == [4, 4, 5]
    assert 'WRONG: 1 frame leaks between splits' in capsys.readouterr().out
    assert inspect_main([str(tmp_path / 'lab'), '--out', str(tmp_path / 'page')]) == 1
    assert adapt_main(['cifar_cnn_rig', str(tmp_path / 'lab'), '--ways', 'head',
                       '--out', str(tmp_path / 'all.safetensors')]) == 0
    assert '13 frames with a label' in capsys.readouterr().out


def test_what_is_no_picture_is_left_out_with_a_reason(tmp_path, capsys, random_checkpoint):
    lab = write(tmp_path / 'lab', *both('0.JPG', '1.jpeg', '._2.jpg'), '__MACOSX/success/3.jpg')
    (lab / 'success/cut\n.jpg').write_bytes(encode_jpeg(picture(9))[:-30])
    (lab / 'success/In.HEIC').touch()
    (lab / 'failure/gone').symlink_to(tmp_path / 'nothing.jpg')
    os.mkfifo(lab / 'success/pipe.jpg')
    outside = write(tmp_path / 'other', 'x.jpg') / 'x.jpg'
    (lab / 'success/link.jpg').symlink_to(outside)
    (lab / 'success/inner.jpg').symlink_to(lab / 'success/0.JPG')
    (lab / os.fsdecode(b'success/caf\xe9.png')).write_bytes(encode_png(picture(20)))
    extract(lab, '--out', tmp_path / 'set')
    out = capsys.readouterr().out
    # The inner link is a picture, in one attempt with it; the refused one is in none.
    assert 'lab: 6 of 7 pictures\n  5 attempts' in out
    assert '1 .heic file, 1 broken link, 1 link out of the folder, 1 no regular file' in out
    unread = {'failure/gone': 'broken link; put the picture itself here',
              'success/In.HEIC': '.heic cannot be read; convert it to .jpg'}
    named = ('failure/gone (broken link; put the picture itself here), success/In.HEIC (.heic '
             'cannot be read; convert it to .jpg), success/cut\\n.jpg (truncated)')
    assert f'refused: 1 truncated\n    {named}\n' in out
    refused = {'success/cut\n.jpg': 'truncated'}
    sources = json.loads((tmp_path / 'set/dataset.json').read_text())['sources']
    assert sources['lab']['refused_files'] == refused
    assert sources['lab']['unread_files'] == unread
    inspect_main([str(tmp_path / 'set'), '--out', str(tmp_path / 'page'), '--jobs', '1'])
    page = (tmp_path / 'page/index.html').read_text()
    for name in ('failure/gone', 'success/In.HEIC', 'success/cut\\n.jpg'):
        assert f'<code>lab/{name}</code>' in page
    evaluate_main([str(random_checkpoint), str(lab), '--out', str(tmp_path / 'judged')])
    assert f'  not read: {named}\n' in capsys.readouterr().out
    sources = json.loads((tmp_path / 'judged/metrics.json').read_text())['sources']
    assert sources['lab']['refused_files'] == refused
    assert sources['lab']['unread_files'] == unread
    page = (tmp_path / 'judged/report.html').read_text(encoding='utf-8')
    assert 'not read: success/cut\\n.jpg (truncated)' in page
    assert 'not read: failure/gone (broken link; put the picture itself here)' in page
    shutil.copytree(lab, tmp_path / 'phone', ignore=shutil.ignore_patterns(
        '*.jp*g', '*.JPG', '*.png'), symlinks=True)
    assert extract_main([str(tmp_path / 'phone'), '--out', str(tmp_path / 'none')]) == 1
    assert 'phone: no picture can be read: ' in capsys.readouterr().err


def test_a_zip_is_read_and_a_hostile_one_refused(tmp_path, capsys):
    lab = write(tmp_path / 'lab', *both('0.jpg', '1.jpg'))
    with zipfile.ZipFile(tmp_path / 'lab.zip', 'w') as archive:
        for path in sorted(lab.rglob('*.jpg')):
            archive.write(path, f'lab/{path.relative_to(lab)}')
    extract(tmp_path / 'lab.zip', '--out', tmp_path / 'set')
    assert len(read_manifest(tmp_path / 'set')) == 4
    for name, content, expected in (
            ('../up.jpg', b'x', 'names files outside of it'),
            ('bomb.bmp', bytes(600 << 20), 'bytes unpack to')):
        with zipfile.ZipFile(tmp_path / 'evil.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        extract(tmp_path / 'evil.zip', '--out', tmp_path / 'no', rc=1)
        assert expected in capsys.readouterr().err
    (tmp_path / 'no.zip').write_bytes(b'PK')
    extract(tmp_path / 'no.zip', '--out', tmp_path / 'no', rc=1)
    assert 'not a readable zip file' in capsys.readouterr().err


def test_single_pictures_keep_the_labels_of_their_folders(tmp_path):
    lab = write(tmp_path / 'lab', *both('0.jpg', '1.jpg', '2.jpg'))
    extract(lab / 'success/0.jpg', lab / 'failure/*.jpg', '--out', tmp_path / 'set')
    assert sorted(rows_of(tmp_path / 'set')) == [
        'lab__failure_0.jpg', 'lab__failure_1.jpg', 'lab__failure_2.jpg', 'lab__success_0.jpg']


def test_each_picture_is_judged_alone(tmp_path, capsys, random_checkpoint):
    write(tmp_path / 'lab', *both(*(f'{i}.jpg' for i in range(3))))
    assert evaluate_main([str(random_checkpoint), str(tmp_path / 'lab'),
                          '--out', str(tmp_path / 'out')]) == 0
    out = capsys.readouterr().out
    assert 'lab: 6 pictures, 6 attempts (each picture on its own)' in out
    assert '0 unknown' in out and 'first decision' not in out
    assert 'judged by 6 attempts only' in out


def test_pictures_of_one_attempt_with_other_labels_are_judged_apart(
        tmp_path, capsys, random_checkpoint):
    write(tmp_path / 'lab', *(f'failure/take{t}_1.jpg' for t in range(3)),
          *(f'success/take{t}_{i}.jpg' for t in range(2) for i in (2, 3)))
    assert evaluate_main([str(random_checkpoint), str(tmp_path / 'lab'),
                          '--out', str(tmp_path / 'out')]) == 0
    assert '5 attempts (names with a running number)' in capsys.readouterr().out
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert {(entry['attempt'], entry['outcome'], entry['frames'])
            for entry in metrics['attempts']} == {
        *((f'lab/take{t} (failure)', 'failure', 1) for t in range(2)),
        *((f'lab/take{t} (success)', 'success', 2) for t in range(2)),
        ('lab/take2', 'failure', 1)}


def test_few_attempts_get_larger_shares():
    labels = [Label.SUCCESS] * 3 + [Label.FAILURE] * 9
    assert shares_of_few(range(12), labels, (.7, .15, .15)) == pytest.approx((1 / 3,) * 3)
    assert shares_of_few(range(4), labels[1:5], (.7, .15, .15)) == (.5, 0, .5)
    split_of, drawn = completed_split('abcd', labels[1:5], ['', '', 'test', 'test'],
                                      (.7, .15, .15), 0)
    assert split_of['c'] == split_of['d'] == 'test' and drawn == ['train', 'val']


@pytest.mark.slow
def test_frames_that_a_checkpoint_learnt_from_are_noticed(tmp_path, capsys):
    """In any form: the pictures, a data set made of them, and a bag beside one made of it."""
    lab = write(tmp_path / 'lab', *both(*(f'{i}.webp' for i in range(4))))
    for path in lab.rglob('*.webp'):
        Image.open(path).save(path, 'WEBP')
    (lab / 'failure/cut.jpg').write_bytes(encode_jpeg(picture(9))[:-30])
    adapted, trained = tmp_path / 'adapted.safetensors', tmp_path / 'run/classifier.safetensors'
    assert adapt_main(['cifar_cnn_rig', str(lab), '--out', str(adapted)]) == 0
    out = capsys.readouterr().out
    assert 'not decoded: 1 truncated\nnot read: lab/failure/cut.jpg (truncated)\n' in out
    told = json.loads((tmp_path / 'adapted.adaptation.json').read_text())
    assert told['refused_files'] == {'lab/failure/cut.jpg': 'truncated'}
    bag = write_mcap(tmp_path / 'take.mcap', raw_messages(12))
    extract(lab, '--resize', '24x24', '--out', tmp_path / 'set')
    extract(bag, '--label', 'success', '--out', tmp_path / 'one label')
    rows = read_manifest(tmp_path / 'one label')
    training = with_record([row.hash for row in rows if row.split == 'train'],
                           Checkpoint.open(adapted).metadata.training)
    save(tmp_path / 'both.safetensors', Checkpoint.open(adapted).model, replace(
        Checkpoint.open(adapted).metadata, training=training))
    trained = sum(row.split == 'train' for row in rows)
    for name, data, learnt in (
            ('adapted', lab, '8 of 8'), ('adapted', tmp_path / 'set', '8 of 8'),
            ('adapted', bag, None), ('both', lab, '8 of 8'), ('both', bag, f'{trained} of 12')):
        out = tmp_path / f'{name} {Path(data).name}'
        evaluate_main([str(tmp_path / f'{name}.safetensors'), str(data), '--out', str(out),
                       *(['--split', 'all'] if data == tmp_path / 'set' else [])])
        said = f'{learnt} frames were used to make this checkpoint'
        assert (f'note: {said}' in capsys.readouterr().out) == (learnt is not None)
        assert (said in (out / 'report.html').read_text()) == (learnt is not None)


@pytest.mark.slow
def test_two_pictures_of_each_label_train_a_classifier(tmp_path, capsys):
    write(tmp_path / 'lab', *both('0.jpg', '1.jpg'))
    arguments = ['--arch', 'cifar_cnn', '--no-pretrained', '--epochs', '1',
                 '--samples-per-class', '32', '--out', str(tmp_path / 'run')]
    assert train_main([str(tmp_path / 'lab'), *arguments]) == 0
    out = capsys.readouterr().out
    assert 'the training frames stand in for it' in out and 'judged by 2 attempts' in out
    assert len(read_manifest(tmp_path / 'run/dataset')) == 4
    write(tmp_path / 'one', *both('0.jpg'))
    assert train_main([str(tmp_path / 'one'), *arguments[:-1], str(tmp_path / 'no')]) == 1
    assert 'these splits lack frames of a label' in capsys.readouterr().err
    assert not (tmp_path / 'no').exists()


@pytest.mark.slow
def test_pictures_have_no_times_and_are_judged_alone_beside_a_bag(
        tmp_path, random_checkpoint, capsys):
    write(tmp_path / 'lab', *both(*(f'{i}.jpg' for i in range(3))))
    bag = write_mcap(tmp_path / 'bag.mcap', raw_messages(12, height=48, width=64))
    assert evaluate_main([str(random_checkpoint), str(tmp_path / 'lab'), str(bag),
                          '--out', str(tmp_path / 'out')]) == 0
    assert 'lab: 6 pictures' in capsys.readouterr().out
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert metrics['decision']['min_frames'] == 3
    pictures = [entry for entry in metrics['attempts'] if entry['source'] == 'lab']
    assert len(pictures) == 6 and {entry['verdict'] for entry in pictures} <= {
        'success', 'failure'}
    assert all(entry[name] is None for entry in pictures
               for name in ('first_decision_s', 'success_delay_s', 'false_true_s'))
    assert metrics['all']['times']['first_decision_s'] == {
        'attempts': 0, 'mean': None, 'median': None, 'max': None}
    page = (tmp_path / 'out/report.html').read_text(encoding='utf-8')
    chart = page[page.index('P(success) during lab/'):]
    assert '>pictures<' in chart and 'lab/failure/0.jpg at ' not in page
    assert page.count('first decided after') == 1   # of the bag


@pytest.mark.slow
def test_the_same_picture_in_two_sources_needs_dedupe(tmp_path, capsys):
    for name in ('monday', 'tuesday'):
        write(tmp_path / name, *both(*(f'{i}.jpg' for i in range(8))))
    arguments = [str(tmp_path / 'monday'), str(tmp_path / 'tuesday'), '--arch', 'cifar_cnn',
                 '--epochs', '1', '--samples-per-class', '32', '--out', str(tmp_path / 'run')]
    assert train_main(arguments) == 1
    assert 'run the same command with --dedupe' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
    assert train_main([*arguments, '--dedupe']) == 0
    assert '16 near duplicates left out' in capsys.readouterr().out
    assert len(read_manifest(tmp_path / 'run/dataset')) == 16


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['bag', 'video'])
def test_train_and_inspect_take_bags_and_videos_directly(tmp_path, capsys, kind):
    if kind == 'bag':
        source = write_mcap(tmp_path / 'take.mcap', raw_messages(12))
        period = PERIOD_NS / 1e9
    else:
        source = write_video(tmp_path / 'take.mp4', 12)
        period = .1
    table = ['source,start_s,end_s,label,attempt']
    for attempt in range(4):
        first = (3 * attempt - .5) * period
        table.append(f'take,{max(first, 0):.4f},{first + 3 * period:.4f},'
                     f'{("failure", "success")[attempt % 2]},{attempt}')
    (tmp_path / 'labels.csv').write_text('\n'.join(table) + '\n')
    labels = ['--labels', str(tmp_path / 'labels.csv')]
    assert train_main([str(source), *labels, '--arch', 'cifar_cnn', '--epochs', '1',
                       '--samples-per-class', '32', '--out', str(tmp_path / 'run')]) == 0
    assert len(read_manifest(tmp_path / 'run/dataset')) == 12
    capsys.readouterr()
    code = inspect_main([str(source), *labels, '--out', str(tmp_path / 'page'), '--jobs', '1'])
    out = capsys.readouterr().out
    assert '12 frames; pictures and distributions' in out
    assert code == ('WRONG' in out) and (tmp_path / 'page/index.html').is_file()
