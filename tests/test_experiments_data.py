"""The experiments of examples/ that have published numbers and run on data, small: what they reproduce, write and refuse."""

import gzip
import hashlib
import io
import struct
import urllib.error

import jax
import numpy as np
import pandas as pd
import pytest
from scripts import is_picture, load, run, scalars

# Experiment 1


def test_rescaling_invariance(tmp_path):
    module = load("rescaling_invariance")
    rules = ["sgd", "adagrad", "adam", "yogi", "lion", "novograd", "radam", "lamb"]
    printed = run("rescaling_invariance.py", tmp_path, "--steps", 400, "--rules", *rules, "--tensorboard")
    assert "t1 after one step of adam on f_a                               0.999" in printed
    assert "all 35 numbers that this run can be compared in agree" in printed  # 8 + 3 * 8 + 3
    assert pd.read_csv(tmp_path / "invariance.csv").rule.tolist() == rules
    angles = pd.read_csv(tmp_path / "angles.csv", index_col=["axes", "step"])
    assert len(angles) == 800 and list(angles) == list(module.RULES)
    assert is_picture(tmp_path / "angles.png") and is_picture(tmp_path / "steps.png")
    runs = scalars(tmp_path / "tensorboard")
    assert len(runs) == len(module.RULES)
    assert all(set(tags) == {"angle/along_the_coordinates", "angle/turned"} for tags in runs.values())


def test_rescaling_invariance_refuses_wrong_numbers():
    module, experiment = load("rescaling_invariance"), load("experiment")
    result = module.Result(module.first_steps(), pd.DataFrame([module.measure("adam")]).set_index("rule"), {})
    assert "all 11 numbers" in experiment.require(module.compare(result))
    wrong = result._replace(first_steps=result.first_steps | {"adam on f_a": np.array([0.9, 0.999])})
    message = r"t1 after one step of adam on f_a: expected 0\.999, got 0\.9, tolerance 1e-06 \(10 of 11 numbers agree\)"
    with pytest.raises(SystemExit, match=message):
        experiment.require(module.compare(wrong))
    wrong = result._replace(invariance=result.invariance.assign(scalar=0.1))
    with pytest.raises(SystemExit, match="adam: invariant to g -> c g: expected 1, got 0"):
        experiment.require(module.compare(wrong))


def test_angles_of_a_long_run_are_drawn_in_stretches():
    table = pd.DataFrame({"a": np.r_[np.zeros(9), 10 * np.ones(991)]}, pd.RangeIndex(1, 1001, name="step"))
    steps, mean, low, high = load("rescaling_invariance").smoothed(table, points=20)
    assert steps.iloc[0] >= 10 and len(steps) < 20 and (mean.a == 10).all() and (low.a == high.a).all()


# Experiment 3


def test_airfoil_reaches_the_published_losses(tmp_path):
    printed = run("airfoil.py", tmp_path, "--seeds", 8, "--tensorboard")
    assert "0.243  0.243  0.242" in printed and "all 15 numbers" in printed
    runs = pd.read_csv(tmp_path / "runs.csv", index_col=["course", "rule"])
    assert len(runs) == 4 and runs["mean"].between(0.2425, 0.2465).all() and (runs.compile_seconds > 0).all()
    losses = np.load(tmp_path / "losses.npz")
    assert losses["from scratch, adam"].shape == (8, 15) and losses["concise, yogi"].shape == (8, 30)
    assert is_picture(tmp_path / "losses.png")
    runs = scalars(tmp_path / "tensorboard")
    assert set(runs) == {"adam", "yogi"}
    assert all(
        {tag: len(of[0]) for tag, of in tags.items()} == {"loss/concise": 30, "loss/from_scratch": 15}
        for tags in runs.values()
    )


def test_airfoil_refuses_wrong_numbers():
    airfoil, experiment = load("airfoil"), load("experiment")
    lanes = {key: airfoil.Run(np.full((8, 15), mean), 1.0, 1.0) for key, (mean, *_) in airfoil.REFERENCE.items()}
    experiment.require(airfoil.compare(lanes))
    worse = airfoil.Run(np.full((8, 15), 0.25), 1.0, 1.0)
    with pytest.raises(
        SystemExit, match=r"adam, concise: last loss, mean of 8 seeds: expected 0\.24415, got 0\.25, tol"
    ):
        experiment.require(airfoil.compare(lanes | {("concise", "adam"): worse}))


