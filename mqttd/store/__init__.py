"""What survives: the stores behind ``mqttd.interfaces.IStore``.

The broker adds to a store what must not be lost and waits for its word; of this
package it imports ``records`` and nothing else. The service makes the store,
with ``make_store``, and ``mqttctl store`` looks at it from outside.
"""

from __future__ import annotations

from typing import Any

from mqttd.interfaces import IStore
from mqttd.settings import BrokerSettings, StoreBackend
from mqttd.store.memory import MemoryStore
from mqttd.store.sqlite import SQLiteStore


def make_store(reactor: Any, settings: BrokerSettings) -> IStore:
    """The store that *settings* want, not started yet.

    It asks *reactor* for ``callLater`` and ``callFromThread``.
    """
    if settings.store.backend is StoreBackend.SQLITE and settings.data_directory:
        return SQLiteStore(reactor, settings.data_directory, settings.store)
    return MemoryStore()
