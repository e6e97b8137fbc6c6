"""Read pictures that a classifier is to call unfamiliar: without a hand, taken for one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grasp_success_detector.console import progress_bar, stderr_console
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.images.preprocessing import Preprocessing
from grasp_success_detector.inference.hand_finder import look
from grasp_success_detector.training.hand_finder import read_examples


def read_without_hand(bags: Sequence[str], preprocessing: Preprocessing,
                      ) -> list[NDArray[np.uint8]]:
    """
    Return what a classifier is shown of pictures without a hand, RGB uint8 (h, w, 3) each.

    Where it looks for the hand first, only pictures in which one is found are returned.

    :param bags: recorded with ``simulate_grasps --preset world``, or ``--without-hand``.
    :raises DatasetError: a bag is of another kind, or none holds such a picture.
    """
    images = []
    with progress_bar(stderr_console()) as progress:
        for bag in progress.track(bags, description='pictures without a hand'):
            views = [look(example.image, preprocessing)
                     for example in read_examples(Path(bag), None) if example.box is None]
            images += [view.image for view in views if not view.no_hand]
    if bags and not images:
        raise DatasetError(f'{", ".join(bags)}: no picture without a hand is taken for one')
    return images