def test_airfoil_exercises(tmp_path):
    module = load("airfoil_exercises")
    printed = run("airfoil_exercises.py", tmp_path, "--seeds", 2, "--epochs", 10, "--steps", 10_000, "--tensorboard")
    for words in ("Best learning rate", "Yes: an average", "what is left falls", "Theorem 1", "The larger the batch"):
        assert words in printed
    assert "nan" not in printed and "all 5 numbers" in printed
    assert {path.stem for path in tmp_path.glob("*.csv")} == {*module.Result._fields, "compared"}
    assert len(pd.read_csv(tmp_path / "decay.csv")) == 3 * 2 * 75
    assert len(pd.read_csv(tmp_path / "theorem_1.csv")) == 3 * 4 * 10_000
    assert all(is_picture(tmp_path / f"{name}.png") for name in ("sensitivity", "decay", "theorem_1"))
    runs = scalars(tmp_path / "tensorboard")
    theorem = [set(tags) for name, tags in runs.items() if name in ("Adam", "AMSGrad", "Yogi")]
    assert theorem == 3 * [{f"theorem_1/c_{c:g}" for c in module.CS}]
    assert [set(tags) for tags in runs.values()].count({"decay/excess"}) == 3


def test_the_airfoil_data_are_kept_beside_the_examples(monkeypatch, tmp_path):
    airfoil = load("airfoil")
    monkeypatch.delenv("ADAMX_DATA", raising=False)
    x, y = airfoil.load()
    assert x.shape == (1500, 5) and y.shape == (1500,)
    readme = (airfoil.data_file().parent / "README.md").read_text()
    assert "CC BY 4.0" in readme and "NASA" in readme and airfoil.SHA1 in readme
    other = tmp_path / airfoil.FILE
    other.write_bytes(airfoil.data_file().read_bytes())
    monkeypatch.setenv("ADAMX_DATA", str(tmp_path))
    assert airfoil.data_file() == other


def unreachable(url, timeout):
    raise urllib.error.URLError("no network")


# Experiment 4


def test_course_optimizers_on_digits(tmp_path):
    module, experiment = load("course_optimizers"), load("experiment")
    printed = run("course_optimizers.py", tmp_path, "--doublings", 2, "--seeds", 1, "--tensorboard")
    assert (
        "all 34 numbers" in printed
        and "of a gradient\nof 0.001 Adam makes 0.30 of the learning rate inside, 0.99" in printed
    )
    lanes = pd.read_csv(tmp_path / "lanes.csv")
    assert lanes.rule.value_counts().eq(5).all() and len(pd.read_csv(tmp_path / "movement.csv")) == 50
    assert is_picture(tmp_path / "movement.png")
    runs = scalars(tmp_path / "tensorboard")
    assert len(runs) == len(module.RULES) and all(set(tags) == {"gradient", "update"} for tags in runs.values())
    constant = pd.read_csv(tmp_path / "constant_gradient.csv", index_col="rule").rename(columns=float)
    result = module.Result(lanes, constant, pd.read_csv(tmp_path / "movement.csv"))
    assert "0.876" in module.show(result, published=True) and "0.876" not in module.show(result, published=False)
    with pytest.raises(SystemExit, match=r"sgd, constant gradient 1: .* expected 1, got 0\.5, tolerance 1e-05"):
        experiment.require(module.compare(result._replace(constant_gradient=constant * [1, 1, 0.5, 1])))


# Fashion-MNIST's files


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Files as Fashion-MNIST's with 12 and 4 images, the first two gzipped."""
    random = np.random.default_rng(0)
    for i, name in enumerate(load("images").FILES):
        n = 12 if i < 2 else 4
        array = random.integers(0, 10 if i % 2 else 256, n if i % 2 else (n, 28, 28), dtype=np.uint8)
        path = tmp_path / (f"{name}.gz" if i < 2 else name)
        path.write_bytes(gzip.compress(idx(array)) if i < 2 else idx(array))
    return tmp_path


def test_idx_files_are_read(folder):
    images = load("images")
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
def test_damaged_idx_files_are_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load("images").read_idx(tmp_path / "file")


def test_idx_files_that_do_not_belong_together_are_refused(folder):
    images = load("images")
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match=r"images of shape \(4, 28, 28\) with labels of shape \(5,\)"):
        images.load_fashion_mnist(folder)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match="neither t10k-labels-idx1-ubyte nor"):
        images.load_fashion_mnist(folder)


def test_fashion_mnist_is_downloaded_and_checked(monkeypatch, tmp_path):
    images, content = load("images"), gzip.compress(b"x", mtime=0)
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
