"""Settings of what looks into connections: traces and the flight recorder.

``settings`` puts them into the whole; nothing here knows what is done with them.
"""

from __future__ import annotations

from attrs import frozen

from mqttd.fields import count, flag, size, text


@frozen
class TraceSettings:
    """Bounds of the traces that operators start."""

    #: Directory of the files; "" means ``traces`` in the data directory.
    directory: str = text()
    #: Traces that may run at once, live ones included; 0 means that none may.
    maximum_running: int = count(10, 0, 100)
    #: Packets per second that one trace takes; those over it are counted only.
    maximum_rate: int = count(1000, 1)
    #: A file that is larger is put aside, and a new one begun. Bytes.
    maximum_file: int = size(10 * 1024 * 1024, 64 * 1024)
    #: Files put aside that are kept for each trace.
    kept_files: int = count(4, 1, 100)
    #: Traces that may have files; another one is refused until some were deleted.
    maximum_recorded: int = count(100, 1)


@frozen
class FlightSettings:
    """The flight recorder: what came and went last on each connection."""

    #: Bytes that are kept of each connection; 0 switches it off.
    size: int = size(4096, 0, 1024 * 1024)
    #: Clients whose packets are kept after a failure, the latest ones; 0 keeps none.
    maximum_failures: int = count(100, 0, 10_000)
    #: Keep them in files, too, where a restart finds them.
    files: bool = flag(True)
    #: Directory of the files; "" means ``failures`` in the data directory.
    directory: str = text()
