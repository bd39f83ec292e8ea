"""What public suites and other brokers' tests ask of a broker, asked of this one.

The facts come from those suites; the tests are our own. ``test_sequences.py`` and
``test_connect_sequences.py`` go byte by byte, ``test_property_matrix.py`` property
by property, the ``test_suite_*`` files scenario by scenario. The first two say what
of mosquitto's sequences they hold; the scenarios:

- Eclipse Paho's ``interoperability/client_test.py`` and ``client_test5.py``: all
  cases. Where they allow for more than one behaviour, the one of mqttd is named.
- mosquitto's ``test/broker``: 01 (identifiers, take-over, keep alive), 02 and 03
  (subscriptions, flows, limits, aliases), 04 (retained), 05 (sessions), 07
  (wills), 10 (mount point), 11 (expiry, identifiers), 12 (properties). In other
  places of these tests: 01 (users, maximum connections, Unix sockets), 08 (TLS)
  and 21 (PROXY) in ``tests/end_to_end`` and ``tests/net``; 06 in
  ``tests/end_to_end/test_bridge.py``; 09 (authentication) in ``tests/conformance``;
  16 (configuration) in ``tests/test_config.py``. Not applicable: what is
  mosquitto's own (plugins, its ACL and dynamic-security files, control topics,
  Sparkplug, HTTP), persistence on disk, WebSocket.
- EMQX's ``emqx_mqtt_protocol_v5_SUITE``, VerneMQ's ``vmq_mqtt5_SUITE``, FlashMQ's
  will and shared-subscription tests, BifroMQ's ``LWTTest``, aedes' ``connect``.
  Not applicable: QUIC, changes of settings by their own interfaces.

Where mqttd answers otherwise, on purpose:

- mosquitto takes a PUBLISH to ``$anything``; mqttd refuses (0x87 in 5.0) unless
  ``dollar_topics`` is set. $SYS is closed with both, but for a bridge's state.
- mosquitto tells a publisher whose payload is too large 0x95 in PUBACK, which is
  no code of PUBACK; mqttd says 0x97.
- mosquitto publishes no will when a persistent session is taken over; section
  3.1.4 of 5.0 says that it is published where it has no delay, and so FlashMQ and
  mqttd do.
- A filter or topic with too many levels is refused by its reason code (0x80, 0x8F,
  0x90) where mosquitto closes.
- EMQX lets a client without a session expiry resume a session that has just been
  taken over; in mqttd it ends with its connection.
- aedes refuses client ids of more than 23 characters in 3.1; mqttd takes them, as
  clients of 3.1 send them.
- EMQX grants QoS 2 to subscribers where maximum QoS is lower, as the
  specification allows; mqttd grants what it will deliver.
"""
