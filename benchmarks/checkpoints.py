"""
Judge checkpoints on all frames of data sets that none of them has seen: the README's table.

    simulate_grasps bags/rig_test --preset rig --attempts 300 --seed 1001
    simulate_grasps bags/random_test --preset random --attempts 300 --seed 2001
    extract_frames bags/rig_test --split 0/0/1 --out data/rig_test
    extract_frames bags/random_test --split 0/0/1 --out data/random_test
    python benchmarks/checkpoints.py models/*_rig.safetensors --data data/rig_test data/random_test

Threshold and temperature are the checkpoint's own. Latency is of one frame at a time, on this
machine, the checkpoints in turns.
"""

import argparse
from pathlib import Path

from grasp_success_detector.datasets.dataset import LabelledFrame, read_extracted
from grasp_success_detector.datasets.torch_dataset import FrameDataset
from grasp_success_detector.evaluation.comparison import describe_timing, measure_latency
from grasp_success_detector.evaluation.judging import answers_of, decision_for, predictions_of
from grasp_success_detector.evaluation.metrics import summarize
from grasp_success_detector.images.decoding import decode_message
from grasp_success_detector.inference.classifier import GraspClassifier
from grasp_success_detector.networks.checkpoint import Checkpoint


def row(classifier: GraspClassifier, frames: tuple[LabelledFrame, ...], name: str) -> str:
    """Return the cells of one checkpoint on one data set."""
    logits = answers_of(classifier, FrameDataset(frames, classifier.preprocessing), name).logits
    predictions = predictions_of(frames, logits, classifier.metadata.temperature, 'test')
    summary = summarize(predictions, classifier.threshold,
                        decision_for([frame.attempt for frame in frames], classifier.threshold))
    cells = []
    for kind in ('attempts', 'frames'):
        measured = summary[kind]
        low, high = (100 * bound for bound in measured['wilson_95'])
        cells.append(f'{measured["value"]:.1%} ({measured["correct"]}/{measured["total"]}), '
                     f'{low:.1f} to {high:.1f} %')
    confusion = summary['confusion']['attempts']['failure']
    return ' | '.join([*cells, f'{confusion["success"]}/{sum(confusion.values())}',
                       f'{summary["roc_auc"]:.3f}', f'{summary["ece"]:.3f}'])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='+')
    parser.add_argument('--data', type=Path, nargs='+', required=True)
    args = parser.parse_args()
    splits = {folder.name: read_extracted(folder) for folder in args.data}
    classifiers = {path: GraspClassifier.from_checkpoint(path) for path in args.checkpoints}
    print('| checkpoint | data | by attempt (95 % interval) | by frame (95 % interval) | failed '
          'attempts taken for success | ROC-AUC by frame | ECE by frame |')
    print('| --- ' * 7 + '|')
    for path, classifier in classifiers.items():
        for name, split in splits.items():
            frames = split.train + split.val + split.test
            print(f'| {path.stem} | {name} | {row(classifier, frames, name)} |', flush=True)
    first = next(iter(splits.values()))
    frame = decode_message((first.test or first.train)[0].message)
    print('\n| checkpoint | parameters | size | latency |\n| --- | --- | --- | --- |')
    times = measure_latency(list(classifiers.values()), frame)
    for path, milliseconds in zip(classifiers, times, strict=True):
        count = sum(p.numel() for p in Checkpoint.open(path).model.parameters())
        print(f'| {path.stem} | {count / 1e6:.2f} M | {path.stat().st_size / 1e6:.1f} MB | '
              f'{milliseconds:.1f} ms |')
    print(f'\nLatency: {describe_timing(frame, classifier.engine.device)}.')


if __name__ == '__main__':
    main()
