"""Data sets of labelled frames: extraction, manifest, splits, leaks, inspection."""
