"""Clips, flow and the two streams: motion shows what a frame cannot, and both together more."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers.stripes import stripes
from threadpoolctl import threadpool_limits

needs = "not installed: pip install 'minialex[video]'"
cv2 = pytest.importorskip("cv2", reason=f"OpenCV is {needs}")

from minialex import backends, models  # noqa: E402
from minialex.cli import main  # noqa: E402
from minialex.data.loading.loader import Loader  # noqa: E402
from minialex.data.preprocessing import Preprocessing  # noqa: E402
from minialex.data.sources.open import open_data  # noqa: E402
from minialex.data.statistics import Statistics, measure  # noqa: E402
from minialex.errors import InputError, TrainingError  # noqa: E402
from minialex.inference.classifier import Classifier  # noqa: E402
from minialex.layers import Conv2D, Dense, MaxPool, ReLU, ResponseNorm  # noqa: E402
from minialex.models import registry  # noqa: E402
from minialex.models.registry import Variant  # noqa: E402
from minialex.network import Network  # noqa: E402
from minialex.parallel import SingleDevice  # noqa: E402
from minialex.video import __main__, flow  # noqa: E402
from minialex.video.clips import FIELDS, ClipSplits, Flows, Frames, temporal  # noqa: E402
from minialex.video.files import VideoFiles, open_videos  # noqa: E402
from minialex.video.moving import MOTIONS, Moving, mixed, motions_only  # noqa: E402
from minialex.video.two_stream import FlowViews, judge, train_streams  # noqa: E402

PHOTOGRAPHS = open_data("shapes:48")


def texture(size=56):
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@pytest.mark.parametrize("method", flow.METHODS)
def test_a_flow_field_measures_a_known_shift(method):
    grey = cv2.cvtColor(texture(), cv2.COLOR_RGB2GRAY)
    moved = np.roll(grey, (1, -2), axis=(0, 1))  # down one, left two
    x, y = flow.field(grey, moved, method)[12:-12, 12:-12].mean(axis=(0, 1))
    assert abs(x + 2) < 0.25
    assert abs(y - 1) < 0.25


def test_a_stack_excludes_camera_motion_and_is_in_order():
    still = texture(64)
    panned = np.stack([np.roll(still, i, axis=1) for i in range(FIELDS + 1)])
    levels = flow.stack(panned)
    assert levels.shape == (64, 64, 2 * FIELDS)
    assert levels.dtype == np.uint8
    assert abs(levels[16:-16, 16:-16].astype(float).mean() - 128) < 8
    object_moves = panned.copy()
    object_moves[:, :20], object_moves[:, 44:] = still[:20], still[44:]
    for i in range(6, FIELDS + 1):
        object_moves[i] = object_moves[5]  # stops halfway
    levels = flow.displacements(flow.stack(object_moves), 4)[26:38, 12:-12].mean(axis=(0, 1))
    assert (levels[0:10:2] > 0.4).all()
    assert (np.abs(levels[1:10:2]) < 0.2).all()
    assert (np.abs(levels[10:]) < 0.2).all()


def test_displacements_survive_eight_bits():
    values = np.linspace(-4, 4, 33)
    levels = flow.quantised(values, 4.0)
    assert (levels.min(), levels.max(), levels[16]) == (1, 255, 128)
    np.testing.assert_allclose(flow.displacements(levels, 4.0), values, atol=4 / 127 / 2 + 1e-6)
    assert flow.quantised(np.array([9.0]), 4.0) == 255


def test_each_motion_moves_according_to_its_name():
    clips = motions_only(PHOTOGRAPHS, 64).train
    for k, name in enumerate(MOTIONS):
        field = np.zeros(4)
        for index in range(k, 48, 8):
            levels = flow.displacements(flow.stack(clips.frames(index, 64)), 4)
            field += _parts(levels[..., 0::2].mean(axis=2), levels[..., 1::2].mean(axis=2)) / 6
        wanted = np.array(MOTIONS[name], float)
        assert field @ wanted > 0.05, (name, field)
        assert np.abs(field * (1 - np.abs(wanted))).max() < field @ wanted, (name, field)


def _parts(x, y):
    """Shift right, shift down, growth and clockwise rotation of a field about its moving part."""
    strength = np.hypot(x, y) ** 2
    rows, columns = np.indices(x.shape)
    cy, cx = (np.average(places, weights=strength) for places in (rows, columns))
    dy, dx = (rows - cy) / 10, (columns - cx) / 10
    near = (np.hypot(dx, dy) < 1.6).astype(float)
    return np.array([np.average(p, weights=near) for p in (x, y, x * dx + y * dy, y * dx - x * dy)])


def test_the_middle_frame_is_the_same_whatever_the_motion():
    """The same random numbers with another motion: the frame must not change."""
    sets = [Moving(PHOTOGRAPHS.train, 8, (motion, "up")) for motion in MOTIONS]
    middles = [s.frames(0, 48)[FIELDS // 2] for s in sets]
    for middle in middles[1:]:
        np.testing.assert_array_equal(middle, middles[0])
    ends = [s.frames(0, 48)[-1] for s in sets]
    assert all((end != ends[0]).any() for end in ends[1:])


def test_clips_are_a_function_of_seed_part_and_index():
    one, again = (mixed(PHOTOGRAPHS, 48, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.train.frames(7, 32), again.train.frames(7, 32))
    other = mixed(PHOTOGRAPHS, 48, seed=5)
    assert (other.train.frames(7, 32) != one.train.frames(7, 32)).any()
    assert (one.val.frames(7, 32) != one.train.frames(7, 32)).any()
    assert (one.train.frames(7, 32) != one.train.frames(19, 32)).any()
    assert len(one.train.class_ids) == 12
    assert one.train.class_names[1] == "blue dotted cross, right"
    assert len(one.val) == 24


def test_stacks_pass_through_loader_and_statistics():
    flows = temporal(motions_only(PHOTOGRAPHS, 32)).train
    [batch] = Loader(flows, 32).batches(np.arange(4), 4)
    assert batch.images.shape == (4, 32, 32, 20)
    np.testing.assert_array_equal(batch.images[3], flows.image(3, 32))
    statistics = measure(flows, 32)
    assert statistics.mean.shape == (32, 32, 20)
    assert statistics.colour_axes.shape == (20, 20)
    pixels = np.stack([flows.image(i, 32) for i in range(32)]).reshape(-1, 20)
    values = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(statistics.colour_std, np.sqrt(values), rtol=1e-6)


class Kept(Moving):
    """Clips that are generated once and kept."""

    frames = cache(Moving.frames)


def kept(photographs, counts, motions, appearances=()):
    """Clips for training, a few for validation during training, and those for evaluation."""
    parts = (photographs.train, photographs.val, photographs.val)
    return [
        Kept(of, count, motions, appearances, part=part, name="kept")
        for part, (of, count) in enumerate(zip(parts, counts, strict=True))
    ]


def tiny_stream(classes, *, channels=3):
    layers = (
        ("conv1", Conv2D(8, 5, stride=2, pad=2)),
        ("relu1", ReLU()),
        ("norm1", ResponseNorm()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(16, 3, pad=1, weight_std=None)),
        ("relu2", ReLU()),
        ("fc3", Dense(16, weight_std=None)),
        ("relu3", ReLU()),
        ("fc4", Dense(classes)),
    )
    return Network(layers, (24, 24, channels))


@pytest.fixture(scope="module")
def tiny():
    """Arguments of `train_streams` for a network that learns in two seconds."""
    stream = registry.variants()["stream-48"]
    recipe = replace(stream.recipe, resize=28, crop=24, batch_size=8, lr=0.001, schedule="constant")
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setitem(registry._VARIANTS, "tiny", Variant(tiny_stream, recipe, "for tests"))
        yield {"model": "tiny", "backend": "numpy", "progress": False}


@pytest.fixture(scope="module")
def two_by_two(tiny, tmp_path_factory):
    """Two directions and two colours: four classes, of which each stream can distinguish two."""
    train, few, judged = kept(stripes(240, 240), (128, 8, 256), ("left", "right"), (0, 6))
    out = tmp_path_factory.mktemp("streams")
    return train_streams(ClipSplits(train, few), out=out, epochs=8, **tiny), judged


def test_each_stream_learns_its_half_and_both_together_the_class(two_by_two):
    judgement = judge(*two_by_two)
    # The other half of the class is a guess: no training brings a stream far below 1/2.
    # Eleven seeds: 0.45 to 0.52 (deviation 0.02) and 0.36 to 0.49 (0.04).
    assert judgement.spatial > 0.3
    assert judgement.temporal > 0.2
    # What both together say of each half, where chance is 1/2. Eleven seeds: colour wrong in 0 to
    # 0.03 (deviation 0.01), motion in 0 to 0.02 (0.01).
    fused = judgement.probabilities.reshape(-1, 2, 2)
    labels = judgement.labels
    assert np.mean(fused.sum(axis=2).argmax(axis=1) != labels // 2) < 0.25
    assert np.mean(fused.sum(axis=1).argmax(axis=1) != labels % 2) < 0.25
    assert judgement.fused == np.mean(judgement.probabilities.argmax(1) != judgement.labels)
    assert "fused" in str(judgement)


def test_the_temporal_stream_wins_where_only_motion_differs(tiny, tmp_path):
    train, few, judged = kept(open_data("shapes:240"), (144, 8, 160), tuple(MOTIONS))
    streams = train_streams(ClipSplits(train, few), out=tmp_path, epochs=10, **tiny)
    judgement = judge(streams, judged)
    # Eight classes: chance is 0.875. Eleven seeds: 0.04 to 0.18 (deviation 0.04), both together the
    # same, and 0.83 to 0.90 (0.02).
    assert judgement.temporal < 0.45
    assert judgement.fused < 0.45
    assert judgement.spatial > 0.7


def sliding(size=64):
    """A clip whose texture moves right by 2 and down by 1 pixel per frame inside a still border."""
    still = texture(size)
    clip = np.stack([np.roll(still, (i, 2 * i), axis=(0, 1)) for i in range(FIELDS + 1)])
    clip[:, :16], clip[:, -16:] = still[:16], still[-16:]
    return clip


@pytest.mark.parametrize("number", range(10))
def test_a_mirrored_view_is_the_flow_of_the_mirrored_clip(number):
    """Up to the asymmetry of the measurement itself: a tenth of a pixel."""
    recipe = models.get("stream-48", 2, channels=20).recipe
    size, crop = recipe.resize, recipe.crop
    statistics = Statistics(np.full((size, size, 20), 128.0), np.zeros(20), np.eye(20), 1)
    preprocessing, b = FlowViews(recipe, statistics), backends.get("numpy")
    top, left, mirrored = preprocessing.views(10)[number]
    clip = sliding(size)
    filmed = clip[:, :, ::-1] if mirrored else clip
    crop_at = (top, size - crop - left if mirrored else left, False)
    x = preprocessing.test_input(b, flow.stack(clip)[None], (top, left, mirrored), "float32")
    expected = preprocessing.test_input(b, flow.stack(filmed)[None], crop_at, "float32")
    pixel = 127 / (flow.BOUND * size)
    np.testing.assert_allclose(x / pixel, expected / pixel, atol=0.5)
    assert np.abs(x - expected).mean() / pixel < 0.1
    assert (x[..., 0::2].mean() < 0) == mirrored
    assert x[..., 1::2].mean() > 0
    assert preprocessing.views(5) == preprocessing.views(10)[:5]


def test_pieces_and_crops_are_averaged(two_by_two):
    """The whole procedure by hand, with two pieces and ten crops of longer clips."""
    streams, judged = two_by_two
    clips = Twice(judged, 3)
    found = judge(streams, clips, crops=10, pieces=2)
    rows = []
    for index in range(len(clips)):
        of_pieces = []
        for frames in clips.pieces(index, 28, 2):
            for stream, square in (
                (streams.spatial, frames[FIELDS // 2]),
                (streams.temporal, flow.stack(frames)),
            ):
                kind = Preprocessing if square.shape[-1] == 3 else FlowViews
                plain = stream.preprocessing
                plain = kind(plain.recipe, plain.statistics)
                for view in plain.ten_views():
                    x = plain.test_input(stream.devices.backends[0], square[None], view, "float32")
                    y = stream.model.network.infer(stream.devices.backends[0], stream.params, x)[0]
                    of_pieces.append(np.exp(y) / np.exp(y).sum())
        rows.append(np.mean(of_pieces, axis=0))
    np.testing.assert_allclose(found.probabilities, rows, rtol=1e-4)
    with pytest.raises(InputError, match="pieces is 0"):
        judge(streams, clips, pieces=0)
    with pytest.raises(InputError, match="not 7"):
        judge(streams, clips, crops=7)


class Twice:
    """The first clips, each followed by the next one's frames."""

    def __init__(self, clips, count):
        self.clips, self.labels = clips, clips.labels[:count]

    def __len__(self):
        return len(self.labels)

    def pieces(self, index, size, count):
        return np.stack([self.clips.frames((index + k) % len(self), size) for k in range(count)])


