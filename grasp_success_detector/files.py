"""Where the files lie that ship with the package: checkpoints, sample bag, configuration."""

from pathlib import Path

from grasp_success_detector.errors import ResourceError

DEFAULT_CHECKPOINT = 'models/efficientnet_lite0_rig.safetensors'
SAMPLE_BAG = 'samples/rig_attempts'


def share_path(relative: str) -> Path:
    """
    Return the absolute path of a shipped file.

    A source tree (also one that colcon or pip link to) is looked at first, then
    ``<prefix>/share/grasp_success_detector``, where both pip and colcon install data files.

    :param relative: path below the share folder, such as ``'models/x.safetensors'``.
    :raises ResourceError: the file is in none of these places.
    """
    package = Path(__file__).resolve().parent
    roots = [package.parent] if (package.parent / 'package.xml').is_file() else []
    roots += [parent / 'share' / 'grasp_success_detector' for parent in package.parents[:5]]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise ResourceError(
        f'{relative}: this file of grasp_success_detector is not installed; looked in '
        f'{", ".join(map(str, roots))}; install the package again')
