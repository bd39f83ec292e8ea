"""mosquitto.conf (2.0) as mqttd.toml, and what has no counterpart.

``importing`` calls ``convert``. Each option has an entry in one of the tables below; what
an entry cannot express it says to the report. What belongs to a listener in mosquitto
does so here; what stood before the first ``listener`` is that of the default one. Who may
come in and what they may do belongs to all listeners, wherever it stands, unless
``per_listener_settings`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from mqttd.config.render import toml_value
from mqttd.ctl.mosquitto_bridge import Bridge
from mqttd.ctl.mosquitto_values import Remark, Table, Unfit, as_flag, as_number, as_text


@define
class Converted:
    """The result: tables as the configuration has them."""

    tables: dict[str, Table] = field(factory=dict)
    authentication: list[Table] = field(factory=list)
    authorization: list[Table] = field(factory=list)
    bridges: list[Table] = field(factory=list)
    listeners: list[Table] = field(factory=list)
    #: Path of a file to be written, for its owner only -> the password in it.
    passwords: dict[str, str] = field(factory=dict)
    report: list[Remark] = field(factory=list)

    def toml(self) -> str:
        """The configuration file."""
        lines: list[str] = []
        for name, table in self.tables.items():
            lines += [f"[{name}]", *_pairs(table), ""]
        for name, entries in (
            ("authentication", self.authentication),
            ("authorization", self.authorization),
            ("bridge", self.bridges),
            ("listener", self.listeners),
        ):
            for entry in entries:
                lines += [f"[[{name}]]", *_pairs(entry), ""]
                for key, part in entry.items():
                    if isinstance(part, dict):
                        lines += [f"[{name}.{key}]", *_pairs(part), ""]
                    elif key == "topics":
                        for topic in part:
                            lines += [f"[[{name}.{key}]]", *_pairs(topic), ""]
        return "\n".join(lines)


def _pairs(table: Table) -> list[str]:
    return [
        f"{key} = {toml_value(value)}"
        for key, value in table.items()
        if not isinstance(value, dict) and key != "topics"
    ]


# --- values ---------------------------------------------------------------------------


def _at_least_one(unlimited: int) -> Callable[[str], int]:
    """For bounds that are always there: 0, none in mosquitto, is *unlimited*."""

    def convert(value: str) -> int:
        return as_number(value) or unlimited

    return convert


def _connections(value: str) -> int:
    return max(0, as_number(value))


def _keep_alive(value: str) -> int:
    return min(as_number(value), 65_535)


_DAYS = {"h": 1 / 24, "d": 1, "w": 7, "m": 30, "y": 365}


def _expiry(value: str) -> str:
    number, unit = value[:-1], value[-1:]
    if unit not in _DAYS or not number.isdecimal():
        raise Unfit("must be a number with h, d, w, m or y")
    return f"{round(int(number) * _DAYS[unit] * 24)}h"


def _tls_version(value: str) -> str:
    if value == "tlsv1.3":
        return "1.3"
    if value == "tlsv1.2":
        return "1.2"
    raise Unfit("1.2 is the least; that is what holds now")


# --- options ----------------------------------------------------------------------------

#: Option -> table, key, conversion.
EVERYWHERE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "max_inflight_messages": ("session", "maximum_inflight", _at_least_one(65_535)),
    "max_inflight_bytes": ("session", "maximum_inflight_bytes", as_number),
    "max_queued_messages": ("session", "maximum_queued_messages", _at_least_one(1_000_000)),
    "max_queued_bytes": ("session", "maximum_queued_bytes", _at_least_one(1 << 30)),
    "queue_qos0_messages": ("session", "queue_qos0", as_flag),
    "upgrade_outgoing_qos": ("session", "upgrade_qos", as_flag),
    "max_keepalive": ("protocol", "maximum_keep_alive", _keep_alive),
    "max_packet_size": ("protocol", "maximum_packet_size", _at_least_one(268_435_455)),
    "message_size_limit": ("protocol", "maximum_payload_size", as_number),
    "persistent_client_expiration": ("protocol", "persistent_session_expiry", _expiry),
    "retain_available": ("protocol", "retain_available", as_flag),
    "check_retain_source": ("retained", "check_source", as_flag),
    "sys_interval": ("broker", "sys_interval", as_number),
}

#: The same for what holds for all listeners, or for one with ``per_listener_settings``.
OF_SECURITY: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "allow_anonymous": ("", "allow_anonymous", as_flag),
    "allow_zero_length_clientid": ("protocol", "zero_length_client_id", as_flag),
    "auto_id_prefix": ("protocol", "assigned_client_id_prefix", as_text),
}

#: The same for a listener: part ("" is the listener itself), key, conversion.
OF_A_LISTENER: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "max_connections": ("limits", "maximum_connections", _connections),
    "max_qos": ("protocol", "maximum_qos", as_number),
    "maximum_qos": ("protocol", "maximum_qos", as_number),
    "max_topic_alias": ("protocol", "topic_alias_maximum", as_number),
    "mount_point": ("", "mount_point", as_text),
    "use_username_as_clientid": ("protocol", "user_name_as_client_id", as_flag),
    "certfile": ("tls", "certificate", as_text),
    "keyfile": ("tls", "private_key", as_text),
    "cafile": ("tls", "client_authorities", as_text),
    "ciphers": ("tls", "ciphers", as_text),
    "ciphers_tls1.3": ("tls", "ciphersuites", as_text),
    "crlfile": ("tls", "revocation_list", as_text),
    "tls_version": ("tls", "minimum_version", _tls_version),
}

_LOG = "twistd -l FILE, --syslog and --facility say where the log goes"
_STORE = "everything acknowledged is on disk at once: see docs/durability.rst"
_PLUGIN = "plugins of mosquitto do not run here: see [[authentication]] and [[authorization]]"
_PSK = "pyOpenSSL offers no pre-shared keys to servers: use certificates"
_ENGINE = "OpenSSL has given engines up"

#: Options that are heard and need nothing, or have no counterpart -> why.
WITHOUT: dict[str, str] = {
    "allow_duplicate_messages": "overlapping subscriptions give one copy",
    "auth_opt_*": _PLUGIN,
    "auth_plugin": _PLUGIN,
    "auth_plugin_deny_special_chars": "placeholders never widen a rule here",
    "autosave_interval": _STORE,
    "autosave_on_changes": _STORE,
    "bind_interface": 'use BindToDevice= in a systemd socket, and endpoint = "systemd:..."',
    "capath": "put the certificates into one file and name it as client_authorities",
    "clientid_prefixes": "deprecated, and no protection: sessions belong to their user here",
    "connection_messages": "level in [log]",
    "dhparamfile": "elliptic curves need none",
    "http_dir": "a web server in front serves files",
    "log_dest": _LOG,
    "log_facility": _LOG,
    "log_timestamp": "each line has its time",
    "log_timestamp_format": "each line has its time",
    "memory_limit": "every bound has a setting; MemoryMax= of systemd is the last resort",
    "persistence_file": "the store has files of its own",
    "persistence_location": "data_directory in [broker] names a place; not mosquitto's own",
    "pid_file": "twistd --pidfile, or the unit of systemd",
    "plugin": _PLUGIN,
    "plugin_opt_*": _PLUGIN,
    "psk_file": _PSK,
    "psk_hint": _PSK,
    "retry_interval": "mosquitto 2.0 ignores it, too: nothing is sent again while connected",
    "tls_engine": _ENGINE,
    "tls_engine_kpass_sha1": _ENGINE,
    "tls_keyform": _ENGINE,
    "user": "twistd --uid, or User= in the unit of systemd",
    "websockets_headers_size": "a request may have 16 KiB of headers",
    "websockets_log_level": "levels in [log], for mqttd.net.websocket",
}

#: Options that have a method of their own below.
SPECIAL = frozenset(
    {
        "acl_file",
        "bind_address",
        "connection",
        "include_dir",
        "listener",
        "log_type",
        "password_file",
        "per_listener_settings",
        "persistence",
        "port",
        "protocol",
        "require_certificate",
        "retained_persistence",
        "set_tcp_nodelay",
        "socket_domain",
        "use_identity_as_username",
        "use_subject_as_username",
    }
)

_LEVELS = ("debug", "info", "warn", "error")


# --- the file -----------------------------------------------------------------------------


#: Name of a folder -> name and lines of each file that mosquitto would read there.
Include = Callable[[str], Iterable[tuple[str, Iterable[str]]]]


def _nothing(folder: str) -> Iterable[tuple[str, Iterable[str]]]:
    raise Unfit("is not read here")


def convert(lines: Iterable[str], include: Include = _nothing, passwords: str = "") -> Converted:
    """*lines* of a mosquitto.conf as a configuration of ours, with a report.

    :param include: reads an ``include_dir``; raises ``Unfit`` where it cannot.
    :param passwords: what the paths of files with passwords begin with; "": there shall
        be none.
    """
    reader = _Reader(include, passwords)
    reader.read_file("", lines)
    return reader.finish()


@define
class _Listener:
    """A listener in the making."""

    port: int = 1883
    #: Address, or path of a Unix socket where the port is 0.
    address: str = ""
    domain: str = ""
    acl_file: str = ""
    parts: dict[str, Table] = field(factory=dict)
    identity: str = ""
    require_certificate: bool = False
    line: int = 0

    def set(self, part: str, key: str, value: Any) -> None:
        self.parts.setdefault(part, {})[key] = value

    @property
    def endpoint(self) -> str:
        if self.port == 0:
            return f"unix:{self.address}".replace("\\", "\\\\")
        if not self.address:
            # Both families, like mosquitto.
            return f"tcp:{self.port}" if self.domain == "ipv4" else f"tcp6:{self.port}"
        kind = "tcp6" if ":" in self.address else "tcp"
        return f"{kind}:{self.port}:interface=" + self.address.replace(":", "\\:")


class _Reader:
    def __init__(self, include: Include, passwords: str) -> None:
        self._include = include
        self._prefix = passwords
        self._result = Converted()
        self._file = ""
        self._first = _Listener()
        self._listeners: list[_Listener] = []
        self._apart = False
        #: Keys of all listeners.
        self._common: Table = {}
        self._bridges: list[Bridge] = []
        #: The one that the options belong to.
        self._bridge: Bridge | None = None
        self._default_used = False
        self._passwords: dict[str, str] = {}
        self._level: int | None = None

    @property
    def _listener(self) -> _Listener:
        return self._listeners[-1] if self._listeners else self._first

    def _remark(self, line: int, option: str, text: str) -> None:
        self._result.report.append(Remark(line, option, text, self._file))

    def read_file(self, name: str, lines: Iterable[str]) -> None:
        """One file; *name* is "" for the one that was named by the person."""
        self._file = name
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text and not text.startswith("#"):
                option, _, value = text.partition(" ")
                self.read(number, option, value.strip())
        self._file = ""

    def read(self, line: int, option: str, value: str) -> None:
        try:
            if self._bridge is not None and Bridge.knows(option):
                self._bridge.read(line, option, value)
            elif option in SPECIAL:
                self._special(option, line, value)
            elif option in EVERYWHERE:
                table, key, change = EVERYWHERE[option]
                self._result.tables.setdefault(table, {})[key] = change(value)
            elif option in OF_SECURITY:
                self._of_security(option, value)
            elif option in OF_A_LISTENER:
                part, key, change = OF_A_LISTENER[option]
                self._listener.set(part, key, change(value))
            else:
                self._remark(line, option, self._why(option))
        except Unfit as error:
            self._remark(line, option, f"{value!r} {error}")

    @staticmethod
    def _why(option: str) -> str:
        for name, reason in WITHOUT.items():
            if option == name or (name.endswith("*") and option.startswith(name[:-1])):
                return reason
        if Bridge.knows(option):
            return "belongs to a bridge, after its connection"
        return "unknown to mosquitto 2.0, and to mqttd"

    def _special(self, option: str, line: int, value: str) -> None:
        if option == "listener":
            self._open_listener(line, value)
        else:
            getattr(self, f"_{option}")(line, value)

    def _of_security(self, option: str, value: str) -> None:
        part, key, change = OF_SECURITY[option]
        if self._apart:
            self._listener.set(part, key, change(value))
        elif part:
            self._result.tables.setdefault(part, {})[key] = change(value)
        else:
            self._common[key] = change(value)

    # --- options with a method of their own ---

    def _open_listener(self, line: int, value: str) -> None:
        port, _, address = value.partition(" ")
        self._bridge = None
        self._listeners.append(_Listener(as_number(port), address.strip(), line=line))

    def _connection(self, line: int, value: str) -> None:
        self._bridge = Bridge(line, value, self._file)
        self._bridges.append(self._bridge)

    def _protocol(self, line: int, value: str) -> None:
        if value == "websockets":
            self._listener.set("websocket", "path", "/mqtt")
            self._listener.set("websocket", "origins", ["*"])
            self._remark(
                line,
                "protocol",
                "clients must ask for /mqtt; pages of any origin are let in as before: "
                "narrow origins in [listener.websocket]",
            )
        elif value not in ("mqtt", "mqttv311", "mqttv31"):
            raise Unfit("is no protocol that is spoken here")

    def _port(self, line: int, value: str) -> None:
        self._default_used = True
        self._first.port = as_number(value)

    def _bind_address(self, line: int, value: str) -> None:
        self._default_used = True
        self._first.address = value

    def _socket_domain(self, line: int, value: str) -> None:
        if value not in ("ipv4", "ipv6"):
            raise Unfit("must be ipv4 or ipv6")
        self._listener.domain = value
        if value == "ipv6":
            self._remark(line, "socket_domain", "IPv4 comes in, too, where the system maps it")

    def _require_certificate(self, line: int, value: str) -> None:
        self._listener.require_certificate = as_flag(value)

    def _use_identity_as_username(self, line: int, value: str) -> None:
        if as_flag(value):
            self._listener.identity = "cn"

    def _use_subject_as_username(self, line: int, value: str) -> None:
        # The identity has priority there.
        if as_flag(value) and not self._listener.identity:
            self._listener.identity = "dn"

    def _per_listener_settings(self, line: int, value: str) -> None:
        self._apart = as_flag(value)

    def _include_dir(self, line: int, value: str) -> None:
        if self._file:
            raise Unfit("stands in a file that is included; mosquitto would not read it")
        for name, lines in self._include(value):
            self.read_file(name, lines)

    def _set_tcp_nodelay(self, line: int, value: str) -> None:
        self._common["tcp_no_delay"] = as_flag(value)

    def _password_file(self, line: int, value: str) -> None:
        if value not in self._passwords:
            name = f"passwords-{len(self._passwords) + 1}"
            self._passwords[value] = name
            self._result.authentication.append(
                {"type": "password-file", "name": name, "path": value}
            )
        if self._apart:
            self._listener.set("", "authentication", [self._passwords[value]])

    def _acl_file(self, line: int, value: str) -> None:
        if self._apart:
            self._listener.acl_file = value
        else:
            self._result.authorization = [{"type": "mosquitto", "path": value}]

    def _persistence(self, line: int, value: str) -> None:
        store = self._result.tables.setdefault("store", {})
        store["backend"] = "sqlite" if as_flag(value) else "memory"

    _retained_persistence = _persistence

    def _log_type(self, line: int, value: str) -> None:
        levels = {"debug": 0, "all": 0, "warning": 2, "error": 3, "none": 3}
        level = levels.get(value, 1)
        # Several lines add up: the lowest level is the one that shows all of them.
        self._level = level if self._level is None else min(self._level, level)
        self._result.tables.setdefault("log", {})["level"] = _LEVELS[self._level]

    # --- the end ---

    def finish(self) -> Converted:
        listeners = list(self._listeners)
        if self._default_used or not listeners:
            listeners.insert(0, self._first)
        elif self._first.parts:
            self._remark(
                0,
                "listener",
                "options of a listener that stand before the first one belong to port 1883, "
                "which is not opened: " + ", ".join(self._names(self._first)),
            )
        local_only = not self._listeners and not self._default_used
        for listener in listeners:
            self._result.listeners.append(self._finished(listener, local_only))
        for bridge in self._bridges:
            self._finish_bridge(bridge)
        self._finish_rules(listeners)
        return self._result

    def _finish_rules(self, listeners: list[_Listener]) -> None:
        """Each listener's ``acl_file``, by its name."""
        entries: dict[str, list[str]] = {}
        for number, (listener, table) in enumerate(
            zip(listeners, self._result.listeners, strict=True), 1
        ):
            if listener.acl_file:
                table["name"] = f"listener-{number}"
                entries.setdefault(listener.acl_file, []).append(table["name"])
        for path, names in entries.items():
            rules = {"type": "mosquitto", "path": path, "listeners": names}
            self._result.authorization.append(rules)
        for listener in listeners:
            if entries and not listener.acl_file:
                text = (
                    f"{listener.endpoint} has none, so that mosquitto allows everything there, "
                    "and mqttd nothing: give it one, or a rule file that allows what it may"
                )
                self._remark(listener.line, "acl_file", text)

    def _finish_bridge(self, bridge: Bridge) -> None:
        path = f"{self._prefix}{bridge.name}.password" if self._prefix else ""
        session = self._result.tables.get("session", {})
        rules = bool(self._result.authorization)
        table = bridge.finish(path, bool(session.get("queue_qos0")), rules)
        if table is not None:
            self._result.bridges.append(table)
        if table is not None and "password_file" in table:
            self._result.passwords[path] = bridge.password
        self._result.report += bridge.report

    @staticmethod
    def _names(listener: _Listener) -> list[str]:
        return [key for part in listener.parts.values() for key in part]

    def _finished(self, listener: _Listener, local_only: bool) -> Table:
        if local_only:
            listener.address = "127.0.0.1"
        own = {**self._common, **listener.parts.pop("", {})}
        # Without any listener mosquitto serves this machine, and asks nobody.
        unsaid = local_only and not self._passwords
        anonymous = own.pop("allow_anonymous", unsaid)
        if self._apart and self._passwords:
            own.setdefault("authentication", [])
        mount_point = own.get("mount_point", "")
        if mount_point and not mount_point.endswith("/"):
            own["mount_point"] = mount_point + "/"
            text = f"a topic t that was {mount_point}t is {mount_point}/t now"
            self._remark(listener.line, "mount_point", text)
        table: Table = {"endpoint": listener.endpoint, "allow_anonymous": anonymous, **own}
        self._finish_tls(listener)
        table.update({part: keys for part, keys in listener.parts.items() if keys})
        return table

    def _finish_tls(self, listener: _Listener) -> None:
        tls = listener.parts.get("tls")
        if tls is None:
            return
        if "certificate" not in tls:
            del listener.parts["tls"]
            self._remark(listener.line, "certfile", "there is none: this listener has no TLS")
            return
        if listener.require_certificate:
            tls["client_certificate"] = "required"
            if listener.identity:
                tls["identity"] = listener.identity
            return
        # mosquitto asks nobody for a certificate then, and needs no authority.
        for key in ("client_authorities", "revocation_list"):
            tls.pop(key, None)
