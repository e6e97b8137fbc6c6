"""label_attempts: label recordings and pictures by hand, on a page in the browser."""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import sys
import tempfile
import threading
from typing import Any
import webbrowser

from grasp_success_detector.console import command, command_parser, counted, ExitCode, needing
from grasp_success_detector.errors import LabellingError
from grasp_success_detector.files import checkpoint_path
from grasp_success_detector.labelling import BACKGROUND
from grasp_success_detector.recordings.ground_truth import AttemptsFrom
from grasp_success_detector.recordings.sources import find_sources, Source, SourceKind

EPILOG = """\
examples:
  label_attempts bags/monday bags/tuesday --out labels.csv
      cut into attempts; the doubtful ones come first, as the shipped checkpoint sees them
  label_attempts take.mp4 --out labels.csv --checkpoint runs/first/classifier.safetensors
      suggestions of your own checkpoint
  label_attempts photographs --out labels.csv
      a folder of pictures: a grid, with the same keys
  label_attempts bags/monday --out labels.csv --adapt
      adapts the checkpoint after every tenth label, into labels.adapted.safetensors, and shows
      how accurate it is

Keys on the page: s success from here, f failure from here, u leave out, arrows frame by frame,
space play, enter next, z undo, ? all keys. Every key is on the disk before the next one; stopped
at any time, the same command goes on. The page is for this machine only, and its address holds a
secret. On another machine: ssh -L 8123:localhost:8123 ROBOT, there with --port 8123.

exit codes: 0 finished on the page, 1 wrong input, 2 wrong option, 130 Ctrl-C (nothing is lost)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, open the sources, and serve the page until it is finished."""
    code: Any = ExitCode.ERROR
    try:
        code = _served(argv)
        return int(code)
    except SystemExit as end:
        code = end.code
        raise
    finally:
        # A thread that judges cannot be interrupted, and Python's end could crash in it. A caller
        # with arguments of its own is no console script, and lives on.
        if argv is None and any(
                thread.name.startswith(BACKGROUND) for thread in threading.enumerate()):
            os._exit(code)


@command
def _served(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    sources = find_sources(args.sources)
    checkpoint = checkpoint_path(args.checkpoint)
    # Slow to import: only once the arguments are known to be fine.
    with needing('label', 'label_attempts'):
        from grasp_success_detector.labelling.server import LabellingServer
    from grasp_success_detector.hand.model import read_hand
    from grasp_success_detector.labelling.adaptation import Adapter
    from grasp_success_detector.labelling.frame_cache import FrameCache
    from grasp_success_detector.labelling.hand import Hands
    from grasp_success_detector.labelling.journal import Journal
    from grasp_success_detector.labelling.judging import Judging
    from grasp_success_detector.labelling.label_files import (
        IntervalsFile,
        names_in_file,
        PicturesFile,
    )
    from grasp_success_detector.labelling.material import Material, open_pictures, open_recording
    from grasp_success_detector.labelling.session import keys_of, Session
    from grasp_success_detector.labelling.store import LabelStore

    attempts_from = AttemptsFrom(args.attempts_from)

    def opened(source: Source, unpacked: Path) -> Material:
        return open_recording(source, args.topic, unpacked, attempts_from)

    pictured = sources[0].kind is SourceKind.PICTURES
    if any((source.kind is SourceKind.PICTURES) is not pictured for source in sources):
        raise LabellingError('recordings and pictures have label files of different columns; '
                             'label them one after the other, each into a --out of its own')
    if not args.out.parent.is_dir():
        raise LabellingError(f'{args.out.parent}: no such folder for the label file; create it')
    with tempfile.TemporaryDirectory() as unpacked, Journal(args.out) as journal:
        materials = keys_of([
            open_pictures(source) if pictured else
            opened(source, Path(unpacked)) for source in sources])
        names = dict(zip(materials, names_in_file(sources), strict=True))
        store = LabelStore(args.out, journal, PicturesFile(args.out, materials) if pictured else
                           IntervalsFile(args.out, materials, names))
        pictures = FrameCache(materials)
        judging = Judging(store.sources, pictures, checkpoint, Hands(read_hand(), materials))
        session = Session(
            materials, store, pictures, judging,
            lambda material: opened(material.source, Path(unpacked)))
        server = LabellingServer(session, args.port)
        # As after Ctrl-C: the default would leave the temporary folder.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            session.start()
            if args.adapt:
                topic = [] if args.topic is None else ['--topic', args.topic]
                session.adapter = Adapter(
                    checkpoint, [str(source.path) for source in sources], args.out,
                    store.attempts_text, topic, session.adapted)
            print(f'{counted(len(sources), "source")}; {session.summary()}\n'
                  f'labels: {args.out}\npage:   {server.address}', flush=True)
            if args.browser:
                threading.Thread(target=_open_browser, args=(server.address,), daemon=True).start()
            server.run()
        finally:
            session.close()
            print(f'{args.out}: {session.summary()}; the same command goes on', flush=True)
    return ExitCode.OK


def _open_browser(address: str) -> None:
    """Open the page, where there is a screen; in a terminal a browser would hide the address."""
    screen = sys.platform == 'darwin' or os.environ.get('DISPLAY') or os.environ.get(
        'WAYLAND_DISPLAY')
    if not screen or not webbrowser.open(address):
        print('no browser can be opened here: open the address above in one', file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('sources', nargs='+', metavar='SOURCE',
                        help='bags, videos, folders or zip files of pictures, or globs')
    parser.add_argument('--out', type=Path, required=True, metavar='CSV',
                        help='label file; one of an earlier session is gone on with')
    parser.add_argument('--topic', metavar='TOPIC', help='image topic of bags that have several')
    parser.add_argument('--attempts-from', default=AttemptsFrom.RECORDING.value,
                        choices=[where.value for where in AttemptsFrom],
                        help="by what recordings are cut: recording (its messages, labels, the "
                        "hand's motion, pauses or pictures; the default) or driver: only commands "
                        "and joints of the hand's driver")
    parser.add_argument('--checkpoint', default='', metavar='CHECKPOINT',
                        help='suggests labels, and says which attempts are doubtful: a file, or '
                        'the name of a shipped one (the default one)')
    parser.add_argument('--adapt', action='store_true',
                        help='adapt the checkpoint after every tenth label, in the background')
    parser.add_argument('--port', type=int, default=0, metavar='N',
                        help='port on 127.0.0.1 (any free one)')
    parser.add_argument('--no-browser', dest='browser', action='store_false',
                        help='only print the address of the page')
    return parser


if __name__ == '__main__':
    raise SystemExit(main(None))
