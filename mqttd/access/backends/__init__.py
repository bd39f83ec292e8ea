"""Servers that are asked: web services, databases, Redis, directories.

Each module has one client, bounded in time, in size and in what waits, that
knows nothing of logins; what is wrong is a ``BackendError`` that holds no
secret. The authenticators beside this package ask them.
"""

from __future__ import annotations

from pathlib import Path

from mqttd.interfaces import LoginUnavailable


class BackendError(LoginUnavailable):
    """A server that is down, slow, or answers nonsense; the text is for the log."""


def read_secret(path: str) -> str:
    """The secret in the file at *path*; a newline at its end is not part of it.

    :raise ValueError: when there is none; the text names the file.
    """
    try:
        secret = Path(path).read_text().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text") from None
    if not secret:
        raise ValueError(f"{path}: is empty, and should hold a secret")
    return secret