def test_the_command_on_files(tmp_path, capsys):
    still = texture(64)
    for name, sign in (("left", -1), ("right", 1)):
        for number in range(3):
            frames = [np.roll(still, sign * i + number, axis=1) for i in range(14)]
            write_video(tmp_path / "clips" / name / f"{number}.avi", np.stack(frames))
    options = ["--epochs", "1", "--pieces", "3", "--out", str(tmp_path / "runs")]
    __main__.main([str(tmp_path / "clips"), *options])
    held_out = open_videos(tmp_path / "clips").val
    assert f"error over {len(held_out)} clips" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        __main__.main([str(tmp_path / "none")])
    assert "with a folder of video files for each class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (TrainingError("the loss is NaN"), 2, "error: the loss is NaN"),
        (PermissionError(13, "Permission denied", "runs"), 2, "Permission denied: 'runs'"),
        (KeyboardInterrupt(), 130, "stopped: repeat the command to continue"),
    ],
)
def test_what_ends_the_command_is_a_sentence(tmp_path, monkeypatch, capsys, error, code, said):
    for name in ("left", "right"):
        for number in range(2):
            write_video(tmp_path / name / f"{number}.avi", np.stack([texture(32)] * 2))

    def train(*arguments, **settings):
        raise error

    monkeypatch.setattr(__main__, "train_streams", train)
    with pytest.raises(SystemExit) as end:
        __main__.main([str(tmp_path)])
    assert end.value.code == code
    assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):  # before the training
        __main__.main([str(tmp_path), "--pieces", "0"])
    assert "--pieces 0: it must be at least 1" in capsys.readouterr().err


