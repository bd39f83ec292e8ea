"""Databases and directories for tests: real ones, on free ports, gone afterwards.

Each function starts one, fills it with the same user ann whose password is
"secret", and gives back a ``Server`` with what a client must know. They keep
their files in memory where the system has a place for that, which makes them
start in a fraction of the time. Where a program is missing there is no test.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import Any

import psycopg
import pymysql  # type: ignore[import-untyped]
from attrs import define
from pymysql.constants.CLIENT import MULTI_STATEMENTS  # type: ignore[import-untyped]

from tests.conftest import find_program
from tests.end_to_end.daemon import PATIENCE, free_port

USER, PASSWORD = "ann", "secret"
#: Cheap to compute: these tests are about servers.
HASH = (
    "$7$101$/86a8Rc1bWwQdaCb$nKGA+r3qMxucrYCQxLELQSkGXX3ksWQog1sydJheI/DXEoJjSQU+OyFqU3kxRALR"
    "IvfeEd+3SJN3OzDbldvx8w=="
)
#: What stands in the way of whoever builds statements from text.
TRICKY = "o'brien; DROP TABLE users; --"

TABLE = """
CREATE TABLE users (name varchar(255) PRIMARY KEY, password text, superuser int, team text);
INSERT INTO users VALUES ('ann', '{hash}', 1, 'blue'), ('{tricky}', '{hash}', 0, 'red'),
    ('unset', NULL, 0, 'red'), ('clear', 'secret', 0, 'red');
"""


@define
class Server:
    """A running server."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    #: Another port of it, with TLS.
    secure_port: int = 0
    #: PEM file of the authority that has signed its certificate.
    authority: str = ""
    #: To PostgreSQL, SIGTERM means to wait for its clients.
    ending: int = signal.SIGTERM

    def stop(self) -> None:
        """End it, whatever it does; a server that has ended may be stopped."""
        self.process.send_signal(self.ending)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def statements() -> str:
    return TABLE.format(hash=HASH, tricky=TRICKY.replace("'", "''"))


@contextmanager
def _folder(owner: str = "") -> Iterator[Path]:
    memory = "/dev/shm"
    where = memory if os.access(memory, os.W_OK) else None
    path = tempfile.mkdtemp(prefix="mqttd-", dir=where)
    if owner:
        shutil.chown(path, owner)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _unprivileged(name: str) -> str:
    """The user to run as: servers refuse to be root's."""
    if os.getuid():
        return ""
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        return "nobody"


def _until(is_up: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_up():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((server.folder / "log").read_text()[-4000:])
        time.sleep(0.02)


@contextmanager
def _running(folder: Path, port: int, *command: str, user: str = "") -> Iterator[Server]:
    more: dict[str, Any] = {"user": user, "extra_groups": []} if user else {}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more
        )
    server = Server(port, folder, process)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def postgresql() -> Iterator[Server]:
    places = sorted(glob("/usr/lib/postgresql/*/bin/initdb"))
    initdb = places[-1] if places else find_program("initdb")
    user, port = _unprivileged("postgres"), free_port()
    more: dict[str, Any] = {"user": user, "extra_groups": []} if user else {}
    with _folder(user) as folder:
        (folder / "password").write_text("db-secret")
        (folder / "password").chmod(0o644)
        options = ["--no-sync", "--no-locale", "-EUTF8", "-Umqttd", "-Ascram-sha-256"]
        command = [initdb, "-D", "data", *options, f"--pwfile={folder / 'password'}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, **more)
        server = (str(Path(initdb).with_name("postgres")), "-D", "data", "-p", str(port))
        options = ["-k", str(folder), "-h", "127.0.0.1", "-F"]
        with _running(folder, port, *server, *options, user=user) as running:
            running.ending = signal.SIGINT
            _until(lambda: _postgresql(port, statements()), running)
            yield running


def _postgresql(port: int, text: str) -> bool:
    try:
        with psycopg.connect(
            f"host=127.0.0.1 port={port} user=mqttd password=db-secret dbname=postgres"
        ) as connection:
            connection.execute(text)
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def mariadb() -> Iterator[Server]:
    install, server = find_program("mariadb-install-db"), find_program("mariadbd")
    user, port = _unprivileged("mysql"), free_port()
    more: dict[str, Any] = {"user": user, "extra_groups": []} if user else {}
    small = ["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0"]
    with _folder(user) as folder:
        data = f"--datadir={folder / 'data'}"
        options = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        command = [install, *options, data, *small]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, **more)
        options = ["--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1", *small]
        where = f"--socket={folder / 'socket'}"
        pid = f"--pid-file={folder / 'pid'}"
        with _running(folder, port, server, *options, where, pid, user=user) as running:
            _until(lambda: _mariadb(folder / "socket"), running)
            yield running


