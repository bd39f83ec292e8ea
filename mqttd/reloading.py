"""New settings for a daemon that runs: what can be taken over, and what needs a restart.

The service calls ``take_over`` on SIGHUP and when an operator changes something. It
tells each part of the daemon what is new; how a part does that is its own affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, fields
from twisted.logger import Logger

from mqttd.access import Changed
from mqttd.access.build import ban_file, change
from mqttd.config import ConfigError
from mqttd.listeners import Reloaded
from mqttd.settings import BrokerSettings

if TYPE_CHECKING:
    from mqttd.service import MQTTBroker

log = Logger()

#: Settings that the broker takes over while it runs; others need a restart.
#: ``protocol``, ``session`` and ``limits`` work through the listeners.
CHANGEABLE = frozenset(
    {
        "protocol",
        "session",
        "limits",
        "shared_limits",
        "retained",
        "maximum_offline_sessions",
        "sys_interval",
        "presence",
        "share_sessions",
        "drain_timeout",
        "drain_spread",
        "authorization",
        "access",
        "abuse",
        "log_level",
        "log_levels",
        "hooks",
        "authentication",
        "listeners",
        "trace",
        "flight",
        "bridges",
    }
)


def take_over(daemon: MQTTBroker, settings: BrokerSettings) -> Reloaded:
    """Change to *settings* as far as that is possible while running.

    Certificates and revocation lists are read again. Connections keep the
    limits they began with; those of a listener that is gone stay.
    """
    try:
        daemon.check_listeners(settings)
    except ConfigError as error:
        return Reloaded(errors=tuple(error.lines()))
    different = {
        f.name: getattr(settings, f.name)
        for f in fields(BrokerSettings)
        if getattr(settings, f.name) != getattr(daemon.settings, f.name)
    }
    known = daemon.authentication.reload(settings.authentication)
    if known.refused:
        return Reloaded(errors=known.errors)
    rules, rule_errors = _change_rules(daemon, settings)
    now = {name: value for name, value in different.items() if name in CHANGEABLE}
    now.pop("bridges", None)
    if rule_errors:
        # The old rules stay in force, wherever they came from.
        now.pop("authorization", None)
        now.pop("access", None)
    later = tuple(name for name in different if name not in CHANGEABLE)
    if "abuse" in now and ban_file(settings) != ban_file(daemon.settings):
        later += ("abuse.ban_file",)
    daemon.settings = daemon.broker.settings = evolve(daemon.settings, **now)
    if "sys_interval" in now:
        daemon.admin.sys_topics.stop()
        daemon.admin.sys_topics.start()
    daemon.admission.change(daemon.settings.abuse)
    daemon.broker.retained.settings = daemon.settings.retained
    daemon.network.limits.change(daemon.settings.shared_limits)
    if "flight" in now:
        daemon.listening.record(daemon.settings.flight.size)
        daemon.admin.flights.changed()
    now.pop("listeners", None)
    now.pop("authentication", None)
    _authenticate_by(daemon, known)
    changed, errors = daemon.listening.change(daemon.settings.listeners)
    errors += daemon.reload_http_tls()
    linked, link_errors = _change_bridges(daemon, settings)
    return Reloaded(
        (*now, *known.names, *changed, *linked, *rules),
        later,
        (*known.errors, *rule_errors, *errors, *link_errors),
    )


def reread_users(daemon: MQTTBroker) -> tuple[str, ...]:
    """Read again who may connect, and end what is not vouched for; what went wrong."""
    known = daemon.authentication.reload(daemon.settings.authentication)
    if not known.refused:
        _authenticate_by(daemon, known)
    return known.errors


def _change_rules(
    daemon: MQTTBroker, settings: BrokerSettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the access rules again; what they do not allow any more ends."""
    if daemon.access is None:
        wrong = "authorization: the program's own authorizer decides"
        return (), (wrong,) * bool(settings.authorization)
    try:
        if not change(daemon.access, settings.access, settings.authorization):
            return (), ()
    except ConfigError as error:
        return (), tuple(error.lines())
    daemon.broker.rules_changed()
    return ("access rules",), ()


def _change_bridges(
    daemon: MQTTBroker, settings: BrokerSettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Last, since a bridge that begins does so by the other settings."""
    changed, errors = daemon.bridges.change(settings.bridges)
    # One that cannot be as it should is as it was.
    daemon.settings = daemon.broker.settings = evolve(
        daemon.settings, bridges=daemon.bridges.settings
    )
    return changed, errors


def _authenticate_by(daemon: MQTTBroker, changed: Changed) -> None:
    """Put what authentication is now to use, and end what it does not vouch for."""
    daemon.broker.portal = daemon.authentication.portal
    methods = (*daemon.methods, *daemon.authentication.methods)
    daemon.broker.methods = {method.name: method for method in methods}
    for source, revoked in changed.revoked.items():
        if ended := daemon.broker.revoke(source, revoked):
            log.info("{ended} connections by {source} were revoked", ended=ended, source=source)
