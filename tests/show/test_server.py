"""The live page, request by request: what it answers, and whom it refuses."""

import asyncio
import io
import json
import re
import threading
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from helpers.asgi import HOST, PORT, request, requested
from helpers.html import Balanced
from helpers.tiny import photographs, register_tiny
from helpers.untrained import untrained
from PIL import Image

import minialex
from minialex.cli import main
from minialex.data.decode import images, resize
from minialex.errors import InputError
from minialex.parallel import DeviceConfig
from minialex.saliency import activations, arithmetic, unit_occlusion
from minialex.show import guard, live_parts, runs, server
from minialex.show import look as show_look
from minialex.show.look import Photo
from minialex.show.runs import Run

pytest.importorskip("starlette", reason="starlette is not installed (extra `show`)")

from minialex.show.page import Page
from minialex.show.server import application
from minialex.show.worker import Stopped, Worker

NUMPY = DeviceConfig("numpy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two epochs, with its checkpoints, on photographs of two classes."""
    root = tmp_path_factory.mktemp("show")
    with pytest.MonkeyPatch.context() as patch:
        register_tiny(patch)
        data = photographs(root / "data", each=12, classes=("cat", "dog & <hound>"))
        given = {"model": "tiny", "backend": "numpy", "epochs": 2, "progress": False}
        minialex.train(data, out=root / "run", val_fraction=0.5, keep_every=1, **given)
        yield root / "run"


@pytest.fixture(scope="module")
def page(folder):
    weights = folder / "checkpoints" / "epoch-0001.safetensors"
    return Page([Run(folder, NUMPY), Run(weights, NUMPY)])


@pytest.fixture(scope="module")
def app(page):
    return application(page)


@pytest.fixture(scope="module")
def content():
    file = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def key(app, content):
    answer = request(app, "POST", "/photo?name=a.png", content)
    assert answer.status == 200
    return json.loads(answer.body)["photo"]


def part(app, name, **asked):
    asked = {"run": 0, "epoch": "best", **asked}
    return request(app, "GET", f"/part/{name}?" + "&".join(f"{k}={v}" for k, v in asked.items()))


def balanced(text):
    checker = Balanced()
    checker.EMPTY = (*checker.EMPTY, "input")
    checker.feed(text)
    assert not checker.open
    assert not re.search(r'(src|href)="(?!data:|#|/assets/)', text)
    return text


def test_the_frame_has_a_column_for_each_run(app):
    answer = request(app, "GET", "/")
    text = balanced(answer.text)
    assert answer.status == 200
    assert text.count("<article") == 2
    assert 'class="runs two"' in text
    assert 'max="3" value="3"' in text  # epochs 0 to 2, and the best
    for name in ("look.js", "page.js", "page.css"):
        assert f"/assets/{name}" in text
        assert request(app, "GET", f"/assets/{name}").status == 200
    assert request(app, "GET", "/assets/server.py").status == 404
    assert request(app, "GET", "/nothing").status == 404


def test_every_answer_forbids_what_is_not_from_here(app):
    for answer in (request(app, "GET", "/"), request(app, "GET", "/", host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},  # a name that resolves to 127.0.0.1
        {"host": f"evil.example:{PORT}"},
        {"host": "127.0.0.1:80"},
        {"host": None},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": f"https://{HOST}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("POST", "/photo?name=x")])
def test_other_sites_are_refused(app, page, content, method, target, headers):
    before = len(page._photos)
    answer = request(app, method, target, content, headers)
    assert answer.status == 403
    assert len(page._photos) == before


def test_the_pages_own_requests_are_answered(app):
    for headers in ({"host": f"localhost:{PORT}"}, {"sec-fetch-site": "same-origin"}):
        assert request(app, "GET", "/epochs", headers=headers).status == 200
    own = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert request(app, "GET", "/epochs", headers=own).status == 200


@pytest.mark.parametrize(
    ("port", "host", "status"),
    [(80, "127.0.0.1", None), (80, "localhost", None), (80, "evil", 403), (8012, "127.0.0.1", 403)],
)
def test_browsers_leave_out_the_default_port(port, host, status):
    headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
    refused = guard._refusal({"headers": headers, "server": ("127.0.0.1", port), "method": "GET"})
    assert (refused and refused[0]) == status


def test_a_form_of_another_page_cannot_send(app, content):
    assert request(app, "POST", "/photo", content, {"x-minialex": None}).status == 403
    assert request(app, "GET", "/photo").status == 405
    assert request(app, "DELETE", "/photo").status == 405


@pytest.mark.parametrize("said", ["honest", "small", "none", "negative"])
def test_uploads_are_bounded(app, monkeypatch, said):
    monkeypatch.setattr(guard, "LIMIT", 1000)
    length = {"honest": "5000", "small": "10", "none": None, "negative": "-1"}[said]
    answer = request(app, "POST", "/photo", b"x" * 5000, {"content-length": length}, chunk=300)
    assert answer.status == 413


def test_a_photograph_is_remembered(app, key):
    for name, known in ((key, "true"), ("0" * 32, "false"), ("validation-0-1", "false")):
        answer = request(app, "GET", f"/photo/{name}")
        assert (answer.status, answer.text) == (200, known)


def test_the_warm_up_decodes_and_resizes_and_each_photograph_is_decoded_once(
    folder, content, monkeypatch
):
    page, seen, resized = Page([Run(folder, NUMPY)]), [], resize.resize_and_crop
    decode = show_look.load_reduced
    monkeypatch.setattr(
        show_look, "load_reduced", lambda *given: seen.append(given[2]) or decode(*given)
    )
    monkeypatch.setattr(
        resize, "resize_and_crop", lambda *given: seen.append("resized") or resized(*given)
    )
    page.warm_up()
    page.add(content, "a.png")
    assert seen == ["black", "resized", "a.png", "resized"]


def test_what_is_no_photograph_is_a_sentence(app, content, monkeypatch):
    answer = request(app, "POST", "/photo?name=<b>.jpg", b"no image")
    assert answer.status == 400
    assert "&lt;b&gt;.jpg is not an image" in answer.text
    monkeypatch.setattr(images, "PIXEL_LIMIT", 500)
    answer = request(app, "POST", "/photo?name=bomb.png", content + b" ")
    assert answer.status == 400
    assert "bomb.png claims 30 x 20 pixels" in answer.text


def test_answers_are_the_networks(app, key, content, folder):
    for number, path in ((0, folder), (1, folder / "checkpoints" / "epoch-0001.safetensors")):
        [best] = minialex.load(path, backend="numpy").predict(content)
        text = balanced(part(app, "answers", run=number, photo=key).text)
        found = re.findall(r'evidence for it is">(.*?)</button>.*?"share">(.*?)</span>', text)
        assert [unescape(name) for name, _ in found] == [one.name for one in best]
        assert [share for _, share in found] == [f"{one.probability:.1%}" for one in best]
    other = part(app, "answers", epoch=0, photo=key).text
    assert other != part(app, "answers", epoch=2, photo=key).text


@pytest.mark.parametrize("name", ["crops", "network", "looks", "layers", "kernels", "curves"])
def test_every_part_is_there(app, key, name):
    answer = part(app, name, photo=key)
    assert answer.status == 200
    assert len(balanced(answer.text)) > 200


@pytest.mark.parametrize("name", ["conv1", "norm1", "pool1", "relu2", "fc6", "fc8"])
def test_a_layer_a_map_and_a_unit(app, key, page, name):
    model = page.runs[0].classifier("best")
    image = page._photos[key][0].square
    y = activations(model.trained, image[None])[name][0]
    assert f'data-layer="{name}"' in balanced(part(app, "layer", photo=key, layer=name).text)
    channel = y.shape[-1] - 1
    text = balanced(part(app, "channel", photo=key, layer=name, channel=channel).text)
    assert f"{name}, channel {channel}: largest {y[..., channel].max():.4g}" in text
    found = arithmetic(model.trained, image, name, channel)
    assert f"= {found.value:.6g}" in text
    if found.weights is not None:
        listed = json.loads(re.search(r'data-products="([^"]*)"', text)[1])
        assert sum(listed) + found.bias == pytest.approx(found.value, rel=1e-5, abs=1e-5)
    if y.ndim == 3:
        row, column = y.shape[0] - 1, 0
        one = arithmetic(model.trained, image, name, channel, (row, column))
        asked = {"layer": name, "channel": channel, "row": row, "column": column}
        text = balanced(part(app, "unit", photo=key, **asked).text)
        assert f"= {one.value:.6g}" in text
        assert f"row {row}, column {column}" in text
        if name == "relu2":  # with the convolution before it
            assert text.index("arithmetic of conv2") < text.index("data-products")
            assert text.index("data-products") < text.index("arithmetic of relu2")


def test_a_map_is_covered(app, key, page):
    model, image = page.runs[0].classifier("best").trained, page._photos[key][0].square
    y = activations(model, image[None])
    fires = [(name, k) for name in ("relu1", "relu6") for k in range(y[name].shape[-1])]
    kinds = set()
    for name, k in fires:
        found = unit_occlusion(model, image, name, k)
        left = found.value - max(0.0, found.drops.max())
        said = "It does not fire here"
        if y[name][..., k].max() > 0:
            said = f"covering the brightest part lowers {found.value:.4g} to {left:.4g}"
        kinds.add(said[:2])
        text = part(app, "covered", photo=key, layer=name, channel=k).text
        assert said in balanced(text)
    assert len(kinds) == 2  # both are seen
    assert part(app, "covered", photo=key, layer="relu1", channel=99).status == 400


def test_evidence_for_any_class_can_be_asked_for(app, key):
    both = [part(app, "looks", photo=key, label=k).text for k in (0, 1)]
    assert "the centre crop: cat" in both[0]
    assert "the centre crop: dog &amp; &lt;hound&gt;" in both[1]
    assert part(app, "looks", photo=key).text in both
    assert part(app, "looks", photo=key, label=2).status == 400


def test_strongest_and_nearest_images(app, key, page):
    text = balanced(part(app, "strongest", photo=key, layer="conv2", channel=1).text)
    assert text.count("<figcaption>") == 9
    assert "of 12 validation images" in text
    assert "dog &amp; &lt;hound&gt;" in text
    assert (
        "after the last hidden layer"
        in part(app, "strongest", photo=key, layer="fc8", channel=1).text
    )
    chosen = request(app, "POST", "/validation?run=0&index=7")
    itself = json.loads(chosen.body)["photo"]
    near = balanced(part(app, "nearest", photo=itself).text)
    first = re.search(r"<figcaption>(.*?) \(0\.0\)", near)
    assert first  # the nearest to itself is itself
    assert near.count("<figcaption>") == 9


def test_validation_images_can_be_chosen(app):
    text = balanced(part(app, "validation").text)
    assert text.count("<button") == 12
    assert request(app, "POST", "/validation?run=0&index=12").status == 400


def test_an_unreadable_validation_image_is_left_out(folder, monkeypatch):
    run = Run(folder, NUMPY)
    read = type(run.dataset()).image

    def unreadable(dataset, index, size):
        if index in (0, 7):
            raise (OSError, InputError)[index == 7]("it is damaged")
        return read(dataset, index, size)

    monkeypatch.setattr(type(run.dataset()), "image", unreadable)
    text = balanced(live_parts.validation(run).text)
    assert text.count("<button") == 10
    assert 'data-index="7"' not in text


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("answers", {}, "no longer here"),
        ("answers", {"photo": "key", "run": 2}, "no run 2"),
        ("answers", {"photo": "key", "run": "-1"}, "not a number"),
        ("answers", {"photo": "key", "run": "1" * 5000}, "not a number"),
        ("answers", {"photo": "key", "epoch": 9}, "no weights of epoch 9"),
        ("answers", {"photo": "key", "epoch": "../../x"}, "no weights of epoch"),
        ("layer", {"photo": "key", "layer": "conv9"}, "no layer"),
        ("channel", {"photo": "key", "layer": "conv1", "channel": 4}, "channels 0 to 3"),
        ("unit", {"photo": "key", "layer": "conv1", "channel": 0, "row": 9, "column": 0}, "pixels"),
        ("whatever", {"photo": "key"}, "no part"),
        ("answers", {f"more{i}": i for i in range(30)}, "Max number of fields"),
    ],
)
def test_what_there_is_not_is_a_sentence(app, key, name, asked, said):
    asked = {k: key if v == "key" else v for k, v in asked.items()}
    answer = part(app, name, **asked)
    assert answer.status == 400
    assert said in answer.text


