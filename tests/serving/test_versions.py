import contextlib
import os
import threading
import time

import pytest

from keras_variance.serving.versions import ABANDONED, Versions


def fill(folder):
    (folder / "saved_model.pb").touch()


def test_writers_at_the_same_time_get_versions_of_their_own(tmp_path):
    barrier, written = threading.Barrier(8), []

    def write():
        versions = Versions(tmp_path / "m")
        barrier.wait()
        written.append(versions.write(fill).name)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [str(k) for k in range(1, 9)]
    assert sorted(os.listdir(tmp_path / "m")) == sorted(written)


def test_a_version_that_appears_in_the_meantime_is_kept(tmp_path):
    versions = Versions(tmp_path, version=3)
    Versions(tmp_path, version=3).write(fill)
    with pytest.raises(ValueError, match=r"`version` must be new.*Received: version=3"):
        versions.write(lambda folder: (folder / "other").touch())
    assert os.listdir(tmp_path / "3") == ["saved_model.pb"]
    assert os.listdir(tmp_path) == ["3"]


def test_what_an_interrupted_export_left(tmp_path):
    """It goes with the next export, if nobody has written to it for long."""
    old = time.time() - ABANDONED - 60
    for name, changed in (("dead", old), ("alive", old), ("young", time.time())):
        folder = tmp_path / f".export-{name}"
        (folder / "variables").mkdir(parents=True)
        (folder / "variables" / "data").touch()
        for each in (folder / "variables" / "data", folder / "variables", folder):
            os.utime(each, (changed, changed))
    os.utime(tmp_path / ".export-alive" / "variables" / "data")
    (tmp_path / ".hidden").mkdir()
    os.utime(tmp_path / ".hidden", (old, old))
    assert Versions(tmp_path).write(fill).name == "1"
    left = [".export-alive", ".export-young", ".hidden", "1"]
    assert sorted(os.listdir(tmp_path)) == left


@contextlib.contextmanager
def unprivileged():
    """The superuser may read all."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444, 0o555])
@pytest.mark.parametrize("parent", [True, False])
def test_a_folder_without_permission(parent, mode, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    Versions(folder).write(fill)
    for each in (tmp_path, *tmp_path.parents):  # pytest's are private
        if each.stat().st_uid == os.getuid() and each.name.startswith("pytest"):
            each.chmod(0o755)
    tmp_path.chmod(0o755)
    folder.chmod(mode)
    path = folder / "below" if parent else folder
    try:
        with unprivileged(), pytest.raises(ValueError, match=r"`path`.*denied.*path="):
            Versions(path).write(fill)
    finally:
        folder.chmod(0o755)
    assert os.listdir(folder) == ["1"]


@pytest.mark.parametrize("name", ["1", "notes.txt"])
def test_other_things_are_not_touched(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"it has '{name}'. Received: path="):
        Versions(tmp_path)


def test_folders_that_were_made_are_removed(tmp_path):
    def fail(folder):
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Versions(tmp_path / "a" / "b").write(fail)
    assert os.listdir(tmp_path) == []