def _mariadb(path: Path) -> bool:
    try:
        connection = pymysql.connect(
            unix_socket=str(path), user="root", client_flag=MULTI_STATEMENTS, autocommit=True
        )
    except pymysql.OperationalError:
        return False
    text = f"""
        CREATE DATABASE mqtt; USE mqtt; {statements()}
        CREATE USER 'mqttd'@'127.0.0.1' IDENTIFIED BY 'db-secret';
        GRANT SELECT ON mqtt.users TO 'mqttd'@'127.0.0.1';
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
        while cursor.nextset():
            pass
    return True


@contextmanager
def redis() -> Iterator[Server]:
    program, port = find_program("redis-server"), free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        _folder() as folder,
        _running(folder, port, *command, "--requirepass", "db-secret") as running,
    ):
        users = {
            USER: {"password": HASH, "superuser": "1", "groups": "staff, night"},
            TRICKY: {"password": HASH},
            "unset": {"superuser": "1"},
            "clear": {"password": "secret"},
        }
        lines = ["AUTH db-secret"]
        for name, found in users.items():
            pairs = " ".join(f'{field} "{value}"' for field, value in found.items())
            lines.append(f'HSET "mqtt_user:{name}" {pairs}')
        lines.append('SET "mqtt_user:text" x')
        _until(lambda: _redis(port, lines), running)
        yield running


def _redis(port: int, lines: list[str]) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall("\r\n".join([*lines, "QUIT", ""]).encode())
        answer = b""
        while piece := stream.recv(4096):
            answer += piece
        assert b"-" not in answer, answer
        return True
    return False


@contextmanager
def directory(certificate: tuple[Path, Path], authority: Path) -> Iterator[Server]:
    """slapd, by LDAP and on its ``secure_port`` by LDAPS."""
    program, add = find_program("slapd"), find_program("slapadd")
    port, secure = free_port(), free_port()
    with _folder() as folder:
        (folder / "data").mkdir()
        (folder / "conf").write_text(
            SLAPD.format(folder=folder, certificate=certificate, authority=authority)
        )
        (folder / "entries").write_text(ENTRIES)
        files = ["-f", str(folder / "conf")]
        filling = [add, *files, "-q", "-l", str(folder / "entries")]
        subprocess.run(filling, check=True, capture_output=True)
        urls = f"ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{secure}/"
        with _running(folder, port, program, *files, "-h", urls, "-d", "0") as running:
            _until(lambda: _answers(secure), running)
            running.secure_port = secure
            yield running


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


SLAPD = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/pid
TLSCACertificateFile {authority}
TLSCertificateFile {certificate[0]}
TLSCertificateKeyFile {certificate[1]}
database mdb
maxsize 1048576
suffix "dc=example,dc=org"
rootdn "cn=admin,dc=example,dc=org"
rootpw admin-secret
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=admin,dc=example,dc=org" read by users read by anonymous none
"""

ENTRIES = """
dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: uid=ann,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: ann
cn: Ann
sn: Ann
ou: staff
ou: night
userPassword: secret

dn: uid=a\\2Bb\\2Cc\\28d\\29,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: a+b,c(d)
cn: Tricky
sn: Tricky
userPassword: secret
"""
