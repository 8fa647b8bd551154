"""One `.keras` file on three backends."""

import numpy as np
import pytest

from tests.portability.files import MODELS
from tests.portability.processes import BACKENDS, finish, interpreters, start
from tests.statistics import assert_same_moments

SCRIPT = "tests.portability.files"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Files of each backend, read by each: {backend that wrote: folder}."""
    pythons = interpreters()
    folders = {each: tmp_path_factory.mktemp(each) for each in pythons}

    def run(backend, *arguments):
        return start(pythons[backend], backend, SCRIPT, *arguments)

    finish([run(each, "write", folder) for each, folder in folders.items()])
    finish([run(each, "read", *folders.values()) for each in folders])
    return folders


@pytest.mark.parametrize("reader", BACKENDS)
@pytest.mark.parametrize("writer", BACKENDS)
def test_a_file_is_one_model_on_each_backend(writer, reader, folders):
    missing = {writer, reader} - folders.keys()
    if missing:
        names = " and ".join(sorted(missing))
        pytest.skip(f"no Python with {names}: see tests/portability/processes.py")
    for name in MODELS:
        written = dict(np.load(folders[writer] / f"{name}.{writer}-write.npz"))
        read = dict(np.load(folders[writer] / f"{name}.{reader}-read.npz"))
        assert list(read) == list(written)
        samples = [np.moveaxis(each.pop("samples"), 1, 0) for each in (written, read)]
        for key, expected in written.items():
            tolerance = 0 if key.startswith("weight ") else 1e-5
            np.testing.assert_allclose(
                read[key], expected, rtol=0, atol=tolerance, err_msg=f"{name}: {key}"
            )
            assert np.all(np.isfinite(expected))
        assert_same_moments(*samples)


def test_what_is_compared_is_there(folders):
    """Predictions depend on the input, and vary."""
    for writer, folder in folders.items():
        for name in MODELS:
            written = np.load(folder / f"{name}.{writer}-write.npz")
            for key in ("mean weights", "moments mean"):
                assert written[key].std(axis=0).max() > 1e-3, (name, key)
            assert written["samples"].std(axis=1).min() > 1e-3, name