def test_names_that_are_no_characters_are_shown_as_escapes(tmp_path):
    """Of a folder made on a system with another encoding: bytes that are no UTF-8."""
    made = untrained(name="cifar10")
    names = tuple(f"caf\udce9 {name}" for name in made.class_names)
    replace(made, class_names=names).save(tmp_path / "weights.safetensors")
    own = application(Page([Run(tmp_path / "weights.safetensors", NUMPY)]))
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, "PNG")
    key = json.loads(request(own, "POST", "/photo?name=a.png", file.getvalue()).body)["photo"]
    answer = part(own, "answers", photo=key)
    assert answer.status == 200
    assert "caf\\udce9" in answer.text
    assert part(own, "kernels", epoch="9" * 5000).status == 400


def test_the_page_follows_a_run(folder, app):
    before = json.loads(request(app, "GET", "/epochs").body)
    assert [one["epochs"] for one in before] == [["0", "1", "2", "best"], ["best"]]
    new = folder / "checkpoints" / "epoch-0003.safetensors"
    new.write_bytes((folder / "best.safetensors").read_bytes())
    try:
        after = json.loads(request(app, "GET", "/epochs").body)
        assert after[0]["epochs"] == ["0", "1", "2", "3", "best"]
        assert after[0]["stamp"] == before[0]["stamp"]
        best = folder / "best.safetensors"
        best.write_bytes(best.read_bytes())
        assert json.loads(request(app, "GET", "/epochs").body)[0]["stamp"] != after[0]["stamp"]
    finally:
        new.unlink()
    text = part(app, "curves").text
    assert text.count("<polyline") + text.count("<circle") >= 4
    assert "Loss by step" in text
    assert "no curves" in part(app, "curves", run=1).text


