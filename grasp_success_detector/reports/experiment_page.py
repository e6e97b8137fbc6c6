"""The page of the original experiment, in Markdown: accuracy by epoch, and the new pictures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grasp_success_detector.console import counted
from grasp_success_detector.evaluation.comparison import Comparison, Duel
from grasp_success_detector.evaluation.frame_sources import label_origin
from grasp_success_detector.evaluation.metrics import Accuracy
from grasp_success_detector.labels import CLASS_NAMES, Label
from grasp_success_detector.reports.comparison_page import FRAMES_DEPEND
from grasp_success_detector.training.original_experiment import THRESHOLD
from grasp_success_detector.training.run_folder import Run


def starting_weights(run: Run) -> str:
    """Return what weights a classifier's training started from."""
    if run.config['weights'] is not None:
        return f'the weights of {run.config["weights"]}'
    if not run.config['pretrained']:
        return ("random weights, as ImageNet's were not available; the frozen ones stay "
                'random')
    return {'cifar_cnn': 'weights trained on CIFAR-10'}.get(
        run.config['architecture'], 'weights trained on ImageNet')


def experiment_page(runs: Sequence[Run], comparison: Comparison) -> str:
    """
    Return the page of two trainings on the same data.

    :param comparison: of these runs, in this order, on the new pictures.
    """
    return '\n'.join(_lines(runs, comparison)) + '\n'


def _lines(runs: Sequence[Run], comparison: Comparison) -> Iterator[str]:
    data = runs[0].summary['data']
    yield from ('# The original experiment', '', label_origin(runs[0].test_dataset).text, '',
                '| pictures | success | failure | attempts |', '| --- | --- | --- | --- |')
    for name, title in (('train', 'training'), ('val', 'held out, judged after each epoch'),
                        ('test', 'new, judged at the end')):
        part = data[name]
        failures = part['frames'] - part['success_frames']
        yield f'| {title} | {part["success_frames"]} | {failures} | {part["attempts"]} |'
    config = runs[0].config
    yield ''
    yield (f'Transformation of the training pictures makes {config["samples_per_class"]} images '
           f'of each class, once for all {counted(config["epochs"], "epoch")}.')
    for run in runs:
        sizes = run.summary['parameters']
        yield (f'{run.name} starts from {starting_weights(run)}; {sizes["frozen"]:,} of its '
               f'parameters are frozen and {sizes["trainable"]:,} trained '
               f'({run.summary["seconds"]:.0f} s in epochs).')
    yield from ('', '## Accuracy after each epoch', '',
                '| classifier | epoch | training images: success | failure '
                '| held-out attempts: success | failure |',
                '| --- | --- | --- | --- | --- | --- |')
    for run in runs:
        for epoch in run.epochs:
            cells = [f'{_accuracy(epoch[f"{part}_classes"][label])}' for part in ('train', 'val')
                     for label in ('success', 'failure')]
            kept = ' (kept)' * (epoch['epoch'] == run.summary['best_epoch'])
            yield f'| {run.name} | {epoch["epoch"]}{kept} | {" | ".join(cells)} |'
    yield ''
    yield ('The accuracy on training images is what the original experiment gave; it says little '
           'about other attempts. The epoch with the lowest loss on the held-out attempts is '
           'kept.')
    new = data['test']['frames']
    yield from ('', f'## {counted(new, "new picture")}', '',
                '| classifier | right | success | failure |', '| --- | --- | --- | --- |')
    for contestant in comparison.contestants:
        by_label = [[right for (*_, label), right in contestant.frames.items() if label is given]
                    for given in (Label.SUCCESS, Label.FAILURE)]
        cells = [str(Accuracy(sum(rights), len(rights)))
                 for rights in (list(contestant.frames.values()), *by_label)]
        yield f'| {contestant.name} | {" | ".join(cells)} |'
    yield ''
    yield (f'A picture is judged {CLASS_NAMES[Label.SUCCESS]} from P(success) {THRESHOLD:g} on. '
           "Intervals are Wilson's.")
    for by_frame, by_attempt in zip(comparison.by_frame, comparison.by_attempt, strict=True):
        yield f'- {_sentence(by_frame, "pictures")}'
        yield f'- {_sentence(by_attempt, "attempts")}'
    if data['test']['attempts'] < new:
        yield from ('', f'The new pictures are of {counted(data["test"]["attempts"], "attempt")}: '
                    f'{FRAMES_DEPEND}.')


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    low, high = accuracy['wilson_95']
    return f'{accuracy["value"]:.1%} ({low:.1%} to {high:.1%})'


def _sentence(duel: Duel, what: str) -> str:
    return (f'{what}: {duel.both} both right, {duel.only_first} only {duel.first}, '
            f'{duel.only_second} only {duel.second}, {duel.neither} neither; '
            f"McNemar's exact test p = {duel.p_value:.3g}")
