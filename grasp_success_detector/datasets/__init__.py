"""Data sets of labelled frames: extraction, manifest, splits and inspection."""
