"""The live page as an ASGI application, and the server that shows it on this machine alone."""

import asyncio
import socket
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from minialex.errors import InputError
from minialex.results.markup import text
from minialex.show.explain import asset, document, style
from minialex.show.guard import App, Guard, TooLarge
from minialex.show.live import shell
from minialex.show.page import Page, whole_number
from minialex.show.runs import NoImages
from minialex.show.worker import Stopped

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

ADDRESS = "127.0.0.1"
SEARCHED = ("nearest", "strongest")  # parts that need the validation images
PATIENCE = 2.0  # seconds of a search, after which what is found so far is shown
MORE = "x-minialex-more"  # header of an answer: whether asking again finds more
_SCRIPTS = ("look.js", "page.js", "asking.js", "choosing.js", "epochs.js", "sums.js")
_ASSETS = {"page.css": "text/css", **dict.fromkeys(_SCRIPTS, "text/javascript")}


class Left(Exception):
    """The browser no longer waits for an answer."""


async def _left(request: "Request") -> None:
    """Returns once the browser no longer waits."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def application(page: Page) -> App:
    """The ASGI application; it answers this machine's own page only."""
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    def query(request: "Request") -> dict[str, str]:
        try:
            found = parse_qs(request.scope["query_string"].decode("latin-1"), max_num_fields=20)
        except ValueError as error:
            raise InputError(f"the address cannot be read: {error}") from None
        return {name: values[-1] for name, values in found.items()}

    def html(content: str, *arguments: Any, **named: Any) -> "Response":
        """A page; bytes of file names that are no characters are written as escapes."""
        return HTMLResponse(content.encode("utf-8", "backslashreplace"), *arguments, **named)

    async def index(request: "Request") -> "Response":
        body = await page.compute(shell, page.runs)
        head = '<link rel="stylesheet" href="/assets/page.css"><link rel="icon" href="data:,">'
        return html(document("minialex", body, head))

    async def assets(request: "Request") -> "Response":
        name = request.path_params["name"]
        if name not in _ASSETS:
            return PlainTextResponse("there is no such file", 404)
        content = style() + asset(name) if name == "page.css" else asset(name)
        return PlainTextResponse(content, media_type=_ASSETS[name])

    async def upload(request: "Request") -> "Response":
        try:
            content = await request.body()
        except TooLarge:
            return PlainTextResponse("the photograph is too large", 413)
        except ClientDisconnect:
            raise Left from None
        name = query(request).get("name", "")[:200] or "the photograph"
        key = await page.compute(page.add, content, name)
        return JSONResponse({"photo": key})

    async def known(request: "Request") -> "Response":
        return JSONResponse(page.knows(request.path_params["key"]))

    async def choose(request: "Request") -> "Response":
        asked = query(request)
        number, place = whole_number(asked, "run"), whole_number(asked, "index")
        return JSONResponse({"photo": await page.compute(page.choose, number, place)})

    async def part(request: "Request") -> "Response":
        name, asked = request.path_params["name"], query(request)
        try:
            if name not in SEARCHED:
                return html(text(await wanted(request, page.part, name, asked)))
            search = await wanted(request, page.search, asked)
        except NoImages as error:  # the answer, and no error
            return html(missing(error))
        until = time.monotonic() + PATIENCE
        while not search.done:
            await wanted(request, search.step)  # other requests are answered in between
            if search.read and time.monotonic() > until:
                break
        found = text(await wanted(request, page.searched, name, asked, search))
        return html(found, headers={MORE: str(int(not search.done))})

    async def wanted(request: "Request", function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; it is not begun once the browser has left. Raises Left."""
        computed = asyncio.ensure_future(page.compute(function, *arguments))
        left = asyncio.ensure_future(_left(request))
        await asyncio.wait({computed, left}, return_when=asyncio.FIRST_COMPLETED)
        if not computed.done():
            computed.cancel()
            await asyncio.wait({computed})
            raise Left
        left.cancel()
        return computed.result()

    def missing(error: Exception) -> str:
        return f'<p class="missing">{escape(str(error))}</p>'

    async def epochs(request: "Request") -> "Response":
        return JSONResponse([{"epochs": run.epochs(), "stamp": run.stamp} for run in page.runs])

    async def sentence(request: "Request", error: Exception) -> "Response":
        return html(missing(error), 400)

    routes = [
        Route("/", index),
        Route("/assets/{name}", assets),
        Route("/epochs", epochs),
        Route("/part/{name}", part),
        Route("/photo", upload, methods=["POST"]),
        Route("/photo/{key}", known),
        Route("/validation", choose, methods=["POST"]),
    ]

    async def ended(request: "Request", error: Exception) -> "Response":
        return PlainTextResponse("the server has been stopped", 503)

    async def nobody(request: "Request", error: Exception) -> "Response":
        return PlainTextResponse("the client has disconnected", 499)

    handlers: dict[Any, Any] = {InputError: sentence, OSError: sentence}
    handlers |= {Stopped: ended, Left: nobody}
    return Guard(Starlette(routes=routes, exception_handlers=handlers))


def serve(page: Page, port: int, say: Callable[[str], object] = print) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; InputError if the port is taken."""
    import uvicorn

    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, port))
        except OSError as error:
            raise InputError(
                f"port {port} cannot be used ({error.strerror}): choose another with --port"
            ) from None
        say("loading; the first time, kernels are compiled")
        page.warm_up()
        listening.listen()  # what comes before the server is ready waits
        say(f"http://{ADDRESS}:{listening.getsockname()[1]}/  (Ctrl-C ends it)")
        config = uvicorn.Config(
            application(page),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: Any) -> None:
                page.worker.stop()
                super().handle_exit(sig, frame)

        try:
            Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # the way to end it
            say("ended")
