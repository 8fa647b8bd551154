"""The folder of a model's versions, as a server watches it."""

import contextlib
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from keras_variance import checks

# A server looks at numbers only.
TEMPORARY = ".export-"
# Seconds after which a temporary folder that nobody writes to is a killed export's
ABANDONED = 24 * 60 * 60


def local_path(path) -> Path:
    """A path of this machine's file system, where a folder can be moved as a whole.

    Raises:
        ValueError: If it is the address of another storage, as "gs://bucket/model".
    """
    local = checks.path("path", path)
    remote = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path))
    expected = "a local path: write there, then copy with the storage's own tool"
    checks.require(not remote, "path", expected, path)
    return local


class Versions:
    """A folder of numbered exports; a new one appears whole, or not at all.

    Args:
        path: The folder; it may not exist yet.
        version: Integer ≥ 1, of the next one. Defaults to the highest plus 1.
        marker: The name of a file that each version has: they are of one format.

    Raises:
        ValueError: If the folder is not a local one, has other things in it, can't be
            read or written to, or has the version.
    """

    def __init__(self, path, version=None, marker="saved_model.pb"):
        self.path, self.marker = local_path(path), marker
        if version is not None:
            version = checks.integer("version", version, minimum=1)
        self.version = version
        with self._access():
            self._check()

    def write(self, fill) -> Path:
        """Have `fill(folder)` write the new version; the folder it is in at last.

        Raises:
            ValueError: If the folder can't be written to, or the version appeared
                in the meantime.
        """
        self._remove_abandoned()
        made = [each for each in (self.path, *self.path.parents) if not each.exists()]
        temporary = self.path / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            with self._access():
                temporary.mkdir(parents=True)
            fill(temporary)
            with self._access():
                return self._move(temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            for each in made:
                if each.is_dir() and not any(each.iterdir()):
                    each.rmdir()
            raise

    @contextlib.contextmanager
    def _access(self):
        try:
            yield
        except OSError as error:
            raise ValueError(
                "Argument `path` must be a folder to read and write: "
                f"{error.strerror}. Received: path={self.path}"
            ) from error

    def _remove_abandoned(self):
        """Remove what killed exports left. A running one is never so old."""
        for folder in self.path.glob(f"{TEMPORARY}*"):
            # Another export may be removing it
            with contextlib.suppress(OSError):
                entries = (folder, *folder.rglob("*"))
                written = max(each.stat().st_mtime for each in entries)
                if time.time() - written > ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)

    def _move(self, temporary):
        while True:
            version = self.version or max(self._existing(), default=0) + 1
            target = self.path / str(version)
            try:
                # Fails if there is a folder that is not empty, and replaces nothing
                os.rename(temporary, target)
                return target
            except OSError:
                if self.version or not target.exists():
                    self._check()
                    raise

    def _existing(self):
        names = (each.name for each in self.path.iterdir())
        return [int(name) for name in names if name.isdecimal()]

    def _check(self):
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ValueError(
                f"Argument `path` must be a folder. Received: path={self.path}"
            )
        for each in self.path.iterdir():
            hidden = each.name.startswith(".")
            exported = each.name.isdecimal() and (each / self.marker).exists()
            if not hidden and not exported:
                raise ValueError(
                    "Argument `path` must be a new or empty folder, or one of exported "
                    f"versions with '{self.marker}': it has '{each.name}'. "
                    f"Received: path={self.path}"
                )
        if self.version in self._existing():
            raise ValueError(
                f"Argument `version` must be new: '{self.path}' has "
                f"{sorted(self._existing())}. Received: version={self.version}"
            )
