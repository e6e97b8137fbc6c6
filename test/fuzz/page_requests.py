"""Requests to the labelling page as bytes, given to its application without a socket."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from grasp_success_detector.labelling.cutting import Cuts
from grasp_success_detector.labelling.frame_cache import FrameCache
from grasp_success_detector.labelling.journal import Journal
from grasp_success_detector.labelling.label_files import IntervalsFile, names_in_file
from grasp_success_detector.labelling.material import open_recording
from grasp_success_detector.labelling.server import LabellingServer
from grasp_success_detector.labelling.session import keys_of, Session
from grasp_success_detector.labelling.store import LabelStore
from grasp_success_detector.recordings.sources import find_sources


def answer(data: bytes, recording: Path, folder: Path) -> int | None:
    """
    Give the page a request: a line with method and path, headers, an empty line, the body.

    It gets the token and the host of the page unless it brings its own, so that damage also
    reaches what lies behind them.

    :returns: the status; None if a server would not have taken the bytes for a request.
    """
    head, _, body = data.partition(b'\n\n')
    first, *lines = head.split(b'\n')
    if len(words := first.split(b' ')) != 2 or not first.isascii():
        return None
    server, loop = _server(recording, folder)
    headers = {name.lower(): text for name, _, text in (line.partition(b': ') for line in lines)}
    headers = {b'host': f'localhost:{server.port}'.encode(),
               b'x-label-token': server.address.rpartition('=')[2].encode()} | headers
    path, _, query = words[1].partition(b'?')
    path = path.replace(b'/picture/x/', f'/picture/{server._pictures}/'.encode())
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {'type': 'http.request', 'body': body, 'more_body': False}

    async def send(message: Any) -> None:
        if message['type'] == 'http.response.start':
            statuses.append(message['status'])

    loop.run_until_complete(server._uvicorn.config.app({
        'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'scheme': 'http',
        'method': words[0].decode(), 'path': unquote(path.decode()), 'raw_path': path,
        'query_string': query, 'root_path': '', 'headers': list(headers.items()),
        'client': ('127.0.0.1', 1), 'server': ('127.0.0.1', server.port)}, receive, send))
    status, = statuses
    assert status < 500, status
    return status


@cache
def _server(recording: Path, folder: Path) -> tuple[LabellingServer, asyncio.AbstractEventLoop]:
    """Return the page of a recording, as label_attempts makes it."""
    out = folder / 'page.csv'
    sources = find_sources([recording])
    materials = keys_of([open_recording(source, None, folder) for source in sources])
    names = dict(zip(materials, names_in_file(sources), strict=True))
    store = LabelStore(out, Journal(out).__enter__(), IntervalsFile(out, materials, names))
    for key, material in materials.items():
        store.add_source(key, len(material.frames), material.fingerprint, Cuts)
    session = Session(materials, store, FrameCache(materials), None,
                      lambda source: open_recording(source, None, folder))
    session.start()
    return LabellingServer(session), asyncio.new_event_loop()
