"""
grasp_demo: start the detector as a process, play a bag to it in real time, show its verdicts.

A picture of them is drawn at the end.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
import errno
from pathlib import Path
import tempfile

from rich.console import Console, RenderableType
from rich.live import Live

from grasp_success_detector.console import command, command_parser, ExitCode
from grasp_success_detector.decision import NS_PER_S
from grasp_success_detector.errors import ConfigError
from grasp_success_detector.evaluation.single_pictures import decide_picture
from grasp_success_detector.files import (
    CHECKPOINT_HELP,
    checkpoint_path,
    DEFAULT_CHECKPOINT,
    FUSED_SAMPLE_BAG,
    SAMPLE_BAG,
    SAMPLE_CHECKPOINT,
    share_path,
    WORLD_SAMPLE_BAG,
    write_whole,
)
from grasp_success_detector.images.encoding import encode_png
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.inference.engine import AUTO
from grasp_success_detector.labels import Verdict
from grasp_success_detector.ros.process import full_arguments, own_arguments, ros_process
from grasp_success_detector.ros.tools import demo_view, verdict_recorder
from grasp_success_detector.ros.tools.bag_player import Playback
from grasp_success_detector.ros.tools.demo_bag import DemoBag, read_demo_bag
from grasp_success_detector.settings import add_options, given_options

EPILOG = """examples:
  grasp_demo
  grasp_demo --bag my_recording --checkpoint my.safetensors --output my_demo.png
  grasp_demo --fused
      two cameras and the hand's joint states, fused to one verdict

While it runs, any ROS 2 process with the same ROS_DOMAIN_ID can subscribe to /grasp_success.

exit codes: 0 frames and verdicts came through, 1 bad bag or checkpoint, 2 usage, 3 no verdict
came through, 130 interrupted"""


#: Share of frames answered below which the demo says why some were not.
_MOST_ANSWERED = .95


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = command_parser(__doc__, EPILOG)
    parser.add_argument('--bag', type=Path, help='bag to play (default: a sample that ships)')
    parser.add_argument('--checkpoint', type=Path, help=f'{CHECKPOINT_HELP} (the first; for the '
                        f'sample of one camera {SAMPLE_CHECKPOINT})')
    parser.add_argument('--fused', action='store_true', help='one verdict of all cameras and '
                        'joint states of the bag, which simulate_grasps --cameras recorded')
    add_options(parser, Playback, 'rate')
    parser.add_argument('--output', type=Path, default=Path('demo.png'), metavar='PNG',
                        help='picture to write (demo.png)')
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the demo and write its picture."""
    arguments = full_arguments(argv, 'grasp_demo')
    options = build_parser().parse_args(own_arguments(arguments))
    with _writing(options.output):      # before the run: can it be written?
        if options.output.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'it is a folder')
        options.output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.output.parent).close()
    playback = Playback(**given_options(Playback, options))
    sample = FUSED_SAMPLE_BAG if options.fused else SAMPLE_BAG
    bag = read_demo_bag(options.bag or share_path(sample), options.fused)
    given = options.checkpoint or (
        None if options.bag or options.fused else SAMPLE_CHECKPOINT)
    parameters = {'checkpoint': str(checkpoint_path(given).resolve())} if given else {}
    console = Console()
    with ros_process(arguments):
        recorder = verdict_recorder.VerdictRecorder('grasp_demo', not options.fused)
        view = _View(bag, recorder)
        with (Live(console=console, refresh_per_second=8, transient=True, get_renderable=view.live)
              if console.is_terminal else nullcontext()):
            verdict_recorder.play_to_detector(recorder, bag, playback.rate, parameters,
                             view.set_phase if console.is_terminal else view.print_finished)
    if not console.is_terminal:
        view.print_finished()
    answers = recorder.matched()[0].answers
    if all(answer.verdict is Verdict.UNKNOWN for answer in answers.values()):
        console.print(
            f'no verdict came through: {len(recorder.frames)} frames seen, {len(answers)} '
            'answered; is another process on this ROS_DOMAIN_ID in the way?', soft_wrap=True)
        return ExitCode.NOTHING_DONE
    latency_ms = (demo_view.median_latency_s(answers) or 0.) * 1e3
    summary = (f'{len(recorder.frames)} frames, {len(answers)} answered, median latency '
               f'{latency_ms:.0f} ms')
    results = [demo_view.result_of(attempt, answers) for attempt in bag.attempts]
    if known := [result.correct for result in results if result.correct is not None]:
        summary = f'{sum(known)} of {len(known)} attempts correct; {summary}'
    console.print(demo_view.result_table(results))
    console.print(summary, highlight=False)
    if len(answers) < _MOST_ANSWERED * len(recorder.frames):
        console.print('the node judges the newest frame and leaves out those that came while it '
                      'was busy; with too few answers it says UNKNOWN: on a slow or busy machine '
                      'try grasp_demo --rate 0.5', soft_wrap=True)
    stills = [] if options.bag or options.fused else _stills(console)
    stamps = {stamp for result in results for stamp in demo_view.chosen_answers(result)}
    kind = 'simulated grasp attempts' if bag.simulated else f'frames of {bag.path.name}'
    picture = demo_view.draw_demo(results, bag.frames(stamps), bag.truth,
                                  f'grasp_success_detector: verdicts on {kind}', summary, stills)
    with _writing(options.output):
        write_whole(options.output, encode_png(picture))
    console.print(f'picture: {options.output}', soft_wrap=True, highlight=False)
    return ExitCode.OK


