"""The experiments of examples/ that have published numbers and run on data, small: what they reproduce, write and refuse."""

import gzip
import hashlib
import importlib
import io
import os
import pathlib
import struct
import sys
import urllib.error

import jax
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example():
    """Imports an example by name, as Python does when it runs one: with examples/ on the path."""
    sys.path.insert(0, str(REPOSITORY / "examples"))
    yield importlib.import_module
    sys.path.remove(str(REPOSITORY / "examples"))


def is_picture(path):
    height, width, _ = imread(path).shape
    return min(height, width) > 300


# Experiment 1


def test_rescaling_invariance(example, tmp_path, capsys):
    module = example("rescaling_invariance")
    rules = ["sgd", "adagrad", "adam", "yogi", "lion", "novograd", "radam", "lamb"]
    module.main(["--steps", "40", "--rules", *rules, "--out", str(tmp_path), "--tensorboard"])
    assert f"first step of {len(rules)} rules" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "invariance.csv").rule.tolist() == rules
    angles = pd.read_csv(tmp_path / "angles.csv", index_col=["axes", "step"])
    assert len(angles) == 80 and list(angles) == list(module.RULES)
    assert is_picture(tmp_path / "angles.png") and list((tmp_path / "tensorboard").iterdir())


def test_rescaling_invariance_refuses_wrong_numbers(example):
    module = example("rescaling_invariance")
    result = module.Result(module.first_steps(), pd.DataFrame([module.measure("adam")]).set_index("rule"), {})
    with pytest.raises(AssertionError, match=r"adam on f_a: expected .*0\.999.* got .*0\.9 .*tolerance 1e-06"):
        module.check(result._replace(first_steps=result.first_steps | {"adam on f_a": np.array([0.9, 0.999])}))
    with pytest.raises(AssertionError, match="adam: expected its updates to be invariant to gradients times a number"):
        module.check(result._replace(invariance=result.invariance.assign(scalar=0.1)))


# Experiment 3


def has_data(folder):
    return folder is not None and (pathlib.Path(folder) / "airfoil_self_noise.dat").exists()


@pytest.fixture
def airfoil(example, monkeypatch):
    """The example, with its data; skips where they are not."""
    folders = os.environ.get("ADAMX_DATA"), REPOSITORY.parent / "shared" / "data"
    found = next(filter(has_data, folders), None)
    if found is None:
        pytest.skip("airfoil_self_noise.dat is neither in $ADAMX_DATA nor in ../shared/data; see examples/airfoil.py")
    monkeypatch.setenv("ADAMX_DATA", str(found))
    return example("airfoil")


def test_airfoil_reaches_the_published_losses(airfoil, tmp_path, capsys):
    airfoil.main(["--seeds", "8", "--out", str(tmp_path), "--tensorboard"])
    assert "yogi, from scratch: 0.243" in capsys.readouterr().out
    runs = pd.read_csv(tmp_path / "runs.csv", index_col=["course", "rule"])
    assert len(runs) == 4 and runs["mean"].between(0.2425, 0.2465).all() and (runs.compile_seconds > 0).all()
    losses = np.load(tmp_path / "losses.npz")
    assert losses["from scratch, adam"].shape == (8, 15) and losses["concise, yogi"].shape == (8, 30)
    assert is_picture(tmp_path / "losses.png") and len(list((tmp_path / "tensorboard").iterdir())) == 4


def test_airfoil_refuses_wrong_numbers(airfoil):
    lanes = {key: airfoil.Run(np.full((8, 15), mean), 1.0, 1.0) for key, (mean, *_) in airfoil.REFERENCE.items()}
    airfoil.check(lanes)
    worse = airfoil.Run(np.full((8, 15), 0.25), 1.0, 1.0)
    with pytest.raises(
        AssertionError, match=r"adam, concise: mean.* of 8 seeds: expected 0.24415, got 0.25 \(tolerance"
    ):
        airfoil.check(lanes | {("concise", "adam"): worse})


def test_airfoil_exercises(airfoil, example, tmp_path):
    module = example("airfoil_exercises")
    result = module.run(seeds=2, epochs=10, cs=(3.0,), out=tmp_path)
    module.check(result)
    assert "3. Mean loss less that" in module.show(result)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.csv" for name in result._fields}
    assert len(pd.read_csv(tmp_path / "decay.csv")) == 3 * 2 * 75
    assert all(is_picture(path) for path in module.figure(result, tmp_path))


def test_airfoil_data_are_downloaded_checked_and_cached(example, monkeypatch, tmp_path):
    module, content = example("airfoil"), b"1\t2\r\n"
    monkeypatch.delenv("ADAMX_DATA", raising=False)
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(module.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(content))
    with pytest.raises(ValueError, match="not the file expected: sha1"):
        module.data_file()
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(module, "SHA1", hashlib.sha1(content).hexdigest())
    assert module.data_file().read_bytes() == content
    monkeypatch.setattr(module.urllib.request, "urlopen", unreachable)
    assert module.data_file() == tmp_path / "cache" / "airfoil_self_noise.dat"
    monkeypatch.setattr(module, "CACHE", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="could not be reached .*set ADAMX_DATA to that folder"):
        module.data_file()


