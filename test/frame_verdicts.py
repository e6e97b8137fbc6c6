"""
Judge jpegs as the node does, without ROS: decode, preprocess, network, decision.

    python frame_verdicts.py CHECKPOINT FOLDER

The files' names are their stamps in ns. Prints a JSON list with an object for each.
"""

import hashlib
import json
from pathlib import Path
import platform
import sys

import cv2

from grasp_success_detector.decision import DecisionConfig, WindowedDecider
from grasp_success_detector.images.decoding import decode_bytes
from grasp_success_detector.inference.classifier import GraspClassifier


def main(checkpoint: str, folder: str) -> None:
    classifier = GraspClassifier.from_checkpoint(checkpoint, 'cpu', engine='opencv')
    decider = WindowedDecider(DecisionConfig(threshold=classifier.threshold))
    found = []
    for path in sorted(Path(folder).iterdir(), key=lambda path: int(path.stem)):
        stamp_ns = int(path.stem)
        image = decode_bytes(path.read_bytes(), classifier.preprocessing.half_suffices)
        judged = classifier.judge([image])
        probability = float(judged.probabilities[0])
        decider.observe(stamp_ns, probability, received_ns=stamp_ns)
        decision = decider.decide(now_ns=stamp_ns)
        found.append({
            'stamp_ns': stamp_ns, 'pixels': hashlib.sha256(image.tobytes()).hexdigest(),
            'probability': probability, 'verdict': decision.verdict.name,
            'reason': decision.reason.value, 'familiarity': None if judged.familiarity is None
            else float(judged.familiarity[0])})
    print(json.dumps({'machine': platform.machine(), 'opencv': cv2.__version__, 'frames': found}))


if __name__ == '__main__':
    main(*sys.argv[1:])