def _stills(console: Console) -> list[demo_view.Still]:
    """Judge the single pictures that ship with the default checkpoint, and say how it did."""
    bag = read_demo_bag(share_path(WORLD_SAMPLE_BAG))
    classifier = GraspClassifier.from_checkpoint(
        share_path(DEFAULT_CHECKPOINT), 'cpu', engine=AUTO, precision=AUTO)
    stills = [demo_view.still(frame, decide_picture(classifier, frame), bag.truth[stamp])
              for stamp, frame in sorted(bag.frames(bag.truth).items())]
    unknown = sum(still.answer.verdict is Verdict.UNKNOWN for still in stills)
    right = sum(still.correct for still in stills)
    console.print(f'{len(stills)} single pictures of other simulated hands and cameras, by '
                  f'{Path(DEFAULT_CHECKPOINT).stem}: {right} correct, {unknown} UNKNOWN, '
                  f'{len(stills) - right - unknown} wrong', highlight=False, soft_wrap=True)
    return stills


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Turn an OSError in the block, which writes the picture, into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f'--output {output}: cannot be written ({error.strerror}); expected the '
                          'name of a picture in a folder that can be written to') from error


class _View:
    """What is shown during the run: a panel on a terminal, else a line for each attempt."""

    def __init__(self, bag: DemoBag, recorder: verdict_recorder.VerdictRecorder) -> None:
        self._bag, self._recorder = bag, recorder
        self._phase = ''
        self._waiting = list(bag.attempts)      # attempts without a line yet

    def set_phase(self, phase: str) -> None:
        """Show ``phase`` as the panel's subtitle from now on."""
        self._phase = phase

    def live(self) -> RenderableType:
        """Return the panel with the current verdict."""
        frames = self._recorder.frames
        return demo_view.live_view(
            self._bag, frames, self._recorder.matched()[0].answers, self._phase)

    def print_finished(self, phase: str | None = None) -> None:
        """Print a line for each attempt that is over, or, if ``phase`` is None, for all."""
        while self._waiting:
            newest_ns = self._recorder.frames[-1].stamp_ns if self._recorder.frames else 0
            # A little later, so that the verdict on its last frame is in.
            due_ns = self._waiting[0].end_ns + verdict_recorder.LAST_VERDICT_S * NS_PER_S
            if phase is not None and newest_ns <= due_ns:
                return
            answers = self._recorder.matched()[0].answers
            print(demo_view.attempt_line(demo_view.result_of(self._waiting.pop(0), answers)),
                  flush=True)


if __name__ == '__main__':
    raise SystemExit(main(None))
