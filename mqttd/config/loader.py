"""Finds, reads and completes the configuration.

``tap.py`` and embedding programs call it; the result is plain ``settings``.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import evolve

from mqttd.config.endpoints import is_local, is_tls
from mqttd.config.errors import ConfigError, Problem
from mqttd.config.structure import Reader
from mqttd.settings import (
    BrokerSettings,
    ClientCertificate,
    Identity,
    ListenerSettings,
    TLSSettings,
)

#: What is listened on when nothing is said; the second where there is IPv6.
DEFAULT_ENDPOINTS = ("tcp:1883:interface=127.0.0.1", r"tcp6:1883:interface=\:\:1")

#: Names the file when the command line does not.
VARIABLE = "MQTTD_CONFIG"


def find_config(environment: Mapping[str, str] | None = None) -> Path | None:
    """The first file of the search order that exists.

    ``$MQTTD_CONFIG`` (which must exist), ``$XDG_CONFIG_HOME/mqttd/mqttd.toml``,
    ``/etc/mqttd/mqttd.toml``.
    """
    environment = os.environ if environment is None else environment
    if named := environment.get(VARIABLE):
        return Path(named)
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(
        environment.get("HOME", "/nonexistent"), ".config"
    )
    candidates = (Path(home, "mqttd", "mqttd.toml"), Path("/etc/mqttd/mqttd.toml"))
    return next((path for path in candidates if path.is_file()), None)


def load_settings(
    path: str | Path | None = None,
    *,
    endpoints: Iterable[str] = (),
    authenticated: bool = False,
) -> BrokerSettings:
    """The settings in the file at *path*; without one, the defaults.

    :param endpoints: listeners besides those of the file.
    :param authenticated: checkers are known from elsewhere.
    :raise ConfigError: with everything that is wrong.
    """
    if path is None:
        return parse_settings("", endpoints=endpoints, authenticated=authenticated)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(str(path), [Problem((), f"cannot be read: {reason}")]) from None
    return parse_settings(text, str(path), endpoints=endpoints, authenticated=authenticated)


def parse_settings(
    text: str,
    source: str = "configuration",
    *,
    endpoints: Iterable[str] = (),
    authenticated: bool = False,
) -> BrokerSettings:
    """As ``load_settings``, from TOML *text*; *source* names it in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [Problem((), f"is not TOML: {error}")]) from None
    reader = Reader()
    settings, said = reader.read(document)
    if reader.problems:
        raise ConfigError(source, reader.problems)
    authenticated = authenticated or bool(settings.authentication)
    listeners = [
        listener if told else _with_default_access(listener, authenticated)
        for listener, told in zip(settings.listeners, said, strict=True)
    ]
    listeners += [
        make_listener(endpoint, settings, authenticated)
        for endpoint in endpoints or (() if listeners else default_endpoints())
    ]
    return evolve(settings, listeners=tuple(listeners))


def make_listener(
    endpoint: str, settings: BrokerSettings, authenticated: bool = False
) -> ListenerSettings:
    """A listener on *endpoint* with what *settings* say for all."""
    listener = ListenerSettings(
        endpoint, protocol=settings.protocol, session=settings.session, limits=settings.limits
    )
    return _with_default_access(listener, authenticated)


def default_endpoints() -> tuple[str, ...]:
    return DEFAULT_ENDPOINTS if _has_ipv6_loopback() else DEFAULT_ENDPOINTS[:1]


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _with_default_access(listener: ListenerSettings, authenticated: bool) -> ListenerSettings:
    """Where nothing says who may connect, this machine's own clients may."""
    anonymous = is_local(listener.endpoint) and not authenticated
    return evolve(listener, allow_anonymous=anonymous and not _proves_identity(listener.tls))


def _proves_identity(tls: TLSSettings | None) -> bool:
    return (
        tls is not None
        and tls.client_certificate is ClientCertificate.REQUIRED
        and tls.identity is not Identity.NONE
    )


def check_listeners(listeners: Iterable[ListenerSettings], authenticated: bool) -> None:
    """Refuse listeners that anyone, or nobody, could use by oversight.

    :raise ConfigError: that says what to write.
    """
    problems = []
    for index, listener in enumerate(listeners):
        if listener.tls is not None and is_tls(listener.endpoint):
            text = f" {listener.endpoint!r} is TLS already: use tcp: or leave [listener.tls] out"
            problems.append(Problem(("listener", index), text))
        asked = authenticated and bool(listener.authentication)
        if not (asked or listener.allow_anonymous or _proves_identity(listener.tls)):
            problems.append(Problem(("listener", index), _unguarded(listener)))
    if problems:
        raise ConfigError("mqttd", problems)


def _unguarded(listener: ListenerSettings) -> str:
    reach = "nobody could connect" if is_local(listener.endpoint) else "is reachable from outside"
    return (
        f" {listener.endpoint!r} {reach} and nothing says who may connect: name a checker "
        "(--auth file:PATH, or a table [[authentication]]), ask for client "
        "certificates (client_certificate and identity in [listener.tls]), or let anyone in "
        "(--allow-anonymous, or allow_anonymous = true in its [[listener]])"
    )
