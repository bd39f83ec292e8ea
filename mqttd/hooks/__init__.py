"""The plugins in the box: what they do, they do by hooks that anyone could write.

``rewrite``, ``auto_subscribe``, ``delayed`` and ``webhook`` are one class each, named
in the configuration (``[[plugin]]``) or given to ``MQTTBroker``. They see the broker
by its public parts, like a plugin from elsewhere.
"""
