"""Lets only this machine's own page speak to the server, and bounds what it sends.

A page of another site can make a browser send requests to 127.0.0.1, and a name that resolves to it
makes them look like the same site's. So the Host header must name this machine, requests that the
browser marks as another site's are refused, and those that change something need a header that
another site cannot set.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

LIMIT = 64 << 20  # bytes of an upload
HEADER = b"x-minialex"  # of requests that are not GET

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data: blob:; media-src blob: mediastream:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)


class TooLarge(Exception):
    """An upload of more than LIMIT bytes."""


class Guard:
    """An ASGI application around another one, which gets only requests that may be answered."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this server has no {scope['type']}")
        refused = _refusal(scope)
        if refused is not None:
            await _answer(send, *refused)
            return
        await self._app(scope, _bounded(receive), _with_headers(send))


def _refusal(scope: Any) -> tuple[int, str] | None:
    """Status and sentence, if the request must not be answered."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    port = scope["server"][1]
    own = ("127.0.0.1", "localhost")
    names = [f"{name}:{port}" for name in own]
    if port == 80:
        names += own  # browsers leave out the default port
    hosts = [value.decode("latin-1").lower() for value in headers.get(b"host", [])]
    if len(hosts) != 1 or hosts[0] not in names:
        return 403, f"this page is at http://127.0.0.1:{port} only"
    origins = [value.decode("latin-1").lower() for value in headers.get(b"origin", [])]
    site = headers.get(b"sec-fetch-site", [b"same-origin"])
    if any(origin != f"http://{hosts[0]}" for origin in origins) or not {*site} <= {
        b"same-origin",
        b"none",
    }:
        return 403, "another site's requests are not answered"
    if scope["method"] not in ("GET", "HEAD"):
        if HEADER not in headers:
            return 403, "only this server's own page may send photographs"
        length = headers.get(b"content-length", [b"0"])[0]
        if not length.isdigit() or int(length) > LIMIT:
            return 413, f"a photograph has at most {LIMIT >> 20} MiB"
    return None


def _bounded(receive: Receive) -> Receive:
    """Raises TooLarge once more than LIMIT bytes have come, whatever was said before."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > LIMIT:
            raise TooLarge
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = sentence.encode()
    kind = (b"content-type", b"text/plain; charset=utf-8")
    length = (b"content-length", str(len(body)).encode())
    headers = [kind, length, *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
