"""The pages in a real browser: a photograph is dropped, a map clicked, the slider moved.

Needs Playwright and a Chromium that is installed on this machine.
"""

import base64
import io
import re
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.tiny import register_tiny
from PIL import Image

import minialex
from minialex.parallel import DeviceConfig
from minialex.show import explain
from minialex.show.look import photo
from minialex.show.runs import Run

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install -e '.[browser]'"
)
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `show`)")
WAIT = 60_000  # milliseconds at most: the machine may be busy
sync_api.expect.set_options(timeout=WAIT)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")

NUMPY = DeviceConfig("numpy")
COLOURS = {"red": (210, 60, 50), "blue": (40, 70, 200)}
PIXEL_OR_MAP = re.compile(r"/part/(unit|channel)\?")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
FLAGS = (  # the sandbox needs rights that a container may lack; the others save requests
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)


def picture(colour, seed):
    """A photograph mostly of one colour, as PNG."""
    noise = np.random.default_rng(seed).normal(0, 25, (24, 36, 3))
    file = io.BytesIO()
    pixels = np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that tells red from blue, with its checkpoints."""
    root = tmp_path_factory.mktemp("browser")
    for number, colour in enumerate(COLOURS):
        (root / "data" / colour).mkdir(parents=True)
        for i in range(16):
            (root / "data" / colour / f"{i}.png").write_bytes(picture(colour, 100 * number + i))
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        given = {"model": "tiny", "backend": "numpy", "epochs": 20, "progress": False}
        given |= {"batch_size": 8, "lr": 0.02}
        out = root / "run"
        trained = minialex.train(root / "data", out=out, val_fraction=0.5, keep_every=10, **given)
        assert trained.history[-1]["val_top1_error"] == 0
        yield root / "run"


@pytest.fixture(scope="module")
def address(run):
    """The page of the run beside the same at its start, served until the tests are done."""
    from minialex.show.page import Page
    from minialex.show.server import application  # needs Starlette

    page = Page([Run(run, NUMPY), Run(run / "checkpoints" / "epoch-0000.safetensors", NUMPY)])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(application(page), log_level="warning", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *CAMERA])
        yield started
        started.close()


@pytest.fixture(scope="module")
def explained(run, tmp_path_factory):
    """The address of a page about one photograph, with a long name."""
    classifier = minialex.load(run, backend="numpy")
    name, size = "a_long_name_" * 12 + ".png", classifier.preprocessing.recipe.image_size
    path = tmp_path_factory.mktemp("explained") / "page.html"
    return explain.explain(classifier, photo(picture("blue", 996), name, size), path).as_uri()


@contextmanager
def opened(browser, address, scheme="light", notes=None):
    """A page that says nothing on its console and asks nobody else for anything."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.set_default_timeout(WAIT)
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((address.partition("?")[0], "data:", "blob:"))
            else wrong.append(f"asked {asked.url}")
        ),
    )
    page.goto(address)
    yield page
    assert [said for said in wrong if notes is None or notes not in said] == []
    context.close()


def arrived(page, held, count):
    """The requests that a route holds, once there are so many: it gets them after they are sent."""
    until = time.monotonic() + 10
    while len(held) < count and time.monotonic() < until:
        page.wait_for_timeout(10)
    return held


