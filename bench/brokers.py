"""The brokers: how to find, configure, start and stop each.

Every start is a fresh process in a directory of its own, pinned to one core.
The driver calls it; it knows nothing of scenarios.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen, mutable

ROOT = Path(__file__).resolve().parent.parent
#: Where ``bench.compiled`` puts a compiled copy.
COMPILED = ROOT / "bench" / ".build" / "compiled"


class NotInstalled(Exception):
    """The broker is not here; the text says what is missing."""


@mutable
class Places:
    """Where to look for peers, beside PATH and the folder of this Python."""

    folders: list[str] = field(factory=list)
    node_modules: str = ""

    def program(self, name: str) -> str:
        """The full path of a program.

        :raise NotInstalled: when it is nowhere.
        """
        folders = [*self.folders, str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        found = shutil.which(name, path=os.pathsep.join([*folders, "/usr/sbin", "/usr/local/sbin"]))
        if found is None:
            raise NotInstalled(f"no program {name}")
        return found


@frozen
class Start:
    """What one start needs to know."""

    places: Places
    folder: Path
    port: int
    tls_port: int
    #: The PEM file of certificate and key, or None for no TLS listener.
    certificate: Path | None

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


Command = Callable[[Start], list[str]]


@frozen
class Broker:
    """A broker, or one way of running it."""

    name: str
    command: Command
    tls: bool = False
    #: Only where latency counts, unless asked for by name.
    paced_only: bool = False
    #: Only when asked for by name.
    named_only: bool = False
    version: tuple[str, ...] = ()
    #: Where its Python code is.
    root: Path = ROOT


_MQTTD_TOML = """\
[broker]
data_directory = "data"

[session]
maximum_inflight = 65535
maximum_queued_messages = 2000000
maximum_queued_bytes = "2GiB"

[retained]
maximum_messages = 2000000
maximum_bytes = "4GiB"

[[listener]]
endpoint = "tcp:{port}:interface=127.0.0.1"
allow_anonymous = true
"""

_MQTTD_TLS_TOML = """
[[listener]]
endpoint = "tcp:{tls_port}:interface=127.0.0.1"
allow_anonymous = true
[listener.tls]
certificate = "{certificate}"
"""


#: As people run it: rules for publishing, subscribing and receiving, the HTTP API
#: with its metrics, a hook on every connection.
_MQTTD_FULL_TOML = """
[http]
endpoint = "tcp:{http_port}:interface=127.0.0.1"
plain = true

[[authorization]]
type = "file"
path = "acl.toml"

[[plugin]]
use = "auto-subscribe"
subscriptions = [{{ filter = "command/%u", qos = 1 }}]
"""

_ACL_TOML = """
[[rule]]
allow = ["publish", "subscribe"]
users = ["ann", "bob", "operator"]
topics = ["plant/%u/#", "office/+/state"]

[[rule]]
deny = ["publish", "subscribe"]
topics = ["secret/#", "plant/+/secret/#"]

[[rule]]
allow = "subscribe"
addresses = ["127.0.0.0/8"]
topics = ["$SYS/#"]

[[rule]]
allow = ["publish", "subscribe"]
addresses = ["127.0.0.0/8"]
topics = ["#"]
"""


def _mqttd(*reactor: str, more: str = "") -> Command:
    """mqttd with what mosquitto is given: no limits of queues."""

    def command(start: Start) -> list[str]:
        text = (more + _MQTTD_TOML).format(port=start.port, http_port=start.port + 20)
        start.write("acl.toml", _ACL_TOML)
        if start.certificate:
            text += _MQTTD_TLS_TOML.format(tls_port=start.tls_port, certificate=start.certificate)
        path = start.write("mqttd.toml", text)
        twistd = start.places.program("twistd")
        return [twistd, "-n", "--pidfile=", *reactor, "mqttd", "--config", path]

    return command


def _compiled(*reactor: str) -> Command:
    """As people run it, compiled."""

    def command(start: Start) -> list[str]:
        if not list(COMPILED.glob("*.so")):
            raise NotInstalled("not compiled: python -m bench.compiled does it")
        return _mqttd(*reactor, more=_MQTTD_FULL_TOML)(start)

    return command


def _mqttd_default(start: Start) -> list[str]:
    endpoint = f"tcp:{start.port}:interface=127.0.0.1"
    twistd = start.places.program("twistd")
    return [twistd, "-n", "--pidfile=", "mqttd", "--listen", endpoint, "--data-dir", "data"]


def _mosquitto(*extra: str) -> Command:
    def command(start: Start) -> list[str]:
        lines = [
            "allow_anonymous true",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            *extra,
            f"listener {start.port} 127.0.0.1",
        ]
        if start.certificate:
            pem = start.certificate
            lines += [f"listener {start.tls_port} 127.0.0.1", f"certfile {pem}", f"keyfile {pem}"]
        if os.geteuid() == 0:
            # It would give up its rights before it reads the key.
            lines.insert(0, "user root")
        path = start.write("mosquitto.conf", "\n".join(lines) + "\n")
        return [start.places.program("mosquitto"), "-c", path]

    return command


def _amqtt(start: Start) -> list[str]:
    text = f"""\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{start.port}
    max_connections: 50000
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""
    return [start.places.program("amqtt"), "-c", start.write("amqtt.yaml", text)]


