"""Finish a data set: drop near duplicates, split, check for leaks, write manifest and marker."""

from collections import Counter
from collections.abc import Mapping, Sequence
import os
from pathlib import Path
from typing import Any

from grasp_success_detector.data.executors import Crew
from grasp_success_detector.data.extraction_options import ExtractionOptions
from grasp_success_detector.data.journal import Journal
from grasp_success_detector.data.leaks import describe_leaks, exact_leaks, near_leaks
from grasp_success_detector.data.manifest import ManifestRow, write_manifest, write_marker
from grasp_success_detector.data.near_duplicates import fingerprints, repeated, SAME_BITS
from grasp_success_detector.data.sources import Source
from grasp_success_detector.data.splits import balanced_split, SPLITS
from grasp_success_detector.errors import DatasetError
from grasp_success_detector.labels import CLASS_NAMES, Label


def finish(sources: Sequence[Source], options: ExtractionOptions, out: Path, crew: Crew,
           journal: Journal, plan: Mapping[str, Any]) -> dict[str, Any]:
    """
    Make a data set out of the frames that the journal names.

    :return: the content of dataset.json, which is written last.
    :raises DatasetError: the same picture would be in two splits.
    """
    rows = [
        ManifestRow(file, Label(label), source.name, topic, stamp_ns, attempt, '', sha256)
        for source in sources
        for _, (file, sha256, label, topic, stamp_ns, attempt) in sorted(
            journal.progress(source.name).rows.items())]
    kept = rows
    looks, bad = None, set[int]()
    if options.dedupe:
        looks, bad = fingerprints(out, [row.file for row in rows], crew)
        drop = repeated(looks, [row.label for row in rows])
        stay = [i for i in range(len(rows)) if i not in drop | bad]
        kept, looks = [rows[i] for i in stay], looks[stay]
    groups = [row.attempt if options.split_by == 'attempt' else row.source for row in kept]
    split_of = balanced_split(groups, [row.label for row in kept], options.split, options.seed)
    kept = [row._replace(split=split_of[group])
            for row, group in zip(kept, groups, strict=True)]
    leaks = exact_leaks(kept)
    if looks is not None:
        leaks = leaks or near_leaks(kept, looks, SAME_BITS)
    if leaks:
        raise DatasetError(
            f'{out}: {describe_leaks(leaks)}; nothing needs to be extracted again: run the same '
            'command with --dedupe, or with --split-by source, or leave one of the sources out')
    # The journal still names what is deleted here, so that this can be stopped and repeated.
    names = {row.file for row in kept}
    for label in CLASS_NAMES:
        for name in os.listdir(out / label):
            if f'{label}/{name}' not in names:
                os.unlink(out / label / name)
    write_manifest(out, kept)
    description = describe(kept) | {
        'near_duplicates_dropped': len(rows) - len(kept) - len(bad),
        'undecodable_dropped': len(bad),
        'sources': {s.name: journal.progress(s.name).summary for s in sources}, 'plan': plan}
    write_marker(out, description)
    return description


def describe(rows: Sequence[ManifestRow]) -> dict[str, Any]:
    """Count the frames by split and label, and the attempts by split."""
    frames = Counter((row.split, row.label) for row in rows)
    attempts = Counter(split for _, split in {(row.attempt, row.split) for row in rows})
    return {'frames': len(rows), 'splits': {split: {
        'attempts': attempts[split],
        **{label.name.lower(): frames[split, label] for label in Label}} for split in SPLITS}}
