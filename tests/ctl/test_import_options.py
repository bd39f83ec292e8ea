"""Every option of mosquitto.conf: what ``mqttctl import`` makes of it, or says of it."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from mqttd.config import parse_settings
from mqttd.ctl.importing import check, included
from mqttd.ctl.mosquitto_conf import Converted, convert
from mqttd.settings import BrokerSettings, ClientCertificate, Identity, StoreBackend
from mqttd.settings_access import MosquittoFileSettings
from tests.foreign_options import MOSQUITTO

PLAIN = "listener 1883 127.0.0.1\nallow_anonymous true\n"

TLS = "listener 8883\nallow_anonymous true\ncertfile c.pem\nkeyfile k.pem\n"

MUTUAL = TLS + "cafile a.pem\nrequire_certificate true\n"

#: Lines, the last of which has the option -> where its effect is, and what it is.
EFFECTS: list[tuple[str, str, Any]] = [
    (PLAIN + "max_connections 5", "listener.limits.maximum_connections", 5),
    (PLAIN + "max_connections -1", "listener.limits.maximum_connections", 0),
    (PLAIN + "max_qos 1", "listener.protocol.maximum_qos", 1),
    (PLAIN + "maximum_qos 0", "listener.protocol.maximum_qos", 0),
    (PLAIN + "max_topic_alias 0", "listener.protocol.topic_alias_maximum", 0),
    (PLAIN + "mount_point site/", "listener.mount_point", "site/"),
    (PLAIN + "use_username_as_clientid true", "listener.protocol.user_name_as_client_id", True),
    (PLAIN + "set_tcp_nodelay false", "listener.tcp_no_delay", False),
    (PLAIN + "allow_zero_length_clientid false", "protocol.zero_length_client_id", False),
    (PLAIN + "auto_id_prefix x-", "protocol.assigned_client_id_prefix", "x-"),
    (PLAIN + "max_inflight_messages 7", "session.maximum_inflight", 7),
    (PLAIN + "max_inflight_messages 0", "session.maximum_inflight", 65_535),
    (PLAIN + "max_inflight_bytes 9000", "session.maximum_inflight_bytes", 9000),
    (PLAIN + "max_queued_messages 500", "session.maximum_queued_messages", 500),
    (PLAIN + "max_queued_messages 0", "session.maximum_queued_messages", 1_000_000),
    (PLAIN + "max_queued_bytes 70000", "session.maximum_queued_bytes", 70_000),
    (PLAIN + "queue_qos0_messages true", "session.queue_qos0", True),
    (PLAIN + "upgrade_outgoing_qos true", "session.upgrade_qos", True),
    (PLAIN + "max_keepalive 600", "protocol.maximum_keep_alive", 600),
    (PLAIN + "max_packet_size 5000", "protocol.maximum_packet_size", 5000),
    (PLAIN + "message_size_limit 4000", "protocol.maximum_payload_size", 4000),
    (PLAIN + "persistent_client_expiration 2w", "protocol.persistent_session_expiry", 1_209_600),
    (PLAIN + "persistent_client_expiration 2m", "protocol.persistent_session_expiry", 5_184_000),
    (PLAIN + "retain_available false", "protocol.retain_available", False),
    (PLAIN + "check_retain_source false", "retained.check_source", False),
    (PLAIN + "sys_interval 5", "sys_interval", 5),
    (PLAIN + "persistence true", "store.backend", StoreBackend.SQLITE),
    (PLAIN + "persistence false", "store.backend", StoreBackend.MEMORY),
    (PLAIN + "retained_persistence false", "store.backend", StoreBackend.MEMORY),
    (PLAIN + "log_type warning", "log_level", "warn"),
    (PLAIN + "log_type error\nlog_type debug", "log_level", "debug"),
    (PLAIN + "protocol websockets", "listener.websocket.path", "/mqtt"),
    (PLAIN, "listener.allow_anonymous", True),
    ("listener 1884 10.0.0.1\nallow_anonymous true", "listener.allow_anonymous", True),
    ("allow_anonymous true\nport 1885", "listener.endpoint", "tcp6:1885"),
    (
        "allow_anonymous true\nport 1885\nbind_address 127.0.0.1",
        "listener.endpoint",
        "tcp:1885:interface=127.0.0.1",
    ),
    ("allow_anonymous true\nlistener 1886", "listener.endpoint", "tcp6:1886"),
    ("allow_anonymous true\nlistener 0 /run/m", "listener.endpoint", "unix:/run/m"),
    (PLAIN.replace(" 127.0.0.1", "") + "socket_domain ipv4", "listener.endpoint", "tcp:1883"),
    ("listener 1883\npassword_file p", "authentication.0.path", "p"),
    (PLAIN + "acl_file a", "authorization.0.path", "a"),
    (TLS + "certfile d.pem", "listener.tls.certificate", "d.pem"),
    (TLS + "keyfile l.pem", "listener.tls.private_key", "l.pem"),
    (TLS + "ciphers ECDHE+AESGCM", "listener.tls.ciphers", "ECDHE+AESGCM"),
    (
        TLS + "ciphers_tls1.3 TLS_AES_128_GCM_SHA256",
        "listener.tls.ciphersuites",
        "TLS_AES_128_GCM_SHA256",
    ),
    (TLS + "tls_version tlsv1.3", "listener.tls.minimum_version", "1.3"),
    (TLS + "tls_version tlsv1.2", "listener.tls.minimum_version", "1.2"),
    (TLS + "cafile a.pem", "listener.tls.client_certificate", ClientCertificate.NONE),
    (MUTUAL + "cafile b.pem", "listener.tls.client_authorities", "b.pem"),
    (MUTUAL, "listener.tls.client_certificate", ClientCertificate.REQUIRED),
    (MUTUAL + "crlfile r.pem", "listener.tls.revocation_list", "r.pem"),
    (MUTUAL + "use_identity_as_username true", "listener.tls.identity", Identity.COMMON_NAME),
    (
        MUTUAL + "use_subject_as_username true",
        "listener.tls.identity",
        Identity.SUBJECT,
    ),
    # The subject gives way, in whatever order they stand.
    (
        MUTUAL + "use_identity_as_username true\nuse_subject_as_username true",
        "listener.tls.identity",
        Identity.COMMON_NAME,
    ),
    ("per_listener_settings true\n" + PLAIN, "listener.allow_anonymous", True),
]

#: What is only reported, with a value that mosquitto takes.
REPORTED = {
    "allow_duplicate_messages": "true",
    "auth_opt_*": "x",
    "auth_plugin": "/usr/lib/auth.so",
    "auth_plugin_deny_special_chars": "true",
    "autosave_interval": "1800",
    "autosave_on_changes": "true",
    "bind_interface": "eth0",
    "capath": "/etc/ssl/certs",
    "clientid_prefixes": "secure-",
    "connection_messages": "true",
    "dhparamfile": "dh.pem",
    "http_dir": "/var/www",
    "log_dest": "file /var/log/mosquitto.log",
    "log_facility": "5",
    "log_timestamp": "true",
    "log_timestamp_format": "%s",
    "memory_limit": "1000000",
    "persistence_file": "mosquitto.db",
    "persistence_location": "/var/lib/mosquitto/",
    "pid_file": "/run/mosquitto.pid",
    "plugin": "/usr/lib/mosquitto_dynamic_security.so",
    "plugin_opt_*": "x",
    "psk_file": "psk",
    "psk_hint": "hint",
    "retry_interval": "20",
    "tls_engine": "pkcs11",
    "tls_engine_kpass_sha1": "0",
    "tls_keyform": "pem",
    "user": "mosquitto",
    "websockets_headers_size": "2048",
    "websockets_log_level": "1",
}


def taken(converted: Converted) -> BrokerSettings:
    assert check(converted.toml(), converted) == []
    return parse_settings(converted.toml(), "mqttd.toml")


def rules_of(settings: BrokerSettings) -> dict[str, tuple[str, ...]]:
    """Each acl_file, and the listeners that it is for."""
    sources = [each for each in settings.authorization if isinstance(each, MosquittoFileSettings)]
    return {each.path: each.listeners for each in sources}


def option_of(lines: str) -> str:
    return lines.strip().splitlines()[-1].split()[0]


@pytest.mark.parametrize(
    ("lines", "where", "expected"), EFFECTS, ids=[option_of(lines) for lines, _, _ in EFFECTS]
)
def test_an_option_has_its_effect(lines: str, where: str, expected: Any) -> None:
    settings = taken(convert(lines.splitlines()))
    (listener,) = settings.listeners

    def step(found: Any, name: str) -> Any:
        return found[int(name)] if name.isdecimal() else getattr(found, name)

    first, *rest = where.split(".")
    start = listener if first == "listener" else step(settings, first)
    assert reduce(step, rest, start) == expected


@pytest.mark.parametrize("option", REPORTED)
def test_an_option_without_effect_is_reported(option: str) -> None:
    name = option.replace("*", "some")
    converted = convert([*PLAIN.splitlines(), f"{name} {REPORTED[option]}"])
    (remark,) = converted.report
    assert (remark.line, remark.option) == (3, name)
    assert "unknown" not in remark.text
    taken(converted)


def test_no_option_is_left_out() -> None:
    known = {option_of(lines) for lines, _, _ in EFFECTS} | set(REPORTED)
    known |= {"include_dir", "per_listener_settings", "require_certificate"}
    assert set(MOSQUITTO) - known == set()


def test_options_of_security_hold_for_all_listeners_wherever_they_stand() -> None:
    """The last one counts, as in mosquitto."""
    lines = (
        "allow_anonymous true\nlistener 1\nacl_file a\n"
        "listener 2\nallow_anonymous false\npassword_file p\nset_tcp_nodelay false\n"
    )
    settings = taken(convert(lines.splitlines()))
    assert [each.allow_anonymous for each in settings.listeners] == [False, False]
    assert [each.authentication for each in settings.listeners] == [("all",), ("all",)]
    assert [each.tcp_no_delay for each in settings.listeners] == [False, False]
    assert rules_of(settings) == {"a": ()}


def test_with_settings_per_listener_each_has_its_own() -> None:
    lines = (
        "per_listener_settings true\n"
        "listener 1\nallow_anonymous true\nacl_file open\n"
        "listener 2\npassword_file p\nacl_file narrow\nauto_id_prefix x-\n"
        "allow_zero_length_clientid true\n"
    )
    settings = taken(convert(lines.splitlines()))
    first, second = settings.listeners
    assert (first.allow_anonymous, first.authentication) == (True, ())
    assert (second.allow_anonymous, second.authentication) == (False, ("passwords-1",))
    assert rules_of(settings) == {"open": (first.name,), "narrow": (second.name,)}
    assert second.protocol.assigned_client_id_prefix == "x-"
    assert first.protocol.assigned_client_id_prefix != "x-"


def test_what_nobody_may_use_is_open_to_nobody() -> None:
    """A listener that has neither users nor anonymous clients there, beside one that has."""
    lines = "per_listener_settings true\nlistener 1\npassword_file p\nlistener 2\n"
    converted = convert(lines.splitlines())
    (problem,) = check(converted.toml(), converted)
    assert "'tcp6:2'" in problem
    assert "nothing says who may connect" in problem


def test_a_listener_without_rules_beside_one_with_them_is_reported() -> None:
    lines = "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\n"
    converted = convert((lines + "allow_anonymous true\nacl_file a\n").splitlines())
    (remark,) = converted.report
    assert "tcp6:1 has none" in remark.text
    taken(converted)


def test_files_of_a_folder_are_read_in_mosquittos_order(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    for number, name in enumerate(("00", "01", "A", "a", "B", "b"), 1):
        (folder / f"{name}.conf").write_text(f"max_keepalive {number}0\npsk_file {name}\n")
    (folder / "c.conf.bak").write_text("max_keepalive 900\n")
    (folder / "b.conf").write_text(f"max_keepalive 60\ninclude_dir {folder}\npsk_file b\n")
    converted = convert([*PLAIN.splitlines(), f"include_dir {folder}"], included)
    assert taken(converted).protocol.maximum_keep_alive == 60
    places = [(remark.line, Path(remark.file).stem) for remark in converted.report]
    assert places == [(2, "00"), (2, "01"), (2, "A"), (2, "a"), (2, "B"), (2, "b"), (3, "b")]


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (remark,) = convert([*PLAIN.splitlines(), f"include_dir {tmp_path / 'x'}"], included).report
    assert "no folder that can be read here" in remark.text
