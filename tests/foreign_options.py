"""The options of other brokers' configurations, for tests that look for each of them."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: mosquitto.conf(5) of 2.0, without bridges, and the older names that 2.0 still takes.
MOSQUITTO = _words(
    """
    acl_file allow_anonymous allow_duplicate_messages allow_zero_length_clientid auth_opt_*
    auth_plugin auth_plugin_deny_special_chars auto_id_prefix autosave_interval
    autosave_on_changes bind_address bind_interface cafile capath certfile
    check_retain_source ciphers ciphers_tls1.3 clientid_prefixes connection_messages crlfile
    dhparamfile http_dir include_dir keyfile listener log_dest log_facility log_timestamp
    log_timestamp_format log_type max_connections max_inflight_bytes max_inflight_messages
    max_keepalive max_packet_size max_qos max_queued_bytes max_queued_messages
    max_topic_alias maximum_qos memory_limit message_size_limit mount_point password_file
    per_listener_settings persistence persistence_file persistence_location
    persistent_client_expiration pid_file plugin plugin_opt_* port protocol psk_file
    psk_hint queue_qos0_messages require_certificate retain_available retained_persistence
    retry_interval set_tcp_nodelay socket_domain sys_interval tls_engine
    tls_engine_kpass_sha1 tls_keyform tls_version upgrade_outgoing_qos
    use_identity_as_username use_subject_as_username use_username_as_clientid user
    websockets_headers_size websockets_log_level
    """
)

#: What belongs to a bridge there.
MOSQUITTO_BRIDGE = _words(
    """
    address addresses bridge_alpn bridge_attempt_unsubscribe bridge_bind_address
    bridge_cafile bridge_capath bridge_certfile bridge_identity bridge_insecure
    bridge_keyfile bridge_max_packet_size bridge_outgoing_retain bridge_protocol_version
    bridge_psk bridge_require_ocsp bridge_tls_version cleansession clientid connection
    idle_timeout keepalive_interval local_cleansession local_clientid local_password
    local_username notification_topic notifications notifications_local_only password
    remote_clientid remote_password remote_username restart_timeout round_robin start_type
    threshold topic try_private username
    """
)

_LISTENER = _words(
    """
    acceptors max_clients access.1 rate_limit backlog send_timeout send_timeout_close
    nodelay reuseaddr zone mountpoint recbuf sndbuf buffer tune_buffer proxy_protocol
    proxy_protocol_timeout
    """
)
_WEBSOCKET = ("proxy_address_header", "proxy_port_header")
_TLS = _words(
    """
    handshake_timeout keyfile certfile cacertfile dhfile tls_versions verify
    fail_if_no_peer_cert ciphers secure_renegotiate reuse_sessions honor_cipher_order
    peer_cert_as_username
    """
)

_CORE = _words(
    """
    cluster.name cluster.discovery cluster.autoheal cluster.autoclean cluster.static.seeds
    cluster.mcast.addr cluster.mcast.ports cluster.mcast.iface cluster.mcast.ttl
    cluster.mcast.loop cluster.mcast.sndbuf cluster.mcast.recbuf cluster.mcast.buffer
    cluster.dns.name cluster.dns.app cluster.etcd.server cluster.etcd.prefix
    cluster.etcd.node_ttl cluster.k8s.apiserver cluster.k8s.service_name
    cluster.k8s.address_type cluster.k8s.app_name cluster.k8s.namespace node.name
    node.cookie node.smp node.heartbeat node.kernel_poll node.async_threads
    node.process_limit node.max_ports node.dist_buffer_size node.max_ets_tables
    node.fullsweep_after node.crash_dump node.proto_dist node.ssl_dist_optfile
    node.dist_net_ticktime node.dist_listen_min node.dist_listen_max log.dir log.console
    log.console.level log.console.file log.console.size log.console.count log.info.file
    log.info.size log.info.count log.error.file log.error.size log.error.count log.crash
    log.crash.file log.syslog log.syslog.identity log.syslog.facility log.syslog.level
    log.error.redirect log.error.messages_per_second sasl mqtt.allow_anonymous
    mqtt.acl_nomatch mqtt.acl_file mqtt.cache_acl mqtt.max_clientid_len mqtt.max_packet_size
    mqtt.websocket_protocol_header mqtt.keepalive_backoff mqtt.conn.force_gc_count
    mqtt.client.idle_timeout mqtt.client.max_publish_rate mqtt.client.enable_stats
    mqtt.session.max_subscriptions mqtt.session.upgrade_qos mqtt.session.max_inflight
    mqtt.session.retry_interval mqtt.session.max_awaiting_rel mqtt.session.await_rel_timeout
    mqtt.session.enable_stats mqtt.session.expiry_interval mqtt.session.ignore_loop_deliver
    mqtt.mqueue.type mqtt.mqueue.priority mqtt.mqueue.max_length mqtt.mqueue.low_watermark
    mqtt.mqueue.high_watermark mqtt.mqueue.store_qos0 mqtt.broker.sys_interval
    mqtt.pubsub.pool_size mqtt.pubsub.async mqtt.bridge.max_queue_len
    mqtt.bridge.ping_down_interval mqtt.plugins.etc_dir mqtt.plugins.loaded_file
    sysmon.long_gc sysmon.long_schedule sysmon.large_heap sysmon.busy_port
    sysmon.busy_dist_port
    """
)

#: emq.conf of 2.3.
EMQTTD = (
    *_CORE,
    *(f"listener.{kind}.external" for kind in ("tcp", "ssl", "ws", "wss")),
    "listener.api.mgmt",
    *(
        f"listener.{kind}.external.{option}"
        for kind in ("tcp", "ssl", "ws", "wss")
        for option in _LISTENER
    ),
    *(f"listener.{kind}.external.{option}" for kind in ("ws", "wss") for option in _WEBSOCKET),
    *(f"listener.{kind}.external.{option}" for kind in ("ssl", "wss") for option in _TLS),
    "listener.tcp.external.peer_cert_as_username",
)
