"""Auto-subscribe: what a client gets without asking, and what not."""

from __future__ import annotations

import pytest

from mqttd.hooks.auto_subscribe import AutoSubscribe, AutoSubscribeSettings, AutoSubscription
from mqttd.interfaces import SUBSCRIBE
from mqttd.settings import SettingError
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import Puback, Publish
from tests.broker.doubles import Rules
from tests.hooks.conftest import Use


def auto(*filters: str) -> AutoSubscribe:
    return AutoSubscribe(AutoSubscribeSettings(tuple(AutoSubscription(f, 1) for f in filters)))


def filters(virtual: VirtualBroker, client_id: str) -> list[str]:
    session = virtual.broker.sessions.get(client_id)
    assert session is not None
    return list(session.subscriptions)


def test_a_client_gets_messages_that_it_did_not_ask_for(use: Use) -> None:
    virtual = use(auto("command/%c", "all"))
    client = virtual.connect("x")
    virtual.publish("command/x", b"1", 1)
    virtual.publish("command/y", b"2", 1)
    assert client.expect(Publish).payload == b"1"
    client.send(Puback(1))
    client.expect_nothing()


def test_what_is_retained_comes_once(use: Use) -> None:
    virtual = use(auto("all"))
    virtual.publish("all", b"1", retain=True)
    assert len(virtual.connect("x", session_expiry_interval=9).messages()) == 1
    again = virtual.connect("x", clean_start=False, session_expiry_interval=9)
    assert [m.dup for m in again.messages()] in ([], [True])


@pytest.mark.parametrize("name", ["a/b", "+", "#", "a+"])
def test_a_name_can_not_widen_a_filter(use: Use, name: str) -> None:
    virtual = use(auto("command/%c", "user/%u", "all"))
    virtual.connect(name)
    assert filters(virtual, name) == ["all"]


def test_the_user_name_is_put_in(use: Use) -> None:
    virtual = use(auto("user/%u", "%u"))
    virtual.connect("x", user_name="alice", password=b"")
    assert filters(virtual, "x") == ["user/alice", "alice"]
    virtual.connect("y", user_name="$SYS", password=b"")
    assert filters(virtual, "y") == ["user/$SYS"]
    virtual.connect("z")
    assert filters(virtual, "z") == []


def test_only_what_the_client_may(use: Use) -> None:
    virtual = use(auto("secret", "open"), authorizer=Rules((SUBSCRIBE, "secret")))
    virtual.connect("x")
    assert filters(virtual, "x") == ["open"]


def test_no_local_is_not_for_shared_subscriptions() -> None:
    with pytest.raises(SettingError, match="no_local"):
        AutoSubscription("$share/g/t", no_local=True)
