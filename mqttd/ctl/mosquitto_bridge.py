"""A ``connection`` of a mosquitto.conf (2.0) as a [[bridge]], and what has no counterpart.

``mosquitto_conf`` opens one for each ``connection`` and gives it the options that follow.
Like there, each option stands in one of the tables below, or has a method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqttd.ctl.mosquitto_values import Remark, Table, Unfit, as_flag, as_number, as_text

_VERSIONS = {"mqttv31": "3.1", "mqttv311": "3.1.1", "mqttv50": "5.0"}


def _version(value: str) -> str:
    if value not in _VERSIONS:
        raise Unfit("must be mqttv31, mqttv311 or mqttv50")
    return _VERSIONS[value]


def _start(value: str) -> str:
    if value not in ("automatic", "lazy", "once", "manual"):
        raise Unfit("must be automatic, lazy or once")
    return value


#: Option -> key, conversion.
OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bridge_alpn": ("alpn", lambda value: [value]),
    "bridge_bind_address": ("bind_address", as_text),
    "bridge_cafile": ("ca_file", as_text),
    "bridge_certfile": ("certificate", as_text),
    "bridge_keyfile": ("private_key", as_text),
    "bridge_protocol_version": ("version", _version),
    "bridge_receive_maximum": ("maximum_inflight", as_number),
    "bridge_session_expiry_interval": ("session_expiry", as_number),
    "cleansession": ("clean_start", as_flag),
    "clientid": ("client_id", as_text),
    "idle_timeout": ("idle_timeout", as_number),
    "keepalive_interval": ("keep_alive", as_number),
    "local_username": ("principal", as_text),
    "notification_topic": ("state_topic", as_text),
    "remote_clientid": ("client_id", as_text),
    "remote_username": ("user_name", as_text),
    "start_type": ("start", _start),
    "threshold": ("threshold", as_number),
    "try_private": ("bridge_bit", as_flag),
    "username": ("user_name", as_text),
}

_CIPHERS = "OpenSSL chooses among those of TLS 1.2 and 1.3"
_PSK = "no pre-shared keys: use certificates, and name the authority as ca_file"

#: Options that are heard and need nothing, or have no counterpart -> why.
WITHOUT: dict[str, str] = {
    "bridge_attempt_unsubscribe": "what a reload takes away is unsubscribed, and nothing else",
    "bridge_capath": "put the certificates into one file and name it as ca_file; until then "
    "the system's authorities are trusted",
    "bridge_ciphers": _CIPHERS,
    "bridge_ciphers_tls1.3": _CIPHERS,
    "bridge_identity": _PSK,
    "bridge_max_packet_size": "the other side says how much it takes, in MQTT 5.0; "
    "maximum_packet_size is for what comes from there",
    "bridge_max_topic_alias": "a bridge uses no topic aliases",
    "bridge_psk": _PSK,
    "bridge_reload_type": "a bridge that is changed restarts at the reload",
    "bridge_require_ocsp": "no counterpart: use certificates that do not last long",
    "bridge_tcp_keepalive": "keep_alive notices a link that is dead",
    "bridge_tcp_user_timeout": "keep_alive notices a link that is dead",
    "local_clientid": 'always "bridge:" and its name',
    "local_password": "needs none: the bridge is the broker's own, and principal is its name "
    "for the access rules",
}

#: Any of these makes the link TLS.
_TLS = ("bridge_cafile", "bridge_capath", "bridge_psk")

#: What the settings have where nothing is said, and the most they take.
_INFLIGHT, _MOST = 50, 1000

#: What a name cannot have.
_NAMES = str.maketrans("/+#\0", "----")


class Bridge:
    """One bridge in the making."""

    def __init__(self, line: int, name: str, file: str) -> None:
        """*file* is where it stands; see ``Remark``."""
        #: A part of client ids, topics and the names of files.
        self.name = name.translate(_NAMES)
        self.report: list[Remark] = []
        #: The password for the other side, which belongs into a file of its own.
        self.password = ""
        self._line = line
        self._file = file
        #: Option -> the line where it stands.
        self._lines: dict[str, int] = {}
        self._table: Table = {}
        self._topics: list[Table] = []
        self._addresses: list[tuple[str, int]] = []
        self._is_tls = self._round_robin = self._local_only = False
        self._notifies = self._outgoing_retain = True
        self._local_clean: bool | None = None
        if self.name != name:
            self._remark("connection", f"is called {self.name!r} here")

    @staticmethod
    def knows(option: str) -> bool:
        return option in OPTIONS or option in WITHOUT or option in SPECIAL

    def read(self, line: int, option: str, value: str) -> None:
        """Raises ``Unfit``."""
        self._lines[option] = line
        self._is_tls = self._is_tls or option in _TLS
        if option in OPTIONS:
            key, convert = OPTIONS[option]
            self._table[key] = convert(value)
        elif option in WITHOUT:
            self._remark(option, WITHOUT[option])
        else:
            SPECIAL[option](self, value)

    def _remark(self, option: str, said: str) -> None:
        line = self._lines.get(option, self._line)
        self.report.append(Remark(line, option, said, self._file))

    # --- options with a method of their own ---------------------------------------------------

    def _read_addresses(self, value: str) -> None:
        for each in value.split():
            host, colon, port = each.rpartition(":")
            if not colon:
                host, port = each, "1883"
            if not host or not 0 < as_number(port) < 65_536:
                raise Unfit("must be a host, or host:port")
            self._addresses.append((host.strip("[]"), as_number(port)))

    def _read_topic(self, value: str) -> None:
        words = ["" if each == '""' else each for each in value.split()]
        words += ["", "out", "0", "", ""][len(words) :]
        pattern, direction, qos, local, remote = words[:5]
        if words[5:] or direction not in ("in", "out", "both") or qos not in ("0", "1", "2"):
            raise Unfit("must be: pattern, direction, QoS, local prefix, remote prefix")
        if not pattern and not (local and remote):
            raise Unfit("must have a pattern, or both prefixes")
        self._topics.append(
            {
                "filter": pattern,
                "direction": direction,
                "qos": int(qos),
                "local_prefix": local,
                "remote_prefix": remote,
            }
        )

    def _read_password(self, value: str) -> None:
        self.password = value

    def _read_restart_timeout(self, value: str) -> None:
        first, _, last = value.partition(" ")
        self._table["retry_first"] = max(1, as_number(first))
        self._table["retry_last"] = max(self._table["retry_first"], as_number(last or first))

    def _read_round_robin(self, value: str) -> None:
        self._round_robin = as_flag(value)

    def _read_notifications(self, value: str) -> None:
        self._notifies = as_flag(value)

    def _read_local_only(self, value: str) -> None:
        self._local_only = as_flag(value)

    def _read_local_clean(self, value: str) -> None:
        self._local_clean = as_flag(value)

    def _read_outgoing_retain(self, value: str) -> None:
        self._outgoing_retain = as_flag(value)

    def _read_os_certs(self, value: str) -> None:
        self._is_tls = self._is_tls or as_flag(value)

    def _read_insecure(self, value: str) -> None:
        if as_flag(value):
            said = "no counterpart: the certificate must be for the name in addresses"
            self._remark("bridge_insecure", said)

    def _read_tls_version(self, value: str) -> None:
        if value != "tlsv1.2":
            said = "TLS 1.2 is the least, and 1.3 is used where both sides can"
            self._remark("bridge_tls_version", said)

    # --- the end ------------------------------------------------------------------------------

    def finish(self, password_file: str, queue_qos0: bool, has_rules: bool) -> Table | None:
        """The table of the bridge; None when it is none.

        :param password_file: where ``password`` is going to be written; "": nowhere.
        :param queue_qos0: what holds for all sessions.
        :param has_rules: there are access rules.
        """
        if not self._addresses:
            self._remark("connection", "has no address, and is left out")
            return None
        table: Table = {"name": self.name, "addresses": self._urls(), "version": "3.1.1"}
        table |= self._table
        self._finish_start(table)
        self._finish_login(table, password_file)
        self._finish_certificate(table)
        if self._local_clean or (self._local_clean is None and table.get("clean_start")):
            table["queue"] = "memory"
        if queue_qos0:
            table["queue_qos0"] = True
        if not self._notifies:
            table["notifications"] = "none"
        elif self._local_only:
            table["notifications"] = "local"
        if has_rules:
            self._remark(
                "connection",
                "mosquitto lets bridges do everything; here the rules of acl_file hold for "
                f"{table.get('principal', 'bridge:' + self.name)!r}: give that user what "
                "the bridge needs",
            )
        table["topics"] = [each for topic in self._topics for each in self._finish_topic(topic)]
        return table

    def _urls(self) -> list[str]:
        if len(self._addresses) > 1 and not self._round_robin:
            said = "the first address is not preferred: the next is tried after a failure, and kept"
            self._remark("round_robin", said)
        scheme = "mqtts" if self._is_tls else "mqtt"
        return [
            f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
            for host, port in self._addresses
        ]

    def _finish_start(self, table: Table) -> None:
        if table.get("start") == "lazy" and any(t["direction"] != "out" for t in self._topics):
            table["start"] = "automatic"
            self._remark("start_type", "lazy is for topics that go out only: it is automatic now")
        threshold = table.get("threshold", 0)
        if threshold > table.get("maximum_inflight", _INFLIGHT):
            table["threshold"] = table["maximum_inflight"] = min(threshold, _MOST)

    def _finish_login(self, table: Table, password_file: str) -> None:
        if not self.password:
            return
        option = "remote_password" if "remote_password" in self._lines else "password"
        if "user_name" not in table:
            self.password = ""
            self._remark(option, "there is no remote_username: it is left out")
        elif password_file:
            table["password_file"] = password_file
            said = f"is in {password_file}, which the user must be able to read that mqttd runs as"
            self._remark(option, said)
        else:
            said = "write it into a file of mode 0600 and name that as password_file"
            self._remark(option, said)

    def _finish_certificate(self, table: Table) -> None:
        if "private_key" in table and "certificate" not in table:
            del table["private_key"]
            self._remark("bridge_keyfile", "there is no bridge_certfile: it is left out")

    def _finish_topic(self, topic: Table) -> list[Table]:
        if self._outgoing_retain or topic["direction"] == "in":
            return [topic]
        out = {**topic, "direction": "out", "retain": False}
        return [out] if topic["direction"] == "out" else [out, {**topic, "direction": "in"}]


#: Options with a method of their own.
SPECIAL: dict[str, Callable[[Bridge, str], None]] = {
    "address": Bridge._read_addresses,
    "addresses": Bridge._read_addresses,
    "bridge_insecure": Bridge._read_insecure,
    "bridge_outgoing_retain": Bridge._read_outgoing_retain,
    "bridge_tls_use_os_certs": Bridge._read_os_certs,
    "bridge_tls_version": Bridge._read_tls_version,
    "local_cleansession": Bridge._read_local_clean,
    "notifications": Bridge._read_notifications,
    "notifications_local_only": Bridge._read_local_only,
    "password": Bridge._read_password,
    "remote_password": Bridge._read_password,
    "restart_timeout": Bridge._read_restart_timeout,
    "round_robin": Bridge._read_round_robin,
    "topic": Bridge._read_topic,
}