def test_full_size_streams_can_be_built():
    spatial, flows = (models.get("cnn-m-2048", 101, **o).network for o in (
        {}, {"channels": 20, "second_norm": False, "keep": 0.1}
    ))  # fmt: skip
    assert spatial.input_shape == (224, 224, 3)
    assert flows.input_shape == (224, 224, 20)
    assert flows.parameter_shapes()["conv1"]["weight"] == (7, 7, 20, 96)
    assert "norm2" in dict(spatial.layers)
    assert "norm2" not in dict(flows.layers)
    assert dict(flows.layers)["drop6"].keep == 0.1
    assert spatial.shapes()[-2] == (2048,)


def write_video(path, frames, codec="MJPG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (frames.shape[2], frames.shape[1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, size)
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec} video")
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def test_pieces_are_spread_over_a_file(tmp_path):
    """Each frame's brightness is its number."""
    frames = np.stack([np.full((32, 32, 3), 40 + 6 * i, np.uint8) for i in range(31)])
    for name in ("a", "b"):
        write_video(tmp_path / name / "x.avi", frames)
        write_video(tmp_path / name / "y.avi", frames[: FIELDS + 3])
    clips = open_videos(tmp_path, val_fraction=0.5).train
    for index, path in enumerate(clips.paths):
        found = [piece.mean(axis=(1, 2, 3)) for piece in clips.pieces(index, 32, 5)]
        starts = [0, 5, 10, 15, 20] if path.stem == "x" else [0, 1, 2]
        for start, of_piece in zip(starts, found, strict=True):
            wanted = 40 + 6 * (start + np.arange(FIELDS + 1))
            np.testing.assert_allclose(of_piece, wanted, atol=2.5)


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_video_files_are_read(tmp_path, suffix, codec):
    still = texture(64)
    for name, sign in (("left", -1), ("right", 1)):
        for number in range(3):
            frames = [np.roll(still, sign * i + number, axis=1) for i in range(17)]
            write_video(tmp_path / name / f"{number}.{suffix}", np.stack(frames), codec)
    splits = open_videos(tmp_path)
    assert splits.train.class_ids == ("left", "right")
    assert len(splits.train) + len(splits.val) == 6
    frames = splits.train.frames(0, 64)
    assert frames.shape == (FIELDS + 1, 64, 64, 3)
    number = int(splits.train.paths[0].stem)
    middle = np.roll(still, -8 + number, axis=1)  # frames 3 to 13 of 17: the middle one is 8
    assert np.abs(frames[5].astype(int) - middle).mean() < 6
    assert (
        np.abs(frames[4].astype(int) - middle).mean()
        > 1.2 * np.abs(frames[5].astype(int) - middle).mean()
    )
    assert Flows(splits.train).image(0, 32).shape == (32, 32, 20)
    assert Frames(splits.val).image(0, 32).shape == (32, 32, 3)


