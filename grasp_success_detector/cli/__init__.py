"""
The commands of the package; importing it changes how errors that end the process are printed.

Modules of commands import for a while before ``main`` can catch anything: there Ctrl-C ends
quietly, and a package of an extra that is not installed is named in one line.
"""

import os
import sys
from types import TracebackType

_INTERRUPTED = 130  # console.ExitCode.INTERRUPTED, whose module may not have been loaded yet
_before = sys.excepthook


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print('interrupted', file=sys.stderr, flush=True)
        os._exit(_INTERRUPTED)
    if issubclass(kind, ModuleNotFoundError):
        from grasp_success_detector.console import missing_package

        if text := missing_package(error):
            print(text, file=sys.stderr)
            return
    _before(kind, error, trace)


sys.excepthook = _end
