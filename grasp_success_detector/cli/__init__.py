"""The commands of the package; importing it makes Ctrl-C end quietly while they still load."""

import os
import sys
from types import TracebackType

_INTERRUPTED = 130  # console.ExitCode.INTERRUPTED, whose module may not have been loaded yet
_before = sys.excepthook


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _before(kind, error, trace)
        return
    print('interrupted', file=sys.stderr, flush=True)
    os._exit(_INTERRUPTED)


sys.excepthook = _end
