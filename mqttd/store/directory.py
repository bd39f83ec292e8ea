"""The data directory: which one, made with the right mode, used by one process.

The daemon's entry asks for the default; the SQLite store and the offline
operations lock the directory while they use it. Knows nothing of what is in it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_state_dir
from twisted.logger import Logger

from mqttd.interfaces import StoreError

log = Logger()

LOCK = "lock"


def default_directory(environment: Mapping[str, str] | None = None) -> str:
    """``$STATE_DIRECTORY``, as systemd sets it, or else the user's state directory."""
    environment = os.environ if environment is None else environment
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    return given or user_state_dir("mqttd", appauthor=False)


def open_file(path: Path, flags: int) -> int:
    """A descriptor of *path*, mode 0600 if it is made.

    It belongs to whom its directory belongs: root works for a daemon that is not
    root. A symbolic link is refused, since that daemon could lead root elsewhere.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    if os.getuid() == 0:
        status = path.parent.stat()
        os.fchown(file, status.st_uid, status.st_gid)
    return file


def create_file(path: Path) -> None:
    """Make the empty file *path*, which is not there."""
    os.close(open_file(path, os.O_CREAT | os.O_EXCL))


class DirectoryLock:
    """Keeps other processes off a data directory, from ``take`` to ``release``.

    The system drops it with the process, so that a crash leaves none behind.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._file: int | None = None

    def take(self) -> None:
        """Make the directory if it is not there, and lock it.

        Raises ``StoreError`` when it cannot be used, or is in use.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = open_file(self._directory / LOCK, os.O_CREAT)
        except OSError as error:
            raise StoreError(
                f"the data directory {str(self._directory)!r} cannot be used: {error.strerror}; "
                "name another one (data_directory, --data-dir), or keep nothing "
                '(backend = "memory" in [store])'
            ) from error
        try:
            self._lock(file)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        if self._directory.stat().st_mode & 0o077:
            log.warn(
                "Others than its owner may look into {directory}, where messages are kept: "
                "chmod 700 {directory}",
                directory=str(self._directory),
            )

    def _lock(self, file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreError(
                f"the data directory {str(self._directory)!r} is in use by process {pid}; "
                "two brokers cannot share one (data_directory, --data-dir)"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others use the directory; a second call does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