def test_unreadable_clips_are_left_out_in_training_and_evaluation(tmp_path, capsys):
    still = texture(48)
    for name, sign in (("left", -1), ("right", 1)):
        for number in range(6):
            frames = [np.roll(still, sign * i + number, axis=1) for i in range(FIELDS + 1)]
            write_video(tmp_path / "clips" / name / f"{number}.avi", np.stack(frames))
        (tmp_path / "clips" / name / "._0.avi").write_bytes(b"a note of the system")
    whole = open_videos(tmp_path / "clips")
    assert len(whole.train) + len(whole.val) == 12
    broken = whole.val.paths[0]
    broken.write_bytes(b"no video")
    command = ["--epochs", "1", "--pieces", "1", "--out", str(tmp_path / "run")]
    for _ in range(2):  # the second time, both streams are trained already
        __main__.main([str(tmp_path / "clips"), *command])
        output = capsys.readouterr().out
        assert f"over {len(whole.val) - 1} clips" in output
        assert "1 unreadable clips skipped:" in output.splitlines()[-2]
        assert str(broken) in output.splitlines()[-1]
        assert "operating-system files" in output
    streams = train_streams(whole, out=tmp_path / "run", go_on=True, epochs=1, progress=False)
    with pytest.raises(InputError, match="no clip of 'broken' can be read"):
        judge(streams, VideoFiles("broken", "", ("left", "right"), (broken,), np.zeros(1, int)))


