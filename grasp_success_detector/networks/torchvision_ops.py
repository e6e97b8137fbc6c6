"""
Make torchvision, and timm, importable with a torch they were not linked with.

PyPI's torchvision is linked against CUDA. Beside a CPU-only torch its operators cannot load, and
``import torchvision`` ends with ``operator torchvision::nms does not exist``. This package needs
none of them, so declaring two schemas is enough. Import this module before torchvision, timm,
lightning or torchmetrics; it declares nothing where torchvision's own operators load.
"""

from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from importlib.util import find_spec
import sys
from typing import Any

import torch

_SCHEMAS = {
    name: f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    for name in ('nms', 'qnms')}

# A library's declarations live as long as this object does.
_declared: list[torch.library.Library] = []


def declare_missing_operators() -> tuple[str, ...]:
    """
    Declare the missing operators that ``import torchvision`` needs, and return their names.

    torchvision's compiled operators are loaded first: they would clash with a schema declared
    before them. torchvision loads them again later, which has no effect.
    """
    if 'torchvision' in sys.modules or _load_compiled_operators():
        return ()
    missing = tuple(name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name))
    if missing:
        library: Any = torch.library.Library('torchvision', 'FRAGMENT')
        for name in missing:
            library.define(_SCHEMAS[name])
        _declared.append(library)
    return missing


def _load_compiled_operators() -> bool:
    """Load torchvision's ``_C`` library as torchvision does; return whether that was possible."""
    package = find_spec('torchvision')  # finds a top-level package without running it
    for folder in (package.submodule_search_locations or ()) if package else ():
        extension = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES)).find_spec('_C')
        if extension is not None and extension.origin is not None:
            try:
                torch.ops.load_library(extension.origin)
            except OSError:  # a shared library it is linked with (libtorch_cuda.so) is not here
                return False
            return True
    return False


declare_missing_operators()
