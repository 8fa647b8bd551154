import gzip

import numpy as np
import pytest

from examples import data


@pytest.fixture
def images(rng):
    return rng.random((6, 32, 32, 3), "float32")


def test_load_data_from_a_folder(tmp_path, rng):
    arrays = {}
    for part, examples in (("train", 5), ("test", 3)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (examples, 32, 32, 3), "uint8")
        arrays[f"y_{part}"] = rng.integers(0, 100, (examples, 1))
    arrays["x_train"][0, 0, 0, 0] = 255
    np.savez(tmp_path / "cifar100.npz", **arrays)
    (x, y), (x_test, y_test) = data.load_data("cifar100", tmp_path)
    np.testing.assert_allclose(255 * x, arrays["x_train"], rtol=1e-6)
    np.testing.assert_allclose(255 * x_test, arrays["x_test"], rtol=1e-6)
    np.testing.assert_array_equal(y, arrays["y_train"][:, 0])
    np.testing.assert_array_equal(y_test, arrays["y_test"][:, 0])


def test_load_data_digits():
    (x, y), (x_test, y_test) = data.load_data("digits")
    assert x.shape[1:] == x_test.shape[1:] == (8, 8, 1)
    assert (x.dtype, x.min(), x.max()) == ("float32", 0, 1)
    assert len(x) == len(y) == 1437 and len(x_test) == len(y_test) == 360


def test_load_data_unknown():
    with pytest.raises(ValueError, match=r"Received: dataset='svhn'"):
        data.load_data("svhn")


def test_load_data_of_other_files(tmp_path):
    path = tmp_path / "mnist.npz"
    with pytest.raises(OSError, match=r"No such file.*mnist\.npz"):
        data.load_data("mnist", tmp_path)
    for write in (
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"PK\x03\x04"),
        lambda: np.savez(path, x_train=np.ones(1)),
    ):
        write()
        with pytest.raises(ValueError, match=r"mnist\.npz' must be a file of the arr"):
            data.load_data("mnist", tmp_path)


def test_load_data_without_network(monkeypatch):
    def offline():
        raise Exception("URL fetch failure")  # as Keras's

    monkeypatch.setattr(data.keras.datasets.mnist, "load_data", offline)
    with pytest.raises(OSError, match=r"mnist\.npz \(data_dir\)\. URL fetch failure"):
        data.load_data("mnist")


def idx(images):
    """The bytes of an IDX file."""
    header = np.array([0x803, *images.shape], ">u4")
    return header.tobytes() + images.tobytes()


def test_load_test_images_from_idx(tmp_path, rng):
    images = rng.integers(0, 256, (5, 28, 28), "uint8")
    path = tmp_path / "notmnist" / "t10k-images-idx3-ubyte.gz"
    with pytest.raises(OSError, match=r"notMNIST-to-MNIST has it\. .*No such file"):
        data.load_test_images("notmnist", tmp_path)
    with pytest.raises(OSError, match="notmnist is read from a folder"):
        data.load_test_images("notmnist")
    path.parent.mkdir()
    path.write_bytes(gzip.compress(idx(images)))
    x = data.load_test_images("notmnist", tmp_path)
    assert x.dtype == "float32"
    np.testing.assert_allclose(255 * x[..., 0], images, rtol=1e-6)
    for broken in (idx(images)[:-1], idx(images)[:7], b"1" + idx(images)[1:]):
        path.write_bytes(gzip.compress(broken))
        with pytest.raises(ValueError, match="must be an IDX file of images"):
            data.load_test_images("notmnist", tmp_path)
    path.write_bytes(gzip.compress(idx(images))[:-20])
    with pytest.raises(OSError, match="Compressed file ended before"):
        data.load_test_images("notmnist", tmp_path)


def test_load_test_images_from_jpegs(tmp_path, rng):
    """Each pixel is the mean of four; gray images become colored ones."""
    from PIL import Image

    folder = tmp_path / "tiny-imagenet-200" / "val" / "images"
    with pytest.raises(OSError, match=r"tiny-imagenet-200.zip has it. No JPEG files"):
        data.load_test_images("tiny_imagenet", tmp_path)
    folder.mkdir(parents=True)
    gray = np.kron(rng.integers(0, 256, (8, 8), "uint8"), np.ones((8, 8), "uint8"))
    color = np.kron(
        rng.integers(0, 256, (8, 8, 3), "uint8"), np.ones((8, 8, 1), "uint8")
    )
    for name, image in (("val_0", gray), ("val_1", color)):
        Image.fromarray(image).save(folder / f"{name}.JPEG", quality=100, subsampling=0)
    x = data.load_test_images("tiny_imagenet", tmp_path)
    assert x.shape == (2, 32, 32, 3)
    expected = np.stack([np.repeat(gray[..., None], 3, axis=-1), color])
    expected = expected.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(255 * x, expected, atol=6)


def test_load_test_images_of_other_data_sets(tmp_path, rng):
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = {
        name: rng.integers(0, 256, (4, 8, 8, 3)[: 4 if "x" in name else 1])
        for name in names
    }
    arrays["x_train"][0, 0, 0, 0] = 255
    np.savez(tmp_path / "cifar100.npz", **arrays)
    x = data.load_test_images("cifar100", tmp_path)
    np.testing.assert_allclose(255 * x, arrays["x_test"], rtol=1e-6)


def test_normalize(images):
    scaled = images * [1, 2, 3] + [0, 5, 0]
    (x, _), (x_test, _) = data.normalize((scaled[:4], None), (scaled[2:], None))
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(x[2:], x_test[:2])  # by the same statistics


def test_flip_and_shift_finds_each_image_again(images, rng):
    images = np.tile(images, (20, 1, 1, 1))
    moved = data.flip_and_shift(images, rng)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    seen = set()
    for each, one in zip(padded, moved, strict=True):
        found = [
            (row, column, flipped)
            for row in range(9)
            for column in range(9)
            for flipped in (False, True)
            if np.array_equal(
                each[row : row + 32, column : column + 32][:, :: -1 if flipped else 1],
                one,
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    rows, columns, flips = map(set, zip(*seen, strict=True))
    assert rows == columns == set(range(9)) and flips == {False, True}


def test_batches_are_a_function_of_seed_and_epoch(images):
    def epoch(number, seed=0):
        batches = data.Batches(images, np.arange(6), 4, seed, data.flip_and_shift)
        batches.start(number)
        x, y = zip(*(batches[step] for step in range(len(batches))), strict=True)
        assert [len(each) for each in y] == [4, 2]
        assert sorted(np.concatenate(y)) == [*range(6)]
        return np.concatenate([*x])

    np.testing.assert_array_equal(epoch(3), epoch(3))
    assert not np.array_equal(epoch(3), epoch(4))
    assert not np.array_equal(epoch(3), epoch(3, seed=1))
