"""Fit a classifier on labelled frames and write its run folder and checkpoint."""

# Here, since it must come before lightning and torchvision in every module of this room.
from grasp_success_detector.networks import torchvision_ops  # noqa: F401