def unreachable(url, timeout):
    raise urllib.error.URLError("no network")


# Experiment 4


def test_course_optimizers_on_digits(example, tmp_path, capsys):
    module = example("course_optimizers")
    module.main(["--doublings", "3", "--seeds", "1", "--out", str(tmp_path), "--tensorboard"])
    assert "checked: updates under a constant gradient" in capsys.readouterr().out
    lanes = pd.read_csv(tmp_path / "lanes.csv")
    assert lanes.rule.value_counts().eq(7).all() and len(pd.read_csv(tmp_path / "movement.csv")) == 40
    assert is_picture(tmp_path / "movement.png") and len(list((tmp_path / "tensorboard").iterdir())) == 4
    result = module.Result(lanes, module.constant_gradient(), pd.read_csv(tmp_path / "movement.csv"))
    assert "0.876" in module.show(result, published=True) and "0.876" not in module.show(result, published=False)
    with pytest.raises(AssertionError, match=r"sgd, constant gradient 1: .* expected 1, got 0.5 \(tolerance 1e-05"):
        module.check(result._replace(constant_gradient=result.constant_gradient * [1, 0.5, 1]))


def test_course_optimizers_downloads_only_into_a_folder(example, capsys):
    with pytest.raises(SystemExit):
        example("course_optimizers").main(["--download"])
    assert "--download needs --fashion-mnist DIR" in capsys.readouterr().err


# Fashion-MNIST's files


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(example, tmp_path):
    """Files as Fashion-MNIST's with 12 and 4 images, the first two gzipped."""
    random = np.random.default_rng(0)
    for i, name in enumerate(example("images").FILES):
        n = 12 if i < 2 else 4
        array = random.integers(0, 10 if i % 2 else 256, n if i % 2 else (n, 28, 28), dtype=np.uint8)
        path = tmp_path / (f"{name}.gz" if i < 2 else name)
        path.write_bytes(gzip.compress(idx(array)) if i < 2 else idx(array))
    return tmp_path


def test_idx_files_are_read(example, folder):
    images = example("images")
    x, y, x_test, y_test = images.load_fashion_mnist(folder)
    assert x.shape == (12, 28, 28) and y_test.shape == (4,)
    raw = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    assert x[1, 2, 3] == raw[16 + 28 * 28 + 2 * 28 + 3]
    data = images.fashion_mnist(folder)
    assert data.batch == 10 and data.train[0].shape == (10, 28, 28, 1) and data.validation[0].shape == (2, 28, 28, 1)
    assert abs(data.train[0].mean()) < 1e-5 and abs(data.train[0].std() - 1) < 1e-5
    params = jax.eval_shape(lambda: images.network(jax.random.key(0), 28))
    assert [layer["w"].shape[1] for layer in params] == [8, 16, 32, 64, 10]
    assert jax.eval_shape(images.losses_and_hits, params, *data.test)[1].shape == (4,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file of unsigned bytes"),
        (b"\0\0\x0d\x01\0\0\0\0", "no IDX file of unsigned bytes"),
        (b"\0\0\x08\x03\0\0", "cut off or too long: 6 bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"shape \(2, 3\) needs 18"),
        (idx(np.zeros(2, np.uint8)) + b"\0", r"11 bytes, where shape \(2,\) needs 10"),
        (gzip.compress(b"something longer than nothing", mtime=0)[:-9], "damaged gzip file"),
    ],
)
def test_damaged_idx_files_are_refused(example, tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        example("images").read_idx(tmp_path / "file")


def test_idx_files_that_do_not_belong_together_are_refused(example, folder):
    images = example("images")
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match=r"images of shape \(4, 28, 28\) with labels of shape \(5,\)"):
        images.load_fashion_mnist(folder)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match="neither t10k-labels-idx1-ubyte nor"):
        images.load_fashion_mnist(folder)


def test_fashion_mnist_is_downloaded_and_checked(example, monkeypatch, tmp_path):
    images, content = example("images"), gzip.compress(b"x", mtime=0)
    monkeypatch.setattr(images.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(content))
    with pytest.raises(ValueError, match="sent another file than expected"):
        images.download(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(images, "FILES", dict.fromkeys(images.FILES, hashlib.md5(content).hexdigest()))
    images.download(tmp_path)
    monkeypatch.setattr(images.urllib.request, "urlopen", unreachable)
    images.download(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.gz" for name in images.FILES}
    with pytest.raises(ConnectionError, match="Fetch the four files where there is a network"):
        images.download(tmp_path / "other")
