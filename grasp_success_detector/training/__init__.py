"""Fit a classifier on labelled frames and write its run folder and checkpoint."""
