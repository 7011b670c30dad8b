"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): reads its IDX files, and downloads them.

python examples/images.py some/folder
"""

import dataclasses
import gzip
import hashlib
import math
import pathlib
import struct
import urllib.request
import zlib

import experiment
import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamx import files


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Data:
    """Images (n, size, size, 1), float32, standardised by the training split, and labels (n,), int32, of three splits; and a batch size."""

    train: tuple
    validation: tuple
    test: tuple
    batch: int = dataclasses.field(metadata={"static": True})


def standardised(train, validation, test, batch):
    """`Data` of (images (n, size, size), labels) pairs."""
    mean, sd = train[0].mean(), train[0].std()
    splits = [(jnp.float32((x[..., None] - mean) / sd), jnp.int32(y)) for x, y in (train, validation, test)]
    return Data(*splits, batch)


def digits():
    """scikit-learn's 1797 handwritten digits, 8 x 8, split 60 : 20 : 20; batches of 16, for about as many steps as the course makes."""
    from sklearn.datasets import load_digits  # takes a second: after the arguments are checked
    from sklearn.model_selection import train_test_split

    found = load_digits()
    x, x_test, y, y_test = train_test_split(
        found.images, found.target, test_size=0.2, stratify=found.target, random_state=0
    )
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    return standardised((x, y), (x_val, y_val), (x_test, y_test), batch=16)


def fashion_mnist(folder):
    """Fashion-MNIST from its files in `folder`, the last sixth of the training images for validation; batches of 1024 as in the course."""
    x, y, *test = load_fashion_mnist(folder)
    kept = len(x) * 5 // 6
    return standardised((x[:kept], y[:kept]), (x[kept:], y[kept:]), test, batch=min(1024, kept))


# The network


def network(key, size):
    """Parameters of 3 x 3 convolutions that halve the image until one pixel is left, with 8, 16, 32 ... channels, at last 10 classes."""
    depth = math.ceil(math.log2(size))
    channels = [1, *(8 * 2**i for i in range(depth - 1)), 10]
    keys = jax.random.split(key, depth)
    return [
        {"w": jax.random.normal(k, (9 * m, n)) * math.sqrt(2 / (9 * m)), "b": jnp.zeros(n)}
        for k, m, n in zip(keys, channels, channels[1:], strict=False)
    ]


def patches(x):
    """All 3 x 3 patches, two pixels apart, of images padded by one pixel: (n, h, h, c) -> (n, ceil(h / 2), ceil(h / 2), 9 c)."""
    x, last = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), x.shape[1]
    return jnp.concatenate([x[:, i : i + last : 2, j : j + last : 2] for i in range(3) for j in range(3)], axis=-1)


def losses_and_hits(params, x, y):
    """Cross-entropy (n,) and whether the class is right (n,), for images x with labels y."""
    for layer in params[:-1]:
        x = jax.nn.relu(patches(x) @ layer["w"] + layer["b"])
    logits = (patches(x) @ params[-1]["w"] + params[-1]["b"])[:, 0, 0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y), logits.argmax(-1) == y


# Fashion-MNIST's files

FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""Fashion-MNIST's files -> MD5 of them gzipped."""
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


def read_idx(path):
    """The array of unsigned bytes in an IDX file, gzipped or not.

    Raises:
      ValueError: another kind of file; says in what.
    """
    content = pathlib.Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(
            f"{path} is no IDX file of unsigned bytes: it begins with {content[:4]!r}, not with b'\\x00\\x00\\x08'."
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start].ljust(start - 4, b"\0"))
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"{path} is cut off or too long: {len(content)} bytes, where shape {shape} needs {start + math.prod(shape)}."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_fashion_mnist(folder):
    """The data set from its four files in `folder`: training images (n, 28, 28), their labels (n,), test images, their labels; bytes.

    Raises:
      FileNotFoundError: names the missing file and the way to it.
      ValueError: images and labels do not belong together, or a file is damaged.
    """
    folder, arrays = pathlib.Path(folder), []
    for name in FILES:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
        if path is None:
            raise FileNotFoundError(
                f"{folder} has neither {name} nor {name}.gz; python examples/images.py {folder} fetches it where there is a network."
            )
        arrays.append(read_idx(path))
    for images, labels in (arrays[:2], arrays[2:]):
        square = images.ndim == 3 and images.shape[1] == images.shape[2]
        if not square or labels.shape != images.shape[:1] or labels.max() > 9:
            raise ValueError(
                f"{folder}: images of shape {images.shape} with labels of shape {labels.shape} up to {labels.max()}."
            )
    return arrays


def download(folder):
    """Fetches Fashion-MNIST's files into `folder`, those that are not there yet.

    Raises:
      ConnectionError: no network; says what to do.
      ValueError: what came is another file.
    """
    for name, md5 in FILES.items():
        path, url = pathlib.Path(folder) / f"{name}.gz", f"{MIRROR}/{name}.gz"
        if path.exists():
            continue
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                content = answer.read()
        except OSError as error:
            raise ConnectionError(
                f"{url} could not be reached ({error}). Fetch the four files where there is a network and pass their folder."
            ) from None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise ValueError(f"{url} sent another file than expected: its MD5 is not {md5}.")
        with files.whole(path) as temporary:
            temporary.write_bytes(content)


def main(argv=None):
    """The command: downloads, then reads and checks."""
    parser = experiment.Parser(__doc__)
    parser.add_argument("folder", type=experiment.folder)
    folder = parser.parse_args(argv).folder
    with parser.refusing():
        download(folder)
        arrays = load_fashion_mnist(folder)
    print(*(f"{name}: {array.shape}" for name, array in zip(FILES, arrays, strict=True)), sep="\n")


if __name__ == "__main__":
    main()
