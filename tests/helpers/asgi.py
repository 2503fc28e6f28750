"""Requests to an ASGI application, without a server."""

import asyncio
from dataclasses import dataclass

PORT = 8012
HOST = f"127.0.0.1:{PORT}"


@dataclass
class Answer:
    """What an application sent."""

    status: int
    headers: dict
    body: bytes

    @property
    def text(self):
        return self.body.decode()


def request(app, method, target, body=b"", headers=None, **more):
    """One request; `headers` replace or add to those of the page's own, None leaves one out."""
    return asyncio.run(requested(app, method, target, body, headers, **more))


async def requested(
    app, method, target, body=b"", headers=None, host=HOST, chunk=1 << 20, leaves=False
):
    """The same within a loop; with `leaves` the browser is gone once it has sent `body`."""
    path, _, query = target.partition("?")
    given = {"host": host, "x-minialex": "1", "content-length": str(len(body)), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in given.items() if v is not None],
        "server": ("127.0.0.1", PORT),
        "client": ("127.0.0.1", 50000),
    }
    parts = [body[i : i + chunk] for i in range(0, len(body), chunk)] or [b""]
    messages, sent = iter(parts), []
    unfinished = int(given["content-length"] or 0) > len(body)

    async def receive():
        part = next(messages, None)
        if part is None and leaves:
            return {"type": "http.disconnect"}
        if part is None:
            await asyncio.Event().wait()  # the client waits for the answer
        more = part is not parts[-1] or unfinished
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    found = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    return Answer(start["status"], found, b"".join(m.get("body", b"") for m in rest))
