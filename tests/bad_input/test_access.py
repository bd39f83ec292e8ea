"""Rights that end, hooks that rewrite, backends that hang, names that deceive: items
65 to 68 and 76, as far as they concern what clients may do."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogPublisher, capturedLogs, formatEvent

from mqttd.access import admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import BanList
from mqttd.access.build import FileSource
from mqttd.access.rule_file import parse_rules
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE
from mqttd.settings_access import AbuseSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Puback, Suback, Subscribe, SubscriptionRequest
from tests.bad_input.support import growth, unaffected
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker

OPEN = '[[rule]]\nallow = "all"\ntopics = ["#"]\n'
#: The witness of ``unaffected`` goes on; nobody else has rights any more.
REVOKED = '[[rule]]\nallow = "all"\ntopics = ["witness/#", "open/#"]\n'


def source(text: str) -> FileSource:
    return FileSource("acl.toml", parse_rules(text, "acl.toml"))


def ruled(text: str = OPEN) -> tuple[BareBroker, AccessControl]:
    bare = BareBroker()
    control = AccessControl(bare.clock, bare.broker.seconds, [source(text)])
    bare.broker.authorizer = control
    return bare, control


def revoke(bare: BareBroker, control: AccessControl) -> None:
    control.replace([source(REVOKED)])
    bare.broker.rules_changed()
    bare.advance()


def test_65_what_was_allowed_is_not_any_more() -> None:
    bare, control = ruled()
    with unaffected(bare):
        publisher = bare.connect("publisher")
        publisher.publish("a/retained", b"retained", 1, retain=True)
        here = bare.connect("here", session_expiry_interval=100, receive_maximum=1)
        here.subscribe("a/#", qos=1)
        here.messages()  # the retained one, unacknowledged: what follows is queued
        bare.publish("a/queued", b"queued", 1)
        away = bare.connect("away", session_expiry_interval=100)
        away.subscribe("a/#", "$share/g/a/#", "open/x", qos=2)
        away.drop()
        bare.publish("a/kept", b"kept", 2)
        revoke(bare, control)

        # Live subscriptions are gone, and so is what waited in sessions.
        assert not bare.session("here").subscriptions
        assert list(bare.session("away").subscriptions) == ["open/x"]
        bare.publish("a/live", b"live", 1)
        here.expect_nothing()
        for name in ("here", "away"):
            again = bare.connect(name, clean_start=False, session_expiry_interval=100)
            assert again.payloads() == []
            again.disconnect()
        # Retained messages of one who may not publish there any more are not sent.
        control.replace([source(REVOKED + '[[rule]]\nallow = "subscribe"\ntopics = ["a/#"]')])
        late = bare.connect("late")
        late.subscribe("a/#")
        assert late.payloads() == []
        late.disconnect()
        publisher.disconnect()


def test_66_what_a_hook_makes_of_a_topic_is_judged() -> None:
    rules = Rules((PUBLISH, "secret"), (SUBSCRIBE, "secret"))
    bare = BareBroker(authorizer=rules)

    def rewrite(message: Any, client: Any) -> Any:
        return message.changed(topic="secret") if message.topic == "innocent" else message

    def rewrite_filters(requests: list[Any], client: Any) -> Any:
        return [evolve(each, topic_filter="secret") for each in requests]

    bare.broker.hooks.add("message_publish", rewrite)
    watcher = bare.connect("watcher")
    watcher.subscribe("#", qos=1)
    client = bare.connect("c")
    client.send_publish("innocent", b"x", 1)
    assert client.expect(Puback).reason == ReasonCode.NOT_AUTHORIZED
    client.send_publish("other", b"y", 1)
    assert client.expect(Puback).reason == 0
    assert watcher.payloads() == [b"y"]
    bare.broker.hooks.add("subscribe", rewrite_filters)
    client.send(Subscribe(7, [SubscriptionRequest("innocent")]))
    assert client.expect(Suback).reasons == [ReasonCode.NOT_AUTHORIZED]
    bare.stop()


@pytest.mark.parametrize("action", [PUBLISH, SUBSCRIBE, RECEIVE])
def test_67_a_backend_that_never_answers_holds_up_nobody_else(action: str) -> None:
    rules = Rules()

    class Hung:
        epoch = 0
        checks = frozenset({action})

        def authorize(self, request: Any) -> Any:
            return Deferred() if request.client_id == "victim" else rules.authorize(request)

    bare = BareBroker(authorizer=Hung())  # type: ignore[arg-type]
    with unaffected(bare):
        victim = bare.connect("victim", session_expiry_interval=100)
        victim.send(Subscribe(7, [SubscriptionRequest("t")]))
        victim.send_publish("t", b"x", 1)
        for _ in range(1000):
            bare.publish("t", b"x" * 100, 1)
        assert bare.session("victim").queued <= bare.listener.session.maximum_queued_messages
        victim.drop()


def test_68_rules_that_cannot_be_read_leave_nothing_open() -> None:
    bare, control = ruled(REVOKED)
    with unaffected(bare):
        for text in ("", "[[rule]]", '[[rule]]\nallow = "all"\ntopics = []'):
            with pytest.raises(Exception, match=r"acl\.toml"):
                control.replace([source(text)])
        client = bare.connect("c")
        client.send_publish("t", b"x", 1)
        assert client.expect(Puback).reason == ReasonCode.NOT_AUTHORIZED
        client.disconnect()


HOSTILE = "c\r\n2026-01-01 all is well\x1b[2J<script>"


def test_76_no_name_writes_a_line_of_its_own_into_the_log() -> None:
    bare, control = ruled()
    control.replace([source(OPEN)], [source(REVOKED)])
    seconds = bare.broker.seconds
    settings = AbuseSettings(flapping_limit=3)
    admission.Admission(settings, BanList(seconds), seconds, seconds).start(bare.broker)
    with capturedLogs() as events:
        for _ in range(3):
            client = bare.connect(HOSTILE)
            client.publish("t\u0085x", b"x", 1)
            client.drop()
    lines = [formatEvent(event) for event in events]
    assert any("Shadow rules" in line for line in lines)
    assert any("is banned" in line for line in lines)
    for line in lines:
        assert line.isprintable(), line


def test_what_one_address_does_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed logins, comings and goings, from as many names as there are."""
    # What observers of the log keep of it is not the broker's memory.
    monkeypatch.setattr(admission, "log", Logger(observer=LogPublisher()))
    bare, _ = ruled()
    seconds = bare.broker.seconds
    settings = AbuseSettings(flapping_limit=2, failed_logins=2, message_quota=10)
    doors = admission.Admission(settings, BanList(seconds), seconds, seconds)
    doors.start(bare.broker)

    def trouble() -> None:
        for number in range(3000):
            doors.login_failed(f"2001:db8::{number:x}")
            doors.may_publish(None, f"2001:db8::{number:x}", 10)
            if number % 10 == 0:
                bare.connect(f"c{number % 100}").drop()

    assert growth(trouble) < 100_000
