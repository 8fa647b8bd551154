import os
import threading

import pytest

from keras_variance.serving.versions import Versions


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


def test_what_an_interrupted_export_left_does_not_matter(tmp_path):
    (tmp_path / ".export-0").mkdir()
    assert Versions(tmp_path).write(fill).name == "1"


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
