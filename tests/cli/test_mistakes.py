"""Every mistake gives one line on standard error and exit code 2; a bug keeps its traceback."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from helpers.cli_tools import TINY, photos
from helpers.untrained import untrained
from safetensors.numpy import save_file

import minialex
from minialex.cli import main
from minialex.utils import checkpoint


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --data pest", "did you mean 'pets'"),
        ("train --data empty", "nothing at all"),
        ("train --data unreadable", "readable"),
        ("train --data photo.jpg", "is a file"),
        ("train --data shapes:many", "shapes:N"),
        ("train --model alexnet64", "did you mean 'alexnet-64'"),
        ("train --model alexnet-64 --option tower=1", "did you mean 'towers'"),
        ("train --backend nunpy", "did you mean 'numpy'"),
        ("train --schedule stpe", "did you mean 'step'"),
        ("train --devices 0,x", "--devices: invalid list value: '0,x'"),
        ("train --devices 0,1 --parallel tower", "did you mean 'towers'"),
        ("train --precision bf16", "does not compute in"),
        ("train --backend cupy --devices 0,7", "there is no CUDA device 7"),
        ("train --backend cupy --precision fp8", "unknown precision 'fp8'"),
        ("train --epochs many", "--epochs: invalid int value: 'many'"),
        ("train --epoch 3", "unrecognized arguments: --epoch: did you mean --epochs?"),
        ("train --no-mirorr", "did you mean --no-mirror?"),
        ("predict photo.jpg --bakend=numpy", "did you mean --backend?"),
        ("train pets", "unrecognized arguments: pets (see minialex train --help)"),
        ("train --option towers", "not NAME=VALUE"),
        ("train --layer-rate conv1", "invalid LAYER=R value: 'conv1'"),
        ("train --layer-rate conv1=-1", "layer_rates of conv1"),
        ("train --model alexnet-64 --layer-rate conv9=0.1", "did you mean 'conv5'"),
        ("train --data shapes:48 --model alexnet-64 --out photo.jpg", "photo.jpg is a file"),
        ("train --data shapes:48 --model alexnet-64 --out runs/tiny", "already holds a run"),
        ("train --resume runs/none", "no run folder runs/none"),
        ("train --resume runs/tinny", "did you mean 'runs/tiny'"),
        ("train --from runs/tinny", "did you mean 'runs/tiny'"),
        ("train --from runs/tiny --freeze conv6", "did you mean 'conv"),
        ("train --resume pets", "not a run folder"),
        ("train --resume runs/tiny --model cifar10", "--model alexnet-64, not 'cifar10'"),
        ("train --resume runs/tiny --out other", "leave out --out"),
        ("evaluate --model-file runs/tinny", "did you mean 'runs/tiny'"),
        ("import foriegn.safetensors --out in", "did you mean 'foreign.safetensors'"),
        ("evaluate --model-file runs/none", "runs/none: give a run folder or a weight file"),
        ("evaluate --model-file none", "no weights are kept under that name"),
        ("train --data shapes:48 --keep a/b", "cannot be the name of kept weights"),
        ("train --data shapes:48 --folds 2 --keep mine", "--keep saves the weights of one run"),
        ("weights --keep runs/tiny a.b", "cannot be the name of kept weights"),
        ("weights --keep runs/none mine", "runs/none: give a run folder"),
        ("evaluate --model-file empty", "not a run folder"),
        ("evaluate --model-file photo.jpg", "damaged or not a weight file"),
        ("evaluate --model-file foreign.safetensors", "nor a PyTorch state dict"),
        ("evaluate --model-file other.safetensors", "the file holds another network"),
        ("evaluate --model-file cut.safetensors", "damaged"),
        ("evaluate --data pets", "was not trained on"),
        ("evaluate --data pest", "did you mean 'pets'"),
        ("evaluate --crops 3", "--crops: invalid choice"),
        ("evaluate --batch-size 0", "0 is less than 1"),
        ("evaluate --backend cuda", "unknown backend 'cuda'"),
        ("train --data ''", "the argument after --data is empty: is a shell variable"),
        ("train --data= --epochs 1", "the argument --data= is empty"),
        ("predict '' photo.jpg", "the argument after predict is empty"),
        ("predict foto.jpg", "did you mean 'photo.jpg'"),
        ("predict none/foto.jpg", "check the path"),
        ("predict foreign.safetensors", "foreign.safetensors"),
        ("predict broken.jpg", "broken.jpg"),
        ("predict empty", "no images in folder empty"),
        ("predict shapes:0", "shapes:N"),
        ("predict", "required: PHOTO"),
        ("predict photo.jpg --top 0", "0 is less than 1"),
        ("predict photo.jpg --out p.txt", "unknown file type '.txt'"),
        ("evaluate --predictions p.txt", "unknown file type '.txt'"),
        ("evaluate --predictions p.csv --crops both", "choose --crops 1 or --crops 10"),
        ("report empty", "is not a run folder (it has no config.json)"),
        ("report none", "no run folder none"),
        ("features photo.jpg --out f.pkl", "unknown file type '.pkl'"),
        ("features photo.jpg --out none/f.npy", "choose a folder"),
        ("features unreadable", "none of the 2 images in unreadable is readable"),
        ("train --replace-classifier", "needs --from"),
        ("train --freeze conv1", "--freeze needs --from: give"),
        ("train --epochs 1 --minutes 1", "--minutes and --epochs both set"),
        ("train --parallel data", "--parallel data needs several devices"),
        ("train --parallel data", "such as --devices 0,1"),
        ("train --batch-size 0", "--batch-size is 0: it must be"),
        ("train --devices -1", "one of --devices is -1: it must be"),
        ("train --no-crops --crop-scale 0.5", "(--no-crops)"),
        ("train --backend numpy --precision bf16", "or use --backend cupy"),
        ("train --lr 1e300", "--lr is 1e+300: it must be a number above 0, and at most 1e+30"),
        ("train --backend numpy --threads 1000000", "ask for at most"),
        ("train --data shapes:48 --folds 100000", "--folds is 100000: it must be a whole number"),
        ("train --data shapes:99999999999999", "ask for at most 10,000,000"),
        ("train --folds 2 --find-lr", "leave out one"),
        ("train --margin 2", "no effect without the hinge loss: leave it out, or choose --loss hi"),
        ("train --data shapes:48 --warmup-shape quadratic --warmup 0", "no effect without a warm-"),
        ("train --data shapes:48 --warmup-shape linear --lr 0.01", "--warmup-shape has no effect"),
        ("train --fold 1/2 --val-fraction 0.2", "--val-fraction has no effect with --fold"),
        ("train --from runs/tiny --shallow a", "--shallow has no effect with --from"),
        ("train --against-batch 2", "--against-batch has no effect without --against: leave it"),
        ("train --from a --freeze conv1 --colour-noise 0.2", "--colour-noise has no effect with"),
        ("train --dtype float64 --precision tf32", "tf32 has no effect with --dtype float64"),
        ("train --verbose --quiet", "--verbose has no effect with --quiet: leave out one"),
        ("train --verbose --folds 2", "--verbose has no effect with --folds: leave out one"),
        ("bench --suite gpu", "add --json FILE"),
        ("bench alexnat", "did you mean 'alexnet'"),
        ("bench --data nowhere", "nowhere"),
        ("train --from runs/none", "runs/none: give a run folder or a weight file"),
        ("train --from photo.jpg", "damaged or not a weight file"),
        ("train --from runs/tiny --data pets", "use --replace-classifier to train a new"),
        ("evaluate --weights 1,2", "needs several --model-file"),
        ("evaluate --model-file runs/tiny --weights 1,x", "invalid list value: '1,x'"),
        ("evaluate --model-file runs/tiny --model-file runs/tiny --weights 1", "give one for each"),
        ("evaluate --model-file runs/tiny --find-weights pets", "needs several --model-file"),
        ("predict photo.jpg --model-file runs/tiny --model-file runs/none", "runs/none"),
        ("predict photo.jpg --model-file runs/tiny --model-file cats.safetensors", "same classes"),
        ("neighbors photo.jpg", "required: --in"),
        ("neighbors foto.jpg --in pets", "did you mean 'photo.jpg'"),
        ("neighbors photo.jpg --in pest", "did you mean 'pets'"),
        ("neighbors photo.jpg --in photo.jpg", "the queries are the only images"),
        ("neighbors photo.jpg --in pets --by pixel", "did you mean 'pixels'?"),
        ("neighbors photo.jpg --in pets --by pixels --index i.npz", "leave one out"),
        ("neighbors photo.jpg --in pets --index i.txt", "must end in .npz"),
        ("neighbors photo.jpg --in pets --index none/i.npz", "choose a folder"),
        # before the network is loaded and images are read
        ("neighbors photo.jpg --in pets --index none/i.npz --model-file no", "choose a folder"),
        ("neighbors photo.jpg --in pets --figure none/i.png --model-file no", "choose a folder"),
        ("features photo.jpg --out none/f.npz --model-file no", "choose a folder"),
        ("neighbors photo.jpg --in pets --index cut.npz", "damaged or not a minialex index"),
        ("neighbors photo.jpg --in pets --figure n.txt", "unknown file type '.txt'"),
        ("neighbors photo.jpg --in pets --count 0", "0 is less than 1"),
        ("kernels runs/none", "runs/none: give a run folder or a weight file"),
        ("kernels runs/tiny --out k.txt", "unknown file type '.txt'"),
        ("kernels runs/tiny --towers 5", "64 kernels cannot be divided evenly into 5 towers"),
        ("summary alexnett", "did you mean 'alexnet'"),
        ("summary --classes 1", "1 is less than 2"),
        ("summary --variants --classes 10", "leave out MODEL and its options"),
        ("summary alexnet --variants --json", "leave out MODEL and its options"),
        ("summary --variants --option towers=1", "leave out MODEL and its options"),
        ("summary layers-146.cfg", "no file layers-146.cfg"),
        ("summary net.prototxt --option towers=2", "takes only input_size=N, not towers"),
        ("train --model net.prototxt", "no file net.prototxt"),
        ("train --resize stretch", "choose from crop, squash"),
        ("check --backend nunpy", "did you mean 'numpy'"),
        ("check --data pest", "did you mean 'pets'"),
        ("prepare pest packed", "did you mean 'pets'"),
        ("prepare pets pets", "would be written into its source"),
        ("prepare pets runs", "contains other files"),
        ("prepare pets photo.jpg", "is a file: choose a new folder"),
        ("reproduce --scale tiny --keep photo.jpg", "is a file: choose a folder to keep results"),
        ("prepare pets packed --size 4", "4 is less than 8"),
        ("prepare pets packed --size 5000", "of at least 8 and at most 4096"),
        ("prepare pets packed --jpeg --quality 100", "of at least 1 and at most 95"),
        ("prepare pets packed --workers 0", "0 is less than 1"),
        ("prepare pets packed --max-left-out 2", "of at least 0 and at most 1"),
        ("prepare pets", "required: DEST"),
        ("train --data manifest", "manifest.json' is damaged"),
        ("evaluate --data manifest", "manifest.json' is damaged"),
        ("check --data manifest", "manifest.json' is damaged"),
        ("train --data tar", "ILSVRC2012_img_train.tar ends in the middle of a tar header"),
        ("check pest", "did you mean 'pets'"),
        ("check pets --data pets", "are both data sets"),
        ("check --size 64", "--size needs PATH"),
        ("check pets --backend numpy", "cannot be used with a data set (pets)"),
        ("data pest", "did you mean 'pets'"),
        ("data info pest", "did you mean 'pets'"),
        ("data inform pets", "describes one data set, but 2 were given: inform, pets"),
        ("data info pets --figure sheet.pdf", "unknown file type '.pdf'"),
        ("data info pets --figure none/sheet.png", "choose a folder"),
        ("export runs/tiny w.txt", "choose from .onnx, .pt, .pth, .safetensors"),
        ("export runs/tiny none/w.pth", "no folder none"),
        ("export runs/tiny w.pth --with-preprocessing", "needs FILE.onnx"),
        ("export runs/tiny runs/tiny/best.safetensors", "is a minialex weight file, which the"),
        ("export runs/tiny runs/tiny/last.safetensors", "is a minialex weight file, which the"),
        ("import foreign.safetensors --out runs/tiny", "runs/tiny already has weights: choose"),
        ("export runs/none w.pth", "runs/none: give a run folder or a weight file"),
        ("import photo.jpg --out in", "not a weight file of a supported program"),
        ("import runs/none --out in", "no file or folder runs/none"),
        ("import foreign.safetensors --out in", "is neither a minialex"),
        ("import runs/tiny/best.safetensors --out in", "already a minialex weight file"),
        ("import foreign.safetensors", "required: --out"),
        ("trian", "unknown command 'trian': did you mean 'train'? choose from bench, "),
        ("", "required: COMMAND"),
    ],
)
def test_a_mistake_gives_one_helpful_line(mistakes, refused, line, words):
    assert words in refused(line)


@pytest.fixture
def mistakes(here):
    """`here`, with all the files that the commands above need."""
    if not (here / "pets").exists():
        photos(here / "pets")
        (here / "empty").mkdir()
        (here / "manifest").mkdir()
        (here / "manifest" / "manifest.json").write_text("{}")
        (here / "tar").mkdir()
        (here / "tar" / "ILSVRC2012_img_train.tar").write_bytes(b"tar")
        for name in ("a", "b"):
            (here / "unreadable" / name).mkdir(parents=True)
            (here / "unreadable" / name / "x.jpg").write_bytes(b"no photograph")
        weights = here / "runs" / "tiny" / "best.safetensors"
        tensors, metadata = checkpoint.load(weights)
        metadata["model"]["classes"] = 10
        checkpoint.save(here / "other.safetensors", tensors, metadata)
        tensors, metadata = checkpoint.load(weights)
        metadata["class_ids"][0] = "cat"
        checkpoint.save(here / "cats.safetensors", tensors, metadata)
        (here / "cut.npz").write_bytes(b"no index")
        save_file({"weight": np.zeros(3)}, here / "foreign.safetensors")
        (here / "cut.safetensors").write_bytes(weights.read_bytes()[:5000])
        (here / "broken.jpg").write_bytes((here / "photo.jpg").read_bytes()[:1500])
    return here


def test_without_a_run_it_says_how_to_make_one(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "minialex train" in refused("predict photo.jpg")


def test_a_run_on_data_from_python_must_be_resumed_in_python(refused, trained, tmp_path):
    config = json.loads((trained / "runs" / "tiny" / "config.json").read_text())
    config["settings"]["data"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "from Python" in refused(f"train --resume {tmp_path}")


def test_a_non_finite_loss_has_its_own_exit_code(refused, tmp_path):
    line = f"train {TINY} --batch-size 8 --lr 1e6 --recipe published --out {tmp_path}/run --quiet"
    assert "step" in refused(line, code=1)


def test_a_full_disk_gives_one_line_and_keeps_the_last_state(refused, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    line = f"train {TINY} --batch-size 16 --out {folder} --max-steps 1 --quiet"
    assert main.main(shlex.split(line)) == 0
    before = (folder / "last.safetensors").read_bytes()
    fsync = os.fsync

    def full(descriptor):
        if os.fstat(descriptor).st_size > 1_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    sentence = refused(f"train --resume {folder} --quiet --max-steps 100")
    assert "no room to write" in sentence
    assert re.search(r"needs [\d,]+ bytes", sentence)
    assert (folder / "last.safetensors").read_bytes() == before
    assert list(folder.glob(".*")) == [folder / ".lock"]
    monkeypatch.undo()
    assert main.main(shlex.split(f"train --resume {folder} --quiet --max-steps 100")) == 0


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from minialex.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_file_size_limit_gives_one_line(tmp_path):
    arguments = shlex.split(f"train {TINY} --out {tmp_path}/run --quiet")
    ended = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True)
    assert ended.returncode == 2
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("minialex: error: no room to write")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/locked"), "/locked: permission"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "folder"), "folder: is a directory"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (MemoryError("Unable to allocate 9 TiB"), "--batch-size"),
        (FileNotFoundError("no\nweights"), "no weights"),
    ],
)
def test_a_system_error_gives_one_line(refused, monkeypatch, error, words):
    monkeypatch.setattr(minialex, "train", raising(error), raising=False)
    assert words in refused("train")


@pytest.mark.parametrize("error", [ZeroDivisionError(), ValueError("x"), OSError(errno.EBADF, "x")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(minialex, "train", raising(error), raising=False)
    with pytest.raises(type(error)):
        main.main(["train"])


def test_ctrl_c_outside_training_gives_one_line(refused, monkeypatch):
    monkeypatch.setattr(minialex, "train", raising(KeyboardInterrupt()), raising=False)
    assert refused("train", code=130).endswith("interrupted")


def raising(error):
    def train(*arguments, **options):
        raise error

    return train


@pytest.mark.parametrize(
    "line",
    ["predict shapes:1", "predict shapes:1 --json", "explain shapes:1", "features shapes:1",
     "neighbors shapes:1 --in shapes:2"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_outputs_that_are_not_finite_are_no_answer(command, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    broken = untrained(name="cifar10")
    broken.params["conv1"]["weight"][0] = np.nan
    broken.save("net.safetensors")
    code, out, err = command(f"{line} --model-file net.safetensors --backend numpy")
    assert (code, out) == (2, "")
    assert "outputs are not finite: its weights are damaged, or need another --precision" in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
