"""Where the daemon and ``mqttctl`` meet: the control socket, when nobody names it.

``tap.py`` asks where to make it, ``mqttd.ctl`` where to look for it. It touches no
file but to see whether it is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_state_path

#: The name of the socket in its folder.
CONTROL_SOCKET = "control.socket"

#: Where the unit of ``etc/`` has it, and where one without a runtime directory.
SYSTEM = (Path("/run/mqttd"), Path("/var/lib/mqttd"))


def control_socket(
    data_directory: str | Path, environment: Mapping[str, str] | None = None
) -> Path:
    """Where a daemon with this *environment* has its control socket: in systemd's
    ``$RUNTIME_DIRECTORY``, or else in its data directory."""
    environment = os.environ if environment is None else environment
    runtime = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(runtime or data_directory, CONTROL_SOCKET)


def find_control_socket(environment: Mapping[str, str] | None = None) -> Path:
    """Where a command with this *environment* shall look: the first that is there."""
    own = control_socket(user_state_path("mqttd", appauthor=False), environment)
    candidates = [own, *(folder / CONTROL_SOCKET for folder in SYSTEM)]
    return next((path for path in candidates if _is_there(path)), own)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        # The folder of a daemon that is not this user's: who connects is told so.
        return True