def _aedes(start: Start) -> list[str]:
    modules = start.places.node_modules
    if not modules or not (Path(modules) / "aedes").is_dir():
        raise NotInstalled("no aedes in --node-modules")
    script = str(Path(__file__).parent / "peers" / "aedes.mjs")
    return [start.places.program("node"), script, str(start.port), modules]


def _nats(start: Start) -> list[str]:
    text = f"""\
server_name: bench
listen: "127.0.0.1:{start.port + 20}"
jetstream {{ store_dir: "{start.folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{start.port}", max_ack_pending: 20000 }}
"""
    return [start.places.program("nats-server"), "-c", start.write("nats.conf", text)]


def _flashmq(start: Start) -> list[str]:
    text = f"""\
thread_count 1
allow_anonymous true
client_max_write_buffer_size 100000000
max_qos_msg_pending_per_client 65000
max_qos_bytes_pending_per_client 1000000000
expire_sessions_after_seconds 0
storage_dir {start.folder}
listen {{ protocol mqtt
 inet_protocol ip4
 inet4_bind_address 127.0.0.1
 port {start.port} }}
"""
    if start.certificate:
        text += f"""\
listen {{ protocol mqtt
 inet_protocol ip4
 inet4_bind_address 127.0.0.1
 port {start.tls_port}
 fullchain {start.certificate}
 privkey {start.certificate} }}
"""
    path = start.write("flashmq.conf", text)
    return [start.places.program("flashmq"), "--config-file", path]


BROKERS = [
    Broker("mqttd", _mqttd(), tls=True, version=("twistd", "mqttd", "--version")),
    Broker("mqttd-lean", _mqttd("-r", "mqttd"), tls=True, named_only=True),
    Broker("mqttd-default", _mqttd_default, named_only=True),
    Broker("mqttd-full", _mqttd(more=_MQTTD_FULL_TOML), tls=True, named_only=True),
    Broker("mqttd-full-lean", _mqttd("-r", "mqttd", more=_MQTTD_FULL_TOML), named_only=True),
    Broker("mqttd-compiled", _compiled(), tls=True, named_only=True, root=COMPILED),
    Broker("mqttd-compiled-lean", _compiled("-r", "mqttd"), named_only=True, root=COMPILED),
    Broker("mosquitto", _mosquitto(), tls=True, version=("mosquitto", "-h")),
    Broker("mosquitto-nodelay", _mosquitto("set_tcp_nodelay true"), tls=True, paced_only=True),
    Broker(
        "mosquitto-kept",
        _mosquitto("persistence true", "persistence_location ./"),
        named_only=True,
    ),
    Broker("flashmq", _flashmq, tls=True, version=("flashmq", "--version")),
    Broker("nats", _nats, version=("nats-server", "--version")),
    Broker("aedes", _aedes),
    Broker("amqtt", _amqtt, version=("amqtt", "--version")),
]


def versions(brokers: list[Broker], places: Places) -> dict[str, str]:
    """The first line that each broker says of itself."""
    found = {}
    for broker in brokers:
        if not broker.version:
            continue
        try:
            command = [places.program(broker.version[0]), *broker.version[1:]]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=20, env=_environment()
            )
        except (NotInstalled, subprocess.TimeoutExpired, OSError):
            continue
        lines = (done.stdout or done.stderr).strip().splitlines()
        found[broker.name] = lines[0] if lines else ""
    return found


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost, RSA 2048, key and all in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), address]), False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "localhost.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + pem)
    path.chmod(0o644)
    return path


def _environment(root: Path = ROOT) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "GOMAXPROCS": "1"}


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise NotInstalled("does not start: " + " | ".join(last))
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NotInstalled(f"not listening after {seconds:.0f} s")


@contextmanager
def running(broker: Broker, start: Start, cpu: int | None) -> Iterator[int]:
    """Start the broker and give its process id; stop it at the end.

    :raise NotInstalled: when it is missing or does not start.
    """
    pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
    log = start.folder / "log"
    command = [*pin, *broker.command(start)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=start.folder,
            env=_environment(broker.root),
        )
    try:
        _wait_for(start.port, process, log, 20)
        if start.certificate:
            _wait_for(start.tls_port, process, log, 20)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
