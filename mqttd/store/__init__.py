"""What survives: the stores behind ``mqttd.interfaces.IStore``.

The broker adds to a store what must not be lost and waits for its word; it
imports ``records`` and nothing else from here. The service makes the store.
"""
