"""A session of labelling: sources, labels, what the checkpoint says, and the page's view of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
import os
from threading import Event, Thread
import time
from typing import Any

from grasp_success_detector.errors import GraspSuccessDetectorError, LabellingError, one_line
from grasp_success_detector.labelling import BACKGROUND
from grasp_success_detector.labelling.adaptation import Adapted, Adapter
from grasp_success_detector.labelling.cutting import Cuts
from grasp_success_detector.labelling.frame_cache import FrameCache
from grasp_success_detector.labelling.judging import Judging
from grasp_success_detector.labelling.marks import Mark, SourceMarks
from grasp_success_detector.labelling.material import bytes_of, Material
from grasp_success_detector.labelling.picture_changes import cut_by_pictures
from grasp_success_detector.labelling.store import LabelStore
from grasp_success_detector.labelling.suggestions import agreement, Suggestions, to_label
from grasp_success_detector.recordings.sources import SourceKind

#: Seconds between two looks at whether a bag has grown.
LOOK_EVERY_S = 2.

#: How long the end of a session waits for its threads in all, in seconds.
_PATIENCE_S = .3

#: Attempts that the page knows in the order in which they come next.
_NEXT = 100

#: Opens a source again, as it is now on the disk.
Open = Callable[[Material], Material]


class Session:
    """
    Everything behind the page; its methods may be called from any thread.

    :param materials: the sources by key. A source that grows is replaced in it.
    :param store: their labels.
    :param pictures: their frames.
    :param judging: what the checkpoint says; None without a checkpoint.
    :param reopen: indexes a source again.
    :ivar adapter: adapts the checkpoint; None unless it is to.
    """

    def __init__(self, materials: dict[str, Material], store: LabelStore, pictures: FrameCache,
                 judging: Judging | None, reopen: Open) -> None:
        self.materials, self.store, self.pictures = materials, store, pictures
        self.judging = judging
        self.adapter: Adapter | None = None
        self.keys = list(materials)
        self._reopen = reopen
        self._how: dict[str, str] = {}
        self._cutting: dict[str, int] = {}
        self._notices: dict[str, str] = {}
        self._ended = Event()
        self._version = 0
        self._threads = [Thread(target=self._cut, name=f'{BACKGROUND}cutting', daemon=True),
                         Thread(target=self._watch, name=f'{BACKGROUND}growth', daemon=True)]

    def start(self) -> None:
        """Add the sources whose cuts are known, and begin the work in the background."""
        for key, material in self.materials.items():
            if material.cuts is not None or self.store.knows(key):
                self._add(key, material.cuts or Cuts())
            else:
                self._cutting[key] = 0
        for thread in self._threads:
            thread.start()
        if self.judging is not None:
            self.judging.start()

    def close(self) -> None:
        """
        End all work in the background.

        What cannot be interrupted, such as a network, goes on in a thread whose name begins with
        ``BACKGROUND``; what it finds is not written.
        """
        self._ended.set()
        deadline = time.monotonic() + _PATIENCE_S
        parts = [part for part in (self.adapter, self.judging) if part is not None]
        for part in parts:
            part.close()
        for thread in (*self._threads, *(part.thread for part in parts)):
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0))

    @property
    def version(self) -> tuple[int, ...]:
        """Changes whenever anything does that the page shows."""
        adapter = self.adapter
        return (self._version, self.store.version,
                0 if self.judging is None else self.judging.version,
                0 if adapter is None else adapter.running,
                0 if adapter is None or adapter.latest is None else adapter.latest.labelled)

    # What the page asks for

    def sources(self) -> list[dict[str, Any]]:
        """Return what does not change unless a source grows."""
        return [{'name': material.source.path.name or material.source.name,
                 'path': str(material.source.path), 'kind': material.source.kind.value,
                 'frames': len(material.frames),
                 'names': [frame.member for frame in material.frames] if material.attempts else [],
                 'times': [round(time / 1e9, 3) for time in material.elapsed_ns]}
                for material in (self.materials[key] for key in self.keys)]

    def state(self) -> dict[str, Any]:
        """Return labels, cuts, progress, suggestions and the order of what is left."""
        version = self.version
        with self.store.lock:
            sources = self.store.sources
            suggestions = {} if self.judging is None else self.judging.suggestions()
            threshold = .5 if self.judging is None else self.judging.threshold
            left = to_label(sources, suggestions, threshold, self._recommended())
            counts = {mark: sum(marks.counts()[mark] for marks in sources.values())
                      for mark in Mark}
            views = [self._view(key, suggestions) for key in self.keys]
        numbers = {key: number for number, key in enumerate(self.keys)}
        return {
            'version': list(version), 'sources': views,
            'order': [[numbers[key], span.start] for key, span in left[:_NEXT]],
            'counts': {mark.value: count for mark, count in counts.items()},
            'threshold': threshold, 'undoable': self.store.undoable,
            'agreement': agreement(sources, suggestions).to_json(),
            'judging': self._judging(), 'adaptation': self._adaptation(),
            'notices': list(self._notices.values())}

    def act(self, number: int, action: Callable[[SourceMarks], dict[str, Any]]) -> None:
        """Carry out an action of a source, given by its number."""
        self.store.act(self._key(number), action)
        self.changed()

    def undo(self) -> dict[str, int]:
        """Undo the latest action; return source and frame where it was."""
        key, frame = self.store.undo()
        self.changed()
        return {'source': self.keys.index(key), 'frame': frame}

    def show(self, number: int, frame: int) -> None:
        """Judge the attempt of a frame next, as it is on the page."""
        key = self._key(number)
        if self.judging is not None and key in self.store.sources:
            self.judging.show(key, self.store.sources[key].span_at(frame))

    def jpeg(self, number: int, frame: int, width: int) -> bytes | None:
        """Return a frame as jpeg, None if it cannot be decoded."""
        return self.pictures.jpeg(self._key(number), frame, width)

    def changed(self) -> None:
        """Tell the background that labels or cuts have changed."""
        if self.judging is not None:
            self.judging.wake()
        if self.adapter is not None:
            with self.store.lock:
                self.adapter.labelled(sum(
                    count for marks in self.store.sources.values()
                    for mark, count in marks.counts().items() if mark.label is not None))

    def adapted(self, result: Adapted) -> None:
        """Let a new checkpoint judge."""
        self._version += 1
        if self.judging is not None:
            self.judging.use(result.checkpoint)

    def summary(self) -> str:
        """Return in one line how far labelling has come."""
        with self.store.lock:
            counts = [marks.counts() for marks in self.store.sources.values()]
        total = sum(sum(count.values()) for count in counts)
        done = total - sum(count[Mark.NONE] for count in counts)
        return f'{done} of {total} labelled'

    # Parts of the state

    def _key(self, number: int) -> str:
        if not 0 <= number < len(self.keys):
            raise LabellingError(f'source {number}: there is none of this number')
        return self.keys[number]

    def _view(self, key: str, suggestions: Suggestions) -> dict[str, Any]:
        material, marks = self.materials[key], self.store.sources.get(key)
        curve = {} if self.judging is None else self.judging.curve(key)
        return {
            'starts': [] if marks is None else marks.starts,
            'marks': '' if marks is None else ''.join(marks.marks),
            'curve': {frame: None if p is None else round(p, 3) for frame, p in curve.items()},
            'suggestions': {} if material.attempts else {
                span.start: [found.mark.value, found.frame, round(found.probability, 3)]
                for (source, span), found in suggestions.items()
                if source == key and found is not None},
            'how': self._how.get(key, ''), 'cutting': self._cutting.get(key)}

    def _judging(self) -> dict[str, Any] | None:
        if self.judging is None:
            return None
        done, total = self.judging.progress()
        return {'done': done, 'total': total, 'failure': self.judging.failure,
                'checkpoint': self.judging.checkpoint.stem}

    def _adaptation(self) -> dict[str, Any] | None:
        if self.adapter is None:
            return None
        latest = self.adapter.latest
        report = {} if latest is None else latest.report
        return {'running': self.adapter.running, 'failure': self.adapter.failure,
                'labelled': None if latest is None else latest.labelled,
                'accuracy': report.get('accuracy'), 'curve': report.get('learning_curve') or []}

    def _recommended(self) -> list[tuple[str, int]]:
        """Return the attempts from which the adaptation would learn most."""
        if self.adapter is None or self.adapter.latest is None:
            return []
        return self.adapter.latest.recommended({
            key: self.materials[key] for key in self.keys if key in self.store.sources})

    # In the background

    def _add(self, key: str, cuts: Cuts) -> None:
        material = self.materials[key]
        self._how[key] = self.store.add_source(
            key, len(material.frames), material.fingerprint, lambda: cuts,
            None if material.attempts else Mark.FAILURE)
        self._version += 1
        if self.judging is not None:
            self.judging.wake()

    def _cut(self) -> None:
        for key in list(self._cutting):
            material, seen = self.materials[key], 0

            def count(key: str = key, total: int = len(material.frames)) -> bool:
                nonlocal seen
                seen += 1
                if (percent := 100 * seen // total) != self._cutting[key]:
                    self._cutting[key] = percent
                    self._version += 1
                return self._ended.is_set()

            cuts = cut_by_pictures(material, count)
            if self._ended.is_set():
                return
            self._retried(key, partial(self._add, key, cuts))
            del self._cutting[key]
            self._version += 1

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            for key, material in list(self.materials.items()):
                # A video or a folder does not grow while it is labelled.
                if (material.source.kind is SourceKind.BAG and key in self.store.sources
                        and bytes_of(material.source) > material.bytes_read):
                    try:
                        self._grow(key, material)
                    except (GraspSuccessDetectorError, OSError) as error:
                        self._notices[key] = f'has grown, but: {one_line(error)}'
                        self._version += 1

    def _grow(self, key: str, material: Material) -> None:
        now = self._reopen(material)
        if self._ended.is_set():
            return
        known = len(material.frames)
        if len(now.frames) < known or now.fingerprint(known) != material.fingerprint(known):
            self._notices[key] = f'{os.path.basename(key)}: was replaced by another recording'
            self.materials[key] = replace(material, bytes_read=now.bytes_read)
            self._version += 1
            return
        self.materials[key] = now
        self.store.extend_source(key, len(now.frames), now.fingerprint, now.cuts or Cuts())
        self._notices.pop(key, None)
        self._version += 1
        self.changed()

    def _retried(self, key: str, work: Callable[[], None]) -> None:
        """Carry out work that a full disk can stop, until it is done or the session ends."""
        while not self._ended.is_set():
            try:
                work()
            except OSError as error:
                self._notices[key] = f'cannot write the label file: {one_line(error)}'
                self._version += 1
                self._ended.wait(LOOK_EVERY_S)
            else:
                self._notices.pop(key, None)
                return


def keys_of(materials: Sequence[Material]) -> dict[str, Material]:
    """Return sources by the key that the journal knows them by: their absolute path."""
    return {str(material.source.path.resolve()): material for material in materials}

