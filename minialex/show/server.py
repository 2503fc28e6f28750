"""The live page as an ASGI application, and the server that shows it on this machine alone."""

import asyncio
import hashlib
import io
import socket
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from minialex.errors import InputError
from minialex.results.markup import Cell, element, joined, text
from minialex.saliency import guided_gradient
from minialex.show import about_map, live_parts, parts
from minialex.show.explain import asset, document, style
from minialex.show.guard import App, Guard, TooLarge
from minialex.show.live import shell
from minialex.show.look import Look, Photo
from minialex.show.runs import BEST, NoImages, Recent, Run, Search
from minialex.show.worker import Stopped, Worker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

ADDRESS = "127.0.0.1"
PARTS = (
    *("answers", "crops", "network", "layers", "looks", "kernels", "curves", "validation"),
    *("layer", "channel", "covered", "unit"),
)
SEARCHED = ("nearest", "strongest")  # parts that need the validation images
PATIENCE = 2.0  # seconds of a search, after which what is found so far is shown
MORE = "x-minialex-more"  # header of an answer: whether asking again finds more
_PHOTOS = 32  # that are remembered
_SCRIPTS = ("look.js", "page.js", "asking.js", "choosing.js", "epochs.js", "sums.js")
_ASSETS = {"page.css": "text/css", **dict.fromkeys(_SCRIPTS, "text/javascript")}


class Page:
    """What the page's requests ask for, computed one after the other."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = tuple(runs)
        self._photos: Recent[list[Photo]] = Recent(_PHOTOS)
        self.worker = Worker()
        self.compute = self.worker.call

    def warm_up(self) -> None:
        """Look at a black photograph: kernels are loaded, so that the first answer is quick."""
        for run in self.runs:
            side = int(run.image_size)
            look = Look(run.classifier(BEST), run.photo(_black(3 * side, 2 * side), "black"))
            live_parts.answers(look)
            parts.network(look)
            name = look.classifier.model.network.layers[-1][0]
            guided_gradient(look.classifier.trained, look.image[None], name, 0)

    # ------------------------------------------------------------------------------ photographs

    def add(self, content: bytes, name: str) -> str:
        """Decode an upload at the size of each run; its key."""
        key = hashlib.blake2b(content, digest_size=16).hexdigest()
        self._photos.of(key, lambda: [run.photo(content, name) for run in self.runs])
        return key

    def knows(self, key: str) -> bool:
        """Whether a photograph is remembered."""
        return key in self._photos

    def choose(self, number: int, index: int) -> str:
        """One of the validation images of a run; its key."""
        chosen = self._run(number)
        chosen.validation_photo(index)  # raises for one that there is not

        def read() -> list[Photo]:
            own = chosen.validation_photo(index)
            size = chosen.image_size
            return [
                own
                if run.image_size == size and type(run.image_size) is type(size)
                else Photo(own.name, chosen.dataset().image(index, run.image_size))
                for run in self.runs
            ]

        key = f"validation-{number}-{index}"
        self._photos.of(key, read)
        return key

    # ------------------------------------------------------------------------------ parts

    def part(self, name: str, asked: dict[str, str]) -> Cell:
        """The HTML of a part of the page; InputError for what there is not."""
        run = self._run(whole_number(asked, "run"))
        if name not in PARTS:
            raise InputError(f"the page has no part {name[:40]!r}")
        if name == "curves":
            return live_parts.curves(run)
        if name == "validation":
            return live_parts.validation(run)
        if name == "kernels":
            return parts.kernels(run.classifier(asked.get("epoch", "")))
        look = self.look(asked)
        if name == "answers":
            return live_parts.answers(look)
        if name == "crops":
            ten = look.crop_probabilities.mean(axis=0)
            return joined(
                [element("h4", "Mean of ten crops"), parts.bars(look, ten), parts.crops(look)]
            )
        if name == "network":
            return joined([parts.network(look, "#layer="), parts.numbers(look)])
        if name == "looks":
            return parts.where_it_looks(look, _label(look, asked))
        if name == "layers":
            return live_parts.layer_list(look)
        layer = asked.get("layer", "")
        if name == "layer":
            return live_parts.layer(look, layer)
        channel = whole_number(asked, "channel")
        if name == "channel":
            return about_map.channel(look, layer, channel)
        if name == "covered":
            return about_map.covered(look, layer, channel)
        pixel = (whole_number(asked, "row"), whole_number(asked, "column"))
        return about_map.unit(look, layer, channel, pixel)

    def searched(self, name: str, asked: dict[str, str], search: Search) -> Cell:
        """The HTML of a part that needs the search of the validation images."""
        look = self.look(asked)
        if not search.read:
            raise InputError(f"no image of {search.dataset.name} can be read")
        if name == "nearest":
            return live_parts.nearest(look, search)
        return live_parts.strongest(look, search, asked.get("layer", ""), whole_number(asked, "channel"))

    def look(self, asked: dict[str, str]) -> Look:
        """The photograph in the network that a request names."""
        number, key = whole_number(asked, "run"), asked.get("photo", "")
        run = self._run(number)
        if key not in self._photos:
            raise InputError("the photograph is no longer here: choose it again")
        return run.look(asked.get("epoch", ""), key, self._photos[key][number])

    def search(self, asked: dict[str, str]) -> Search:
        """The search that a request needs, to be continued a batch at a time."""
        return self._run(whole_number(asked, "run")).search(asked.get("epoch", ""))

    def _run(self, number: int) -> Run:
        if number >= len(self.runs):
            raise InputError(f"there is no run {number} here")
        return self.runs[number]


def _black(width: int, height: int) -> bytes:
    """A black JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def _label(look: Look, asked: dict[str, str]) -> int | None:
    """The class that a request names; None for the first answer."""
    if "label" not in asked:
        return None
    label, classes = whole_number(asked, "label"), len(look.classifier.class_names)
    if label >= classes:
        raise InputError(f"there are classes 0 to {classes - 1}, not {label}")
    return label


def whole_number(asked: dict[str, str], name: str) -> int:
    """A number of a request; InputError if there is none."""
    value = asked.get(name, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise InputError(f"{name} is {value[:20]!r}, not a number")
    return int(value)


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

    async def index(request: "Request") -> "Response":
        body = await page.compute(shell, page.runs)
        head = '<link rel="stylesheet" href="/assets/page.css"><link rel="icon" href="data:,">'
        return HTMLResponse(document("minialex", body, head))

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
                return HTMLResponse(text(await wanted(request, page.part, name, asked)))
            search = await wanted(request, page.search, asked)
        except NoImages as error:  # the answer, and no error
            return HTMLResponse(missing(error))
        until = time.monotonic() + PATIENCE
        while not search.done:
            await wanted(request, search.step)  # other requests are answered in between
            if search.read and time.monotonic() > until:
                break
        found = text(await wanted(request, page.searched, name, asked, search))
        return HTMLResponse(found, headers={MORE: str(int(not search.done))})

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
        return HTMLResponse(missing(error), 400)

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