def test_an_unusable_file_or_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="with a folder of video files for each class"):
        open_videos(tmp_path / "none")
    (tmp_path / "a").mkdir()
    with pytest.raises(FileNotFoundError, match=f"did you mean '{tmp_path}/a'"):
        open_videos(tmp_path / "as")
    (tmp_path / "a" / "x.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match="at least two"):
        open_videos(tmp_path)
    write_video(tmp_path / "b" / "y.avi", np.stack([texture(32)] * 5))
    (tmp_path / "b" / "z.avi").write_bytes(b"")
    (tmp_path / "a" / "w.avi").write_bytes(b"")
    splits = open_videos(tmp_path)
    sentences = []
    for part in (splits.train, splits.val):
        for index in range(len(part)):
            with pytest.raises(InputError) as error:
                part.frames(index, 32)
            sentences.append(str(error.value))
    assert sum(" has 0 readable frames" in s for s in sentences) == 3
    assert sum("y.avi has 5 readable frames" in s for s in sentences) == 1


def test_photographs_are_no_flow(tmp_path, capsys):
    """What reads flow names the channels of a photograph."""
    model = models.get("stream-48", 12, channels=20)
    b, size = backends.get("numpy"), model.recipe.resize
    statistics = Statistics(np.full((size, size, 20), 128.0), np.zeros(20), np.eye(20), 1)
    names, devices = PHOTOGRAPHS.train.class_ids, SingleDevice(model.network, b)
    preprocessing = Preprocessing(model.recipe, statistics)
    params = model.network.init(b, seed=0)
    stream = Classifier(model, params, preprocessing, names, names, devices, {})
    stream.save(tmp_path / "stream.safetensors")
    weights = ["--model-file", str(tmp_path / "stream.safetensors"), "--backend", "numpy"]
    out = ["--out", str(tmp_path / "features.npz")]
    new = ["--out", str(tmp_path / "run"), "--backend", "numpy"]
    said = "3 channels, but the network reads 20: choose a network for such images"
    for line in (
        ["predict", "shapes:1", *weights],
        ["features", "shapes:1", *weights, *out],
        ["neighbors", "shapes:1", "--in", "shapes:2", *weights],
        ["evaluate", "--data", "shapes:48", *weights],
    ):
        assert main.main(line) == 2
        assert said in capsys.readouterr().err
    scratch = ["train", "--data", "shapes:48", "--model", "stream-48", "--option", "channels=20"]
    assert main.main([*scratch, *new]) == 2
    assert "3 channels, but stream-48 reads 20" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match=r"float64 \(1, 56, 56, 20\), but the network reads uint8"):
        stream.trained.probabilities(np.zeros((1, size, size, 20)))


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match="too few"):
        motions_only(PHOTOGRAPHS, 10)
    with pytest.raises(InputError, match="choose 2 to 12"):
        mixed(PHOTOGRAPHS, 96, appearances=13)
    with pytest.raises(InputError, match="did you mean 'left'"):
        Moving(PHOTOGRAPHS.train, 8, ("lef",))
    with pytest.raises(InputError, match="unknown flow method"):
        Flows(motions_only(PHOTOGRAPHS, 32).train, "brox").image(0, 32)
    splits: ClipSplits = motions_only(PHOTOGRAPHS, 32)
    with pytest.raises(InputError, match="unknown option 'channels'"):
        train_streams(splits, model="alexnet-64", out=tmp_path)