def test_a_server_that_ends_waits_for_nothing(folder):
    page = Page([Run(folder, NUMPY)])
    page.warm_up()
    begun, go_on = threading.Event(), threading.Event()

    def forever():
        begun.set()
        go_on.wait(60)

    def stop():
        begun.wait(60)
        page.worker.stop()

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped):
        asyncio.run(page.worker.call(forever))
    assert request(application(page), "GET", "/part/curves?run=0").status == 503
    go_on.set()


def test_what_nobody_waits_for_is_not_computed(app, page, key):
    """A slider that is dragged leaves most of its requests."""
    computed, begun, go_on = [], threading.Event(), threading.Event()

    def busy():
        begun.set()
        assert go_on.wait(60)

    async def slider():
        first = asyncio.ensure_future(page.worker.call(busy))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        target = f"/part/answers?run=0&epoch=0&photo={key}"
        answer = await requested(app, "GET", target, leaves=True)
        go_on.set()
        await first
        await page.worker.call(lambda: None)  # whatever was waiting has had its turn
        return answer.status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "part", lambda *asked: computed.append(asked) or "")
        assert asyncio.run(slider()) == 499
        assert computed == []
        assert part(app, "answers", photo=key).status == 200
        assert len(computed) == 1


def test_an_upload_that_breaks_off_is_no_error(app, page):
    before = len(page._photos)
    answer = request(app, "POST", "/photo", b"x", {"content-length": "9"}, leaves=True)
    assert answer.status == 499
    assert len(page._photos) == before


