"""The images of CIFAR-10, or of any data set of ten classes, held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.folder import find_classes, IMG_EXTENSIONS, make_dataset

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.errors import DatasetError, ImageDecodeError, one_line
from grasp_success_detector.images.decoding import read_image, RgbImage
from grasp_success_detector.images.preprocessing import Preprocessing

CLASSES = 10
_SPLITS = ('train', 'test')


@dataclass(frozen=True)
class LabelledImages:
    """
    The images of one split.

    :ivar images: RGB uint8 (N, h, w, 3).
    :ivar labels: int64 (N,), index into ``class_names``.
    """

    images: torch.Tensor
    labels: torch.Tensor
    class_names: tuple[str, ...]


def read_images(folder: Path, preprocessing: Preprocessing, download: bool = False,
                ) -> tuple[LabelledImages, LabelledImages]:
    """
    Read the training and the test images of a folder.

    :param folder: holds ``train/`` and ``test/`` with a folder of jpeg or png files for each of
        ten classes, as for torchvision's ImageFolder, or its CIFAR10's ``cifar-10-batches-py``.
    :param preprocessing: gives the size to crop and scale to.
    :param download: fetch CIFAR-10 into the folder first, where it is not there yet.
    :returns: training images, test images.
    :raises DatasetError: the folder holds no such data, or images cannot be read.
    """
    if download or (folder / CIFAR10.base_folder).is_dir():
        return _read_torchvision(folder, download)
    if missing := [name for name in _SPLITS if not (folder / name).is_dir()]:
        found = 'is no folder' if not folder.is_dir() else f'has no {" and no ".join(missing)}'
        raise DatasetError(
            f'{folder}: {found}; expected the folders train and test with one folder for each of '
            f"{CLASSES} classes, or torchvision's {CIFAR10.base_folder} (--download fetches it)")
    splits = [_list_files(folder / name) for name in _SPLITS]
    if differ := set(splits[0][0]) ^ set(splits[1][0]):
        raise DatasetError(f'{folder}: train and test have different classes; only one has '
                           f'{", ".join(sorted(differ))}')
    with progress_bar(stderr_console()) as progress:
        task = progress.add_task('reading images', total=sum(len(files) for _, files in splits))
        read, faults = [], []
        for names, files in splits:
            images = np.empty((len(files), preprocessing.height, preprocessing.width, 3), np.uint8)
            for i, (path, _) in enumerate(files):
                try:
                    images[i] = preprocessing.crop_and_resize(read_image(path))
                except ImageDecodeError as error:
                    faults.append(str(error))
                progress.advance(task)
            read.append(_labelled(images, [label for _, label in files], names))
    if faults:
        more = f'; and {len(faults) - 10} more' if len(faults) > 10 else ''
        raise DatasetError(f'{folder}: {len(faults)} images cannot be read: '
                           f'{"; ".join(faults[:10])}{more}')
    return read[0], read[1]


def _list_files(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the classes, and the files with their class, in alphabetical order."""
    try:
        names, indexes = find_classes(str(folder))
    except FileNotFoundError:
        names, indexes = [], {}
    if len(names) != CLASSES:
        raise DatasetError(f'{folder}: has {len(names)} classes ({", ".join(names) or "none"}); '
                           f'expected {CLASSES} folders, one for each class')
    files = make_dataset(str(folder), indexes, IMG_EXTENSIONS, allow_empty=True)
    if empty := [name for name in names if indexes[name] not in {label for _, label in files}]:
        raise DatasetError(f'{folder}: no images in {", ".join(empty)}')
    return names, files


def _read_torchvision(folder: Path, download: bool) -> tuple[LabelledImages, LabelledImages]:
    try:
        train, test = (CIFAR10(folder, train=split == 'train', download=download)
                       for split in _SPLITS)
    except (OSError, RuntimeError) as error:
        advice = ('bring cifar-10-python.tar.gz into the folder by other means' if download
                  else '--download fetches it again')
        raise DatasetError(
            f'{folder}: CIFAR-10 cannot be read or downloaded ({one_line(error)}); {advice}'
            ) from error
    return (_labelled(train.data, train.targets, train.classes),
            _labelled(test.data, test.targets, test.classes))


def _labelled(images: RgbImage, labels: Sequence[int], names: Sequence[str]) -> LabelledImages:
    return LabelledImages(torch.from_numpy(np.ascontiguousarray(images)),
                          torch.tensor(labels, dtype=torch.int64), tuple(names))