def drop(page, content, name):
    """Drop a file on the page, as a person would."""
    page.evaluate(
        """([content, name]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        [base64.b64encode(content).decode(), name],
    )


def test_a_dropped_photograph_is_shown_with_everything(browser, address):
    with opened(browser, address) as page:
        first = page.locator("article").first
        for colour in ("blue", "red"):
            drop(page, picture(colour, 999), f"{colour}.png")
            answer = first.locator('[data-part="answers"] li .class').first
            sync_api.expect(answer).to_have_text(colour)
        # an answer: the evidence for it
        first.locator('[data-part="answers"] button.class').last.click()
        looks = first.locator('[data-part="looks"] figcaption').first
        sync_api.expect(looks).to_contain_text("the centre crop: blue")
        # a map: its kernel, its strongest images, its arithmetic
        first.locator('details[data-layer="conv2"] > summary').click()
        first.locator('details[data-layer="conv2"] .sheet').first.click(position={"x": 5, "y": 5})
        about = first.locator(".chosen-map")
        sync_api.expect(about.locator("h4").first).to_contain_text("conv2, channel 0")
        sync_api.expect(about).to_contain_text("Nine strongest images")
        sync_api.expect(about.locator("canvas.sum")).to_be_visible()
        # by keyboard: the next map, then a pixel of it
        page.keyboard.press("ArrowRight")
        sync_api.expect(about.locator("h4").first).to_contain_text("conv2, channel 1")
        about.locator(".pixels .sheet").focus()
        page.keyboard.press("End")
        sync_api.expect(about.locator(".arithmetic h4").last).to_contain_text("row")
        # on a narrower page the mark still stands on the map
        page.set_viewport_size({"width": 400, "height": 900})
        sheet = first.locator('details[data-layer="conv2"] .sheet').first
        mark, image = (sheet.locator(s).bounding_box() for s in (".chosen", "img"))
        share = image["width"] / int(sheet.locator("img").get_attribute("width"))
        assert mark["width"] == pytest.approx(share * int(sheet.get_attribute("data-wide")), abs=1)
        page.set_viewport_size({"width": 1400, "height": 900})
        # figure 2 leads to a layer
        first.locator('svg.figure2 a[aria-label="conv1, tower 2"]').focus()
        page.keyboard.press("Enter")
        sync_api.expect(first.locator('details[data-layer="conv1"] .sheet').first).to_be_visible()


def test_the_slider_shows_kernels_and_answers_as_they_form(browser, address):
    with opened(browser, address) as page:
        first, second = page.locator("article").all()
        drop(page, picture("red", 998), "red.png")
        bars = first.locator('[data-part="answers"] .bars')
        sync_api.expect(bars).to_be_visible()
        sync_api.expect(first.locator('[data-part="kernels"] img').first).to_be_visible()
        best, kernels = bars.inner_text(), first.locator('[data-part="kernels"]').inner_html()
        slider = first.locator(".slider input")
        sync_api.expect(slider).to_have_attribute("max", "3")
        slider.focus()
        page.keyboard.press("Home")
        sync_api.expect(first.locator("output")).to_have_text("epoch 0")
        sync_api.expect(bars).not_to_have_text(best)
        # the other column is of that epoch's weights
        start = second.locator('[data-part="answers"] .bars').inner_text()
        sync_api.expect(bars).to_have_text(start, use_inner_text=True)
        changed = "before => document.querySelector('[data-part=kernels]').innerHTML !== before"
        page.wait_for_function(changed, arg=kernels)


def test_the_map_that_was_clicked_is_shown_for_every_epoch_and_photograph(browser, address):
    with opened(browser, address) as page:
        first = page.locator("article").first
        drop(page, picture("red", 994), "red.png")
        first.locator('details[data-layer="conv2"] > summary').click()
        board = first.locator('details[data-layer="conv2"] .sheet').first
        board.click(position={"x": 5, "y": 5})
        about = first.locator(".chosen-map h4").first
        sync_api.expect(about).to_contain_text("conv2, channel 0")
        for change in (
            lambda: first.locator(".slider input").press("Home"),
            lambda: drop(page, picture("blue", 993), "blue.png"),
        ):
            before = about.inner_text()
            change()
            sync_api.expect(about).not_to_have_text(before)
            sync_api.expect(about).to_contain_text("conv2, channel 0")
            sync_api.expect(board.locator(".chosen")).to_be_visible()
            sync_api.expect(first.locator(".strongest .tiles")).to_be_visible()


def test_playing_can_be_stopped_and_is_never_twice(browser, address):
    with opened(browser, f"{address}?pause=100") as page:
        first = page.locator("article").first
        play = first.locator(".play")
        said = page.evaluate(
            """() => {
                window.shown = [];
                const note = () => shown.push(document.querySelector("output").textContent);
                new MutationObserver(note).observe(
                    document.querySelector("output"), {childList: true});
                const play = document.querySelector(".play");
                return [1, 2, 3].map(() => {
                    play.click();
                    return play.textContent;
                });
            }"""
        )
        assert said == ["Stop", "Play", "Stop"]
        sync_api.expect(play).to_have_text("Play")
        shown = page.evaluate("shown")
        order = ["epoch 0", "epoch 10", "epoch 20", "best"]
        places = [order.index(said) for said in shown]
        assert places == sorted(places)
        assert set(shown) == set(order)
    with opened(browser, f"{address}?pause=100000") as page:  # whoever takes the slider ends it
        first = page.locator("article").first
        first.locator(".play").click()
        sync_api.expect(first.locator(".play")).to_have_text("Stop")
        first.locator(".slider input").press("End")
        sync_api.expect(first.locator(".play")).to_have_text("Play")


def test_the_slider_needs_not_wait_for_the_run_to_be_looked_at(browser, address):
    with opened(browser, address) as page:
        page.route("**/epochs", lambda route: None)  # never answered
        page.reload()
        page.locator(".slider input").first.press("Home")
        sync_api.expect(page.locator("output").first).to_have_text("epoch 0")


def test_a_server_that_is_away_is_said_until_it_answers(browser, address):
    with opened(browser, f"{address}?follow=50", notes="ERR_FAILED") as page:
        said = page.locator("#said")
        page.locator('[data-part="kernels"] img').first.wait_for()
        sync_api.expect(said).to_be_hidden()
        page.route("**/*", lambda route: route.abort())
        sync_api.expect(said).to_have_text("The server does not answer: has it been stopped?")
        drop(page, picture("red", 992), "red.png")  # says so too, and breaks nothing
        page.unroute("**/*")
        sync_api.expect(said).to_be_hidden()
        drop(page, picture("red", 992), "red.png")
        sync_api.expect(page.locator('[data-part="answers"] .bars').first).to_be_visible()


def test_a_photograph_does_not_end_what_has_nothing_to_do_with_it(browser, address):
    with opened(browser, address) as page:
        held = []
        page.route("**/part/validation*", lambda route: held.append(route))
        with page.expect_request("**/part/validation*"):
            page.locator("#validation > summary").click()
        drop(page, picture("red", 991), "red.png")
        sync_api.expect(page.locator('[data-part="answers"] .bars').first).to_be_visible()
        [one] = held
        one.continue_()
        sync_api.expect(page.locator(".thumb").first).to_be_visible()


def test_the_last_photograph_is_shown_even_if_it_is_read_first(browser, address):
    with opened(browser, address) as page:
        held, answer = [], page.locator('[data-part="answers"] li .class').first
        page.route("**/photo?name=slow.png", lambda route: held.append(route))
        with page.expect_request("**/photo?name=slow.png"):
            drop(page, picture("red", 990), "slow.png")
        drop(page, picture("blue", 989), "quick.png")
        sync_api.expect(answer).to_have_text("blue")
        with page.expect_response("**/photo?name=slow.png"):
            held[0].continue_()
        page.locator('[data-part="crops"] > summary').first.click()
        page.locator("svg.crops").first.wait_for()
        sync_api.expect(answer).to_have_text("blue")


def test_a_pixel_of_a_map_that_is_no_longer_shown_is_forgotten(browser, address):
    with opened(browser, address) as page:
        first = page.locator("article").first
        drop(page, picture("red", 987), "red.png")
        first.locator('details[data-layer="conv2"] > summary').click()
        board = first.locator('details[data-layer="conv2"] .sheet').first
        board.click(position={"x": 5, "y": 5})
        about = first.locator(".chosen-map")
        sync_api.expect(about.locator("h4").first).to_contain_text("channel 0")
        held = []
        page.route(PIXEL_OR_MAP, lambda route: held.append(route))
        for one, key in ((board, "ArrowRight"), (about.locator(".pixels .sheet"), "End")):
            with page.expect_request(PIXEL_OR_MAP):
                one.press(key)
        channel, unit = arrived(page, held, 2)
        channel.continue_()
        sync_api.expect(about.locator("h4").first).to_contain_text("channel 1")
        with page.expect_response("**/part/unit*"):
            unit.continue_()
        page.unroute(PIXEL_OR_MAP)
        about.locator(".pixels .sheet").press("End")  # and this map's own is shown
        sync_api.expect(about.locator(".arithmetic h4").last).to_contain_text("channel 1")


def test_what_could_not_be_loaded_is_dim_until_it_is(browser, address):
    with opened(browser, f"{address}?follow=50", notes="ERR_FAILED") as page:
        first = page.locator("article").first
        drop(page, picture("red", 986), "red.png")
        first.locator('details[data-layer="conv2"] > summary').click()
        maps = first.locator('details[data-layer="conv2"] .maps')
        maps.locator(".sheet").first.click(position={"x": 5, "y": 5})
        about = first.locator(".chosen-map")
        sync_api.expect(about.locator(".strongest .tiles")).to_be_visible()
        before = [one.locator("img").first.get_attribute("src") for one in (maps, about)]
        for name in ("layer", "channel", "strongest"):
            page.route(f"**/part/{name}?*", lambda route: route.abort())
        drop(page, picture("blue", 985), "blue.png")
        sync_api.expect(maps).to_have_class("maps stale")
        sync_api.expect(about).to_have_class("chosen-map stale")
        for name in ("layer", "channel"):
            page.unroute(f"**/part/{name}?*")
        for one, source in zip((maps, about), before, strict=True):
            sync_api.expect(one).not_to_have_class(re.compile("stale"))
            sync_api.expect(one.locator("img").first).not_to_have_attribute("src", source)
        sync_api.expect(about.locator(".strongest")).to_have_text("")  # it is not searching
        page.unroute("**/part/strongest?*")
        sync_api.expect(about.locator(".strongest .tiles")).to_be_visible()


def test_a_part_is_asked_for_once_and_its_time_is_that_of_the_photograph(browser, address):
    with opened(browser, address) as page:
        first, asked, held = page.locator("article").first, [], []
        page.on("request", lambda one: asked.append(one.url.partition("/part/")[2]))
        page.route("**/part/answers?run=0*", lambda route: held.append(route))
        with page.expect_request("**/part/answers?run=0*"):
            drop(page, picture("red", 984), "red.png")
        first.locator('[data-part="crops"] > summary').click()
        sync_api.expect(first.locator("svg.crops")).to_be_visible()
        held[0].continue_()
        page.unroute("**/part/answers?run=0*")
        sync_api.expect(first.locator('[data-part="answers"]')).to_contain_text("s after the")
        sync_api.expect(first.locator('[data-part="layers"] details').first).to_be_visible()
        for part in ("answers", "crops", "network", "layers"):
            assert sum(one.startswith(f"{part}?run=0") for one in asked) == 1, part
        summary = first.locator('[data-part="answers"] > summary')
        summary.click()  # what is opened later took no time
        drop(page, picture("blue", 983), "blue.png")
        sync_api.expect(first.locator('[data-part="crops"] .stale')).to_have_count(0)
        summary.click()
        sync_api.expect(first.locator('[data-part="answers"] .class').first).to_have_text("blue")
        assert "s after the" not in first.locator('[data-part="answers"]').inner_text()


def test_the_photograph_is_still_there_when_the_page_is_loaded_again(browser, address):
    with opened(browser, address) as page:
        drop(page, picture("blue", 982), "blue.png")
        answer = page.locator('[data-part="answers"] .class').first
        sync_api.expect(answer).to_have_text("blue")
        page.reload()
        sync_api.expect(answer).to_have_text("blue")
        assert "s after the" not in page.locator('[data-part="answers"]').first.inner_text()
        page.evaluate("sessionStorage.setItem('photo', 'forgotten')")
        with page.expect_response("**/photo/forgotten"):
            page.reload()
        page.wait_for_function("() => sessionStorage.getItem('photo') === ''")
        sync_api.expect(page.locator(".no-photo").first).to_be_visible()


def test_both_runs_open_the_same_part(browser, address):
    with opened(browser, address) as page:
        drop(page, picture("red", 988), "red.png")
        first, second = page.locator("article").all()
        for part in ('[data-part="looks"]', 'details[data-layer="relu1"]'):
            first.locator(f"{part} > summary").click()
            sync_api.expect(second.locator(f"{part} img").first).to_be_visible()
            second.locator(f"{part} > summary").click()
            sync_api.expect(first.locator(f"{part} img").first).to_be_hidden()


def test_the_page_follows_a_run(browser, address, run):
    new = run / "checkpoints" / "epoch-0030.safetensors"
    history = (run / "history.csv").read_text()
    with opened(browser, f"{address}?follow=100") as page:
        first = page.locator("article").first
        curve = first.locator('[data-part="curves"] svg polyline').first
        sync_api.expect(curve).to_be_visible()
        before = curve.get_attribute("points")
        try:
            new.write_bytes((run / "best.safetensors").read_bytes())
            last = history.splitlines()[-1].split(",")
            (run / "history.csv").write_text(history + ",".join(["21", *last[1:]]) + "\n")
            sync_api.expect(first.locator(".slider input")).to_have_attribute("max", "4")
            sync_api.expect(curve).not_to_have_attribute("points", before)
        finally:
            new.unlink()
            (run / "history.csv").write_text(history)


def test_a_picture_is_taken_by_webcam(browser, address):
    with opened(browser, address) as page:
        video = page.locator("video")
        for visible in (True, False):  # the button opens it, and closes it again
            page.locator("#webcam").click()
            sync_api.expect(video).to_be_visible(visible=visible)
        assert page.evaluate("document.querySelector('video').srcObject === null")
        page.locator("#webcam").click()
        page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
        page.locator("#camera button").click()
        sync_api.expect(page.locator('[data-part="answers"] .bars').first).to_be_visible()


def test_what_is_no_photograph_and_what_is_chosen_instead(browser, address):
    with opened(browser, address) as page:
        page.locator("#validation > summary").click()
        page.locator(".thumb").first.click()
        bars = page.locator('[data-part="answers"] .bars').first
        sync_api.expect(bars).to_be_visible()
    with opened(browser, address, notes="400") as page:  # Chromium notes the status
        drop(page, b"no image", "page.txt")
        sync_api.expect(page.locator("#said")).to_contain_text("page.txt is not an image")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_live_page_fits_and_can_be_read(browser, address, scheme):
    with opened(browser, address, scheme) as page:
        drop(page, picture("red", 997), "red.png")
        page.locator('[data-part="layers"] details').first.wait_for()
        require_readable(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_explained_photograph_fits_and_can_be_read(browser, explained, scheme):
    with opened(browser, explained, scheme) as page:
        require_readable(page)
        sync_api.expect(page.locator(".bars .class").first).to_have_text("blue")
        page.locator(".sheet").first.focus()
        enlarged = page.locator(".enlarged").first
        for key, channel in (("Enter", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("End", 1)):
            page.keyboard.press(key)
            sync_api.expect(enlarged).to_have_text(f"conv1, channel {channel}")
        sync_api.expect(page.locator(".enlarged canvas").first).to_be_visible()


def require_readable(page):
    """Nothing sticks out to the right, and text stands out from the ground by 4.5 to 1."""
    for width in (1400, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("body", ".quiet", "h2", "summary"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector


CONTRAST = """selector => {
    const part = (value) => {
        value /= 255;
        return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    };
    const light = (text) => {
        const [r, g, b] = text.match(/[0-9.]+/g).map(Number);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ink = light(getComputedStyle(document.querySelector(selector)).color);
    const ground = light(getComputedStyle(document.body).backgroundColor);
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
}"""