def test_a_run_is_shown_from_its_first_epoch_on(folder, tmp_path):
    for name in ("config.json", "checkpoints/epoch-0000.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    run = Run(tmp_path, NUMPY)
    start, before = run.classifier("best"), run.stamp
    assert start is run.classifier("0")
    assert run.epochs() == ["0", "best"]
    (tmp_path / "best.safetensors").write_bytes((folder / "best.safetensors").read_bytes())
    assert run.stamp != before
    assert run.classifier("best") is not start
    (tmp_path / "best.safetensors").unlink()
    (tmp_path / "checkpoints/epoch-0000.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights yet"):
        Run(tmp_path, NUMPY)


def test_validation_images_that_come_back_are_found(folder, monkeypatch):
    """An unmounted disk is no reason to start again."""
    run, found = Run(folder, NUMPY), runs.images_to_judge

    def missing(about, data):
        raise InputError("the folder is not there")

    monkeypatch.setattr(runs, "images_to_judge", missing)
    with pytest.raises(InputError, match="not there"):
        run.dataset()
    monkeypatch.setattr(runs, "images_to_judge", found)
    assert len(run.dataset()) == 12
    assert run.dataset() is run.dataset()


def test_weights_without_data_say_so_and_that_is_no_error(folder, key, tmp_path, monkeypatch):
    classifier = minialex.load(folder, backend="numpy")
    replace(classifier, data={}).save(tmp_path / "alone.safetensors")
    page = Page([Run(tmp_path / "alone.safetensors", NUMPY)])
    app = application(page)
    chosen = {"photo": key, "layer": "conv1", "channel": 0}
    monkeypatch.setattr(page, "_photos", {key: [Photo("x", np.zeros((16, 16, 3), np.uint8))]})
    for name in ("nearest", "strongest", "validation"):
        answer = part(app, name, **chosen)
        assert answer.status == 200
        assert "minialex show` with --data" in answer.text
    assert request(app, "POST", "/validation?run=0&index=0").status == 400


def test_a_search_that_fails_starts_again(folder, monkeypatch):
    run = Run(folder, NUMPY)
    search, forward = run.search("best"), runs.forward
    monkeypatch.setattr(runs, "_BATCH", 5)
    search._start()
    assert search.step()
    whole = {name: one.values for name, one in searched(run.search("2")).items()}

    def fails(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr(runs, "forward", fails)
    with pytest.raises(MemoryError):
        search.step()
    monkeypatch.setattr(runs, "forward", forward)
    assert run.search("best") is search
    again = searched(search)
    assert search.read == 12
    assert again.keys() == whole.keys()
    assert len(again["fc6"].indices[0]) == 9
    assert len(set(again["fc6"].indices[0])) == 9  # no image is counted twice


def searched(search):
    """What a search finds in the end."""
    while search.step():
        pass
    return search.strongest


def test_a_long_search_answers_with_what_it_has_found_so_far(folder, monkeypatch):
    monkeypatch.setattr(runs, "_BATCH", 5)
    monkeypatch.setattr(server, "PATIENCE", -1.0)
    app = application(Page([Run(folder, NUMPY)]))
    chosen = request(app, "POST", "/validation?run=0&index=7")
    key = json.loads(chosen.body)["photo"]
    for read, more in ((5, "1"), (10, "1"), (12, "1"), (12, "0")):
        answer = part(app, "nearest", photo=key)
        assert f"of {read} validation images{' so far' * int(more)}" in answer.text
        assert answer.headers["x-minialex-more"] == more


def test_images_that_cannot_be_read_are_a_sentence(app, key, page, monkeypatch):
    run = Run(page.runs[0].path, NUMPY)
    search = run.search("best")
    search.order = search.order[:0]
    search._start()
    searched(search)
    asked = {"run": "0", "epoch": "best", "photo": key, "layer": "conv1", "channel": "0"}
    for name in ("nearest", "strongest"):
        with pytest.raises(InputError, match="can be read"):
            page.searched(name, asked, search)


def test_an_error_of_the_worker_is_the_callers():
    async def both(worker):
        with pytest.raises(ZeroDivisionError):
            await worker.call(divmod, 1, 0)
        return await worker.call(divmod, 7, 2)

    assert asyncio.run(both(Worker())) == (3, 1)


def test_only_so_many_are_remembered():
    kept = runs.Recent(2)
    made = [kept.of(key, lambda key=key: key * 10) for key in (1, 2, 1, 3)]
    assert made == [10, 20, 10, 30]
    assert list(kept) == [1, 3]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("show a b c", "3 runs were given"),
        ("show x --port 70000", "largest port is 65535"),
        ("show nowhere --backend numpy", "nowhere"),
    ],
)
def test_the_command_refuses(capsys, line, said):
    assert main.main(line.split()) == 2
    assert said in capsys.readouterr().err


def test_a_taken_port_is_a_sentence(page):
    import socket

    from minialex.show.server import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="choose another with --port"):
            serve(page, taken.getsockname()[1])
