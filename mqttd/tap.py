"""The twistd entry: command line in, service out.

``twisted/plugins/mqttd_plugin.py`` names this module to ``twistd`` and
``twist``. It is the only one that may import the reactor, and does so when a
service is made, never on import.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Any, NoReturn

from attrs import evolve
from twisted.copyright import version as twisted_version
from twisted.cred.strcred import AuthOptionMixin
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogBeginner
from twisted.python import usage

import mqttd
from mqttd.access.build import Surroundings, make_sources
from mqttd.config import (
    ConfigError,
    Problem,
    check_listeners,
    find_config,
    load_settings,
    render_settings,
)
from mqttd.log import LogControl
from mqttd.paths import control_socket
from mqttd.settings import LOG_LEVELS, OWN_SITE, BrokerSettings
from mqttd.store.directory import default_directory
from mqttd.systemd import Supervisor

#: Said of an endpoint ``systemd:``.
NO_SOCKET = (
    "systemd handed over no such socket: its unit, whose FileDescriptorName= is the name, "
    "must be started before mqttd (systemctl start mqttd.socket)"
)


class Options(usage.Options, AuthOptionMixin):
    """What ``twistd mqttd`` understands."""

    synopsis = "[options]"
    longdesc = (
        "An MQTT 3.1, 3.1.1 and 5.0 broker. Without a configuration it listens "
        "on the loopback interface, port 1883, and lets anyone in there."
    )
    optFlags = [  # noqa: RUF012
        ["allow-anonymous", None, "Let clients in without a user name, on every listener."],
        ["check-config", None, "Print the settings in force and exit; 1 if they are wrong."],
    ]
    optParameters = [  # noqa: RUF012
        ["config", "c", None, "Configuration file (TOML); see $MQTTD_CONFIG and etc/mqttd.toml."],
        ["data-dir", None, None, "Directory of the store; else $STATE_DIRECTORY or your own."],
        ["log-level", None, None, f"One of {', '.join(LOG_LEVELS)}."],
        ["log-format", None, None, "text or json."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self["credCheckers"] = []
        self.settings = BrokerSettings()
        self.checkers: list[Any] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this endpoint, such as tcp:1883; may be repeated."""
        self["listen"].append(endpoint)

    def opt_version(self) -> NoReturn:
        """Show the version and exit."""
        how = "compiled" if mqttd.__compiled__ else "pure Python"
        print(f"mqttd {mqttd.__version__} ({how}, Twisted {twisted_version})")
        sys.exit(0)

    def postOptions(self) -> None:
        """Read and check everything, so that a mistake shows before the start."""
        self._check_choice("log-level", LOG_LEVELS)
        self._check_choice("log-format", ("text", "json"))
        try:
            self.settings = self.load()
            self._check_endpoints()
            self.checkers = list(self["credCheckers"])
            self._check_authentication()
            self._check_rules()
            if self["check-config"]:
                self._check_certificates()
        except ConfigError as error:
            # Not a UsageError: the lines matter, and not the whole help text.
            print("\n".join(error.lines()), file=sys.stderr)
            sys.exit(1)
        if self["check-config"]:
            print(render_settings(self.settings), end="")
            sys.exit(0)
        if self["config"]:
            # twistd changes its directory before a reload can come.
            self["config"] = os.path.abspath(self["config"])

    def _check_choice(self, option: str, words: tuple[str, ...]) -> None:
        if self[option] is not None and self[option] not in words:
            raise usage.UsageError(f"--{option} {self[option]}: one of {', '.join(words)}")

    def load(self) -> BrokerSettings:
        """The settings that the file and the command line make together.

        :raise ConfigError: when they are wrong.
        """
        path = self["config"] or find_config()
        listen = self["listen"]
        settings = load_settings(path, endpoints=listen, authenticated=bool(self["credCheckers"]))
        if self["allow-anonymous"]:
            open_to_all = [evolve(each, allow_anonymous=True) for each in settings.listeners]
            settings = evolve(settings, listeners=tuple(open_to_all))
        settings = evolve(
            settings,
            log_level=self["log-level"] or settings.log_level,
            log_format=self["log-format"] or settings.log_format,
            # twistd changes its directory, so that the name must be whole.
            data_directory=os.path.abspath(
                self["data-dir"] or settings.data_directory or default_directory()
            ),
        )
        check_listeners(settings.listeners, bool(self["credCheckers"] or settings.authentication))
        return settings

    def _check_endpoints(self) -> None:
        from twisted.internet import reactor

        problems = []
        for index, listener in enumerate(self.settings.listeners):
            try:
                if listener.endpoint == OWN_SITE and self.settings.http.endpoint:
                    continue
                if listener.endpoint.startswith("site:"):
                    raise ValueError(f"{OWN_SITE} is there, if [http] has an endpoint")
                serverFromString(reactor, listener.endpoint)
            except LookupError:
                # Sockets of systemd are there in the service only, not where a person checks.
                if not self["check-config"]:
                    text = f" {listener.endpoint!r}: {NO_SOCKET}"
                    problems.append(Problem(("listener", index), text))
            except Exception as error:
                text = f" bad endpoint {listener.endpoint!r}: {error}"
                problems.append(Problem(("listener", index), text))
        if problems:
            raise ConfigError("mqttd", problems)

    def _check_authentication(self) -> None:
        """Read the files and find the libraries that authenticators need."""
        from twisted.internet import reactor

        from mqttd.access import Authentication, AuthenticationError

        try:
            Authentication(reactor, self.settings, seconds=time.monotonic)
        except AuthenticationError as error:
            raise ConfigError("mqttd", [Problem((), str(error))]) from None

    def _check_rules(self) -> None:
        from twisted.internet import reactor

        around = Surroundings(reactor, time.monotonic, 0.0)
        make_sources(self.settings.authorization, around)

    def _check_certificates(self) -> None:
        from mqttd.net.tls import ServerTLS

        problems = []
        for index, listener in enumerate(self.settings.listeners):
            try:
                if listener.tls is not None:
                    ServerTLS(listener.tls)
            except (OSError, ValueError) as error:
                problems.append(Problem(("listener", index, "tls"), f": {error}"))
        if problems:
            raise ConfigError("mqttd", problems)


def makeService(options: Options) -> Any:
    """The service that twistd runs."""
    from twisted.internet import reactor

    from mqttd.service import MQTTBroker

    logs = LogControl()

    def take_log_settings(settings: BrokerSettings) -> BrokerSettings:
        logs.apply(settings.log_level, settings.log_levels, settings.log_format)
        return settings

    take_log_settings(options.settings)
    logs.attach(globalLogBeginner)
    _tell_start_errors_in_one_line()
    broker = MQTTBroker(
        reactor,
        options.settings,
        checkers=options.checkers,
        reload=lambda: take_log_settings(options.load()),
        supervisor=Supervisor(),
        control_socket=str(control_socket(options.settings.data_directory)),
    )
    broker.on_start_failure = lambda error: reactor.stop()
    return broker


def _tell_start_errors_in_one_line() -> None:
    """A port in use is the operator's matter: no traceback for it."""
    from mqttd.service import StartError

    previous = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, (StartError, ConfigError)):
            print(f"mqttd: {error}", file=sys.__stderr__)
        else:
            previous(kind, error, traceback)

    sys.excepthook = hook
