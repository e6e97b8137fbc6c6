"""The page's server: it answers this machine only, and only who has the token."""

from collections.abc import Awaitable, Callable, Mapping
import hmac
from http import HTTPStatus
import json
from pathlib import Path
import secrets
import socket
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
import uvicorn

from grasp_success_detector.errors import BagError, LabellingError
from grasp_success_detector.labelling.frame_cache import FRAME_WIDTH, THUMBNAIL_WIDTH
from grasp_success_detector.labelling.marks import Mark, SourceMarks, Span
from grasp_success_detector.labelling.session import Session
from grasp_success_detector.labelling.store import NoRoomError
from grasp_success_detector.reports.page import LABEL_COLOURS

HOST = '127.0.0.1'

_PAGE = Path(__file__).with_name('page')
_REPORT_STYLE = Path(__file__).parents[1] / 'reports' / 'templates' / 'style.css'
_TYPES = {'.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml'}

#: Header that carries the token with every change; no other site's page can set it.
_TOKEN_HEADER = 'x-label-token'
#: Largest body of a request, in bytes.
_LARGEST_BODY = 1 << 16

_SECURITY = {
    'content-security-policy':
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin', 'x-frame-options': 'DENY'}


class _Guard:
    """
    Lets only requests of the page through, and adds headers to all answers.

    Another site's page may send requests to this server, also under a name of its own that leads
    to 127.0.0.1 (DNS rebinding). It knows no token, and its name is in the Host header.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app, self._token = app, token
        self._hosts = {f'{HOST}:{port}', f'localhost:{port}'}
        self._cookie = f'label_attempts_{port}'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope['type'] != 'http':
            if scope['type'] == 'lifespan':
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers[name] = value
                headers.setdefault('cache-control', 'no-store')
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        request, headers = Request(scope), Headers(scope=scope)
        if headers.get('host') not in self._hosts:
            return PlainTextResponse('wrong host', HTTPStatus.MISDIRECTED_REQUEST)
        origin = headers.get('origin')
        if origin is not None and origin.removeprefix('http://') not in self._hosts:
            return PlainTextResponse('wrong origin', HTTPStatus.FORBIDDEN)
        if request.method in ('GET', 'HEAD'):
            if request.url.path == '/' and self._is_token(request.query_params.get('token')):
                answer = RedirectResponse('/', HTTPStatus.SEE_OTHER)
                answer.set_cookie(self._cookie, self._token, httponly=True, samesite='strict')
                return answer
            if self._is_token(request.cookies.get(self._cookie)):
                return None
        if self._is_token(headers.get(_TOKEN_HEADER)):
            return None
        return PlainTextResponse(
            'This page needs the whole address that label_attempts has printed, with its token.\n',
            HTTPStatus.FORBIDDEN)

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._token.encode())


class LabellingServer:
    """
    Serves the page of a session until it is stopped.

    :param port: port on 127.0.0.1; 0: any free one.
    :raises LabellingError: the port cannot be used.
    :ivar address: address of the page, with the token.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        self._session, self._token = session, secrets.token_urlsafe(24)
        # Pictures may be kept by the browser, but only for these sources.
        self._pictures = secrets.token_hex(8)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise LabellingError(f'port {port} on {HOST} cannot be used ({error}); choose another '
                                 '--port, or none to get a free one') from error
        self.port = int(self._socket.getsockname()[1])
        self.address = f'http://{HOST}:{self.port}/?token={self._token}'
        self._uvicorn = uvicorn.Server(uvicorn.Config(
            _Guard(self._app(), self.port, self._token), log_level='error', access_log=False,
            ws='none', lifespan='off', timeout_graceful_shutdown=2, server_header=False,
            timeout_keep_alive=30))

    def run(self) -> None:
        """
        Serve until :meth:`stop` is called.

        :raises KeyboardInterrupt: it was ended by Ctrl-C.
        """
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """End :meth:`run`; may be called from any thread."""
        self._uvicorn.should_exit = True

    @property
    def started(self) -> bool:
        """Whether the page can be asked for."""
        return self._uvicorn.started

    def _app(self) -> Starlette:
        session = self._session

        def index(request: Request) -> Response:
            environment = Environment(loader=FileSystemLoader(_PAGE), autoescape=True,
                                      undefined=StrictUndefined)
            return HTMLResponse(environment.get_template('index.html').render(
                token=self._token, pictures=self._pictures))

        def static(request: Request) -> Response:
            path = _PAGE / request.path_params['name']
            if path.parent != _PAGE or path.suffix not in _TYPES or not path.is_file():
                return PlainTextResponse('no such file', HTTPStatus.NOT_FOUND)
            text = path.read_text(encoding='utf-8')
            return Response(_style() + text if path.suffix == '.css' else text,
                            media_type=_TYPES[path.suffix])

        def sources(request: Request) -> Response:
            return _json(session.sources())

        def state(request: Request) -> Response:
            if request.query_params.get('since') == '.'.join(map(str, session.version)):
                return Response(status_code=HTTPStatus.NO_CONTENT)
            return _json(session.state())

        def picture(request: Request) -> Response:
            where = request.path_params
            width = THUMBNAIL_WIDTH if where['size'] == 'small' else FRAME_WIDTH
            try:
                data = session.jpeg(where['source'], where['frame'], width)
            except (LabellingError, BagError, LookupError) as error:
                return PlainTextResponse(str(error), HTTPStatus.NOT_FOUND)
            if data is None:
                return PlainTextResponse('not readable', HTTPStatus.NOT_FOUND)
            return Response(data, media_type='image/jpeg',
                            headers={'cache-control': 'private, max-age=86400, immutable'})

        return Starlette(routes=[
            Route('/', index), Route('/page/{name}', static),
            Route('/api/sources', sources), Route('/api/state', state),
            Route(f'/picture/{self._pictures}/{{size}}/{{source:int}}/{{frame:int}}', picture),
            *(Route(f'/api/{name}', _posted(session, change), methods=['POST'])
              for name, change in self._changes().items())])

    def _changes(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        """Return what the page may ask for that changes something, by name."""
        session = self._session

        def acting(action: Callable[[SourceMarks, Span, int, Mapping[str, Any]], dict[str, Any]],
                   ) -> Callable[[Mapping[str, Any]], Any]:
            def change(asked: Mapping[str, Any]) -> None:
                span = Span(int(asked['start']), int(asked['end']))
                session.act(int(asked['source']), lambda marks: action(
                    marks, span, int(asked['frame']), asked))
            return change

        return {
            'label': acting(lambda marks, span, frame, asked: marks.label_from(
                span, frame, Mark(asked['mark']))),
            'split': acting(lambda marks, span, frame, asked: marks.split(span, frame)),
            'join': acting(lambda marks, span, frame, asked: marks.join(span)),
            'begin': acting(lambda marks, span, frame, asked: marks.begin_at(span, frame)),
            'end': acting(lambda marks, span, frame, asked: marks.end_at(span, frame)),
            'undo': lambda asked: session.undo(),
            'show': lambda asked: session.show(int(asked['source']), int(asked['frame'])),
            'finish': lambda asked: self.stop()}


def _posted(session: Session, change: Callable[[Mapping[str, Any]], Any],
            ) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body = b''
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST_BODY:
                return _json({'error': 'too large'}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return await run_in_threadpool(_changed, session, change, body)
    return answer


def _changed(session: Session, change: Callable[[Mapping[str, Any]], Any], body: bytes,
             ) -> Response:
    """Carry a change out, and return the state after it, with the error if it was refused."""
    status, told = HTTPStatus.OK, {}
    try:
        asked = json.loads(body or b'{}')
        told = {'at': change(asked)}
    except NoRoomError as error:
        status, told = HTTPStatus.INSUFFICIENT_STORAGE, {'error': str(error)}
    except LabellingError as error:
        status, told = HTTPStatus.CONFLICT, {'error': str(error)}
    except (ValueError, TypeError, LookupError) as error:
        return _json({'error': f'bad request ({type(error).__name__})'}, HTTPStatus.BAD_REQUEST)
    return _json(told | {'state': session.state()}, status)


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    # ASCII: the name of a file may be no UTF-8.
    return Response(json.dumps(content, separators=(',', ':')), status,
                    media_type='application/json')


def _style() -> str:
    """Return the style of the reports, whose colours the page has."""
    colours = ''.join(f'--{label.name.lower()}-video: rgb({" ".join(map(str, rgb))});'
                      for label, rgb in LABEL_COLOURS.items())
    return f':root {{{colours}}}\n' + _REPORT_STYLE.read_text(encoding='utf-8') + '\n'
