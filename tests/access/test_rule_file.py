from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from mqttd.access.rule_file import load_rules, parse_rules
from mqttd.access.rules import RuleSet
from mqttd.config import ConfigError
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE
from tests.access.support import ask
from tests.certificates import Authority, common_name

ETC = Path(__file__).parent.parent.parent / "etc"


def allows(rules: RuleSet, topic: str, action: str = PUBLISH, **fields: Any) -> bool:
    decision = rules.decide(ask(topic, action, **fields))
    return decision is not None and decision.allowed


def rule(text: str) -> RuleSet:
    return parse_rules("[[rule]]\n" + text, "acl.toml")


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_rules(text, "acl.toml")
    return caught.value.lines()


def test_the_first_rule_that_fits_decides_and_is_named() -> None:
    rules = parse_rules(
        """
        [[rule]]
        name = "keep out"
        deny = "publish"
        topics = ["a/secret"]
        [[rule]]
        allow = "publish"
        topics = ["a/#"]
        """,
        "acl.toml",
    )
    denied, allowed, other = (rules.decide(ask(topic)) for topic in ("a/secret", "a/b", "b"))
    assert denied is not None
    assert (denied.allowed, denied.by) == (False, "rule 1 'keep out' of acl.toml")
    assert allowed is not None
    assert (allowed.allowed, allowed.by) == (True, "rule 2 of acl.toml")
    assert other is None


def test_who_may_subscribe_may_receive_what_the_filter_matches() -> None:
    rules = rule('allow = "subscribe"\ntopics = ["a/+"]')
    assert allows(rules, "a/+", SUBSCRIBE)
    assert allows(rules, "a/b", RECEIVE)
    assert not allows(rules, "a/#", SUBSCRIBE)
    assert not allows(rules, "a/b/c", RECEIVE)
    assert not allows(rules, "a/b", PUBLISH)


def test_a_denied_topic_denies_every_filter_that_would_bring_it() -> None:
    rules = parse_rules(
        """
        [[rule]]
        deny = "subscribe"
        topics = ["a/secret/#"]
        [[rule]]
        allow = "all"
        topics = ["#"]
        """
    )
    for topic_filter in ("#", "a/#", "+/secret", "a/+/x", "a/secret"):
        assert not allows(rules, topic_filter, SUBSCRIBE)
    assert allows(rules, "a/+", SUBSCRIBE) is False
    assert allows(rules, "b/#", SUBSCRIBE)
    assert not allows(rules, "a/secret/x", RECEIVE)


def test_receiving_can_be_denied_alone() -> None:
    rules = parse_rules(
        """
        [[rule]]
        deny = "receive"
        topics = ["a/secret"]
        [[rule]]
        allow = "subscribe"
        topics = ["#"]
        """
    )
    assert allows(rules, "#", SUBSCRIBE)
    assert allows(rules, "a/b", RECEIVE)
    assert not allows(rules, "a/secret", RECEIVE)


CERTIFICATE = Authority().issue(common_name("sensor-1")).certificate
FINGERPRINT = CERTIFICATE.fingerprint(SHA256())


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ('users = ["alice", "bob"]', [{}, {"user": "bob"}], [{"user": "eve"}, {"user": None}]),
        ('users = "alice"', [{}], [{"user": "Alice"}]),
        ('clients = ["c1"]', [{}], [{"client_id": "c2"}]),
        (
            'groups = ["ops"]',
            [{"claims": {"groups": ["ops"]}}],
            [{}, {"claims": {"groups": "ops"}}],
        ),
        (
            'claims = { role = "admin" }',
            [{"claims": {"role": "admin"}}, {"claims": {"role": ["x", "admin"]}}],
            [{}, {"claims": {"role": "user"}}, {"claims": {"role": None}}],
        ),
        (
            "claims = { level = [1, 2] }",
            [{"claims": {"level": 2}}],
            [{"claims": {"level": 3}}, {"claims": {"level": True}}, {"claims": {"level": "1"}}],
        ),
        (
            'addresses = ["10.0.0.0/8", "2001:db8::/32"]',
            [{"address": "10.1.2.3"}, {"address": "2001:db8::1"}, {"address": "::ffff:10.1.2.3"}],
            [{}, {"address": "unix"}, {"address": "2001:db9::1"}],
        ),
        ('listeners = ["tls"]', [{"listener": "tls"}], [{}]),
        ("authenticated = true", [{}], [{"user": None}]),
        ("authenticated = false", [{"user": None}], [{}]),
        ('certificates = ["any"]', [{"certificate": CERTIFICATE}], [{}]),
        ('certificates = ["cn:sensor-1"]', [{"certificate": CERTIFICATE}], [{}]),
        ('certificates = ["cn:sensor-2"]', [], [{"certificate": CERTIFICATE}]),
        ('certificates = ["dn:CN=sensor-1"]', [{"certificate": CERTIFICATE}], [{}]),
        pytest.param(
            f'certificates = ["sha256:{FINGERPRINT.hex()}"]',
            [{"certificate": CERTIFICATE}],
            [{}],
            id="fingerprint",  # another one in each run
        ),
        ("qos = [0, 1]", [{}, {"qos": 1}], [{"qos": 2}]),
        ("qos = 2", [{"qos": 2}], [{"qos": 1}]),
        ("retain = false", [{}], [{"retain": True}]),
        ("retain = true", [{"retain": True}], [{}]),
        (
            'users = ["alice"]\nclients = ["c1"]',
            [{}],
            [{"client_id": "c2"}, {"user": "bob"}],
        ),
    ],
)
def test_conditions(condition: str, yes: list[dict[str, Any]], no: list[dict[str, Any]]) -> None:
    rules = rule(f'allow = "publish"\ntopics = ["t"]\n{condition}')
    assert all(allows(rules, "t", **fields) for fields in yes)
    assert not any(allows(rules, "t", **fields) for fields in no)


def test_groups_of_the_file_and_superusers() -> None:
    rules = parse_rules(
        """
        superusers = ["root"]
        [groups]
        ops = ["alice", "bob"]
        night = ["bob"]
        [[rule]]
        allow = "publish"
        topics = ["n"]
        groups = ["night"]
        """
    )
    assert allows(rules, "n", user="bob")
    assert not allows(rules, "n", user="alice")
    for action in (PUBLISH, SUBSCRIBE, RECEIVE):
        assert allows(rules, "$SYS/#", action, user="root")


def test_a_name_in_a_denial_that_can_not_be_used_denies_for_every_name() -> None:
    rules = parse_rules(
        """
        [[rule]]
        deny = "subscribe"
        topics = ["private/%c"]
        [[rule]]
        allow = "subscribe"
        topics = ["#"]
        """
    )
    assert allows(rules, "private/c2", RECEIVE)
    assert not allows(rules, "private/c1", RECEIVE)
    assert not allows(rules, "private/c2", RECEIVE, client_id="c/1")


def test_rules_of_many_users_keep_their_order() -> None:
    text = "".join(
        f'[[rule]]\nallow = "publish"\nusers = ["u{n}"]\ntopics = ["t/{n}"]\n'
        f'[[rule]]\ndeny = "publish"\ntopics = ["x/{n}"]\n'
        for n in range(200)
    )
    rules = parse_rules(text + '[[rule]]\nallow = "all"\nusers = ["u7"]\ntopics = ["x/#"]')
    assert allows(rules, "t/7", user="u7")
    assert not allows(rules, "t/8", user="u7")
    assert not allows(rules, "x/3", user="u7")
    assert allows(rules, "x/other", user="u7")
    assert not allows(rules, "x/other", user="u8")


def test_the_example_says_what_it_seems_to_say() -> None:
    rules = load_rules(str(ETC / "acl.toml"))
    assert allows(rules, "devices/d1/state", user="d1", client_id="d1")
    assert not allows(rules, "devices/d2/state", user="d1", client_id="d1")
    assert not allows(rules, "devices/d2/state", user=None, client_id="d2")
    assert allows(rules, "devices/d1/commands/#", SUBSCRIBE, user="d1", client_id="d1")
    assert allows(rules, "devices/d1/commands/reboot")
    assert not allows(rules, "devices/#", SUBSCRIBE)
    assert not allows(rules, "devices/d1/secrets/key", RECEIVE)
    assert allows(rules, "devices/d1/state", RECEIVE)
    assert allows(rules, "$SYS/#", SUBSCRIBE, user=None, address="127.0.0.1")
    assert not allows(rules, "$SYS/#", SUBSCRIBE, user=None)
    assert allows(rules, "anything", user="admin")


# --- files that are wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "acl.toml: has no [[rule]]: it would deny everything"),
        ("rule = 1", "acl.toml: rule: must be written as [[rule]], once for each"),
        ("[[rule]\nallow", "acl.toml: is not TOML: "),
        ("[[rules]]", 'acl.toml: rules: unknown; did you mean "rule"?'),
        ('[[rule]]\ntopics = ["a"]', "acl.toml: rule[1]: must say either allow or deny"),
        ('[[rule]]\nallow = "all"', "acl.toml: rule[1].topics: must be a list of topic filters"),
        ('[[rule]]\nallow = "read"\ntopics = ["a"]', "acl.toml: rule[1].allow = 'read': must be "),
        ('[[rule]]\nallow = []\ntopics = ["a"]', "acl.toml: rule[1].allow = []: must be "),
        ('[[rule]]\nallow = "all"\ndeny = "all"\ntopics = ["a"]', "acl.toml: rule[1]: must say "),
        ('[[rule]]\nallow = "all"\ntopics = ["a/#/b"]', "acl.toml: rule[1].topics = 'a/#/b': "),
        ('[[rule]]\nallow = "all"\ntopics = ["%x"]', "acl.toml: rule[1].topics = '%x': %x is no "),
        ('[[rule]]\nallow = "all"\ntopics = []', "acl.toml: rule[1].topics: must be a list"),
        ("users = []", "rule[1].users = []: must be a list of names, none of them empty"),
        ('users = [""]', "rule[1].users = ['']: must be a list of names"),
        ("user = ['a']", 'rule[1].user: unknown; did you mean "users"?'),
        ('addresses = ["10.0.0.1/8"]', "rule[1].addresses = '10.0.0.1/8': must be an address"),
        ('certificates = ["x"]', "rule[1].certificates = 'x': must be a list of"),
        ("qos = [3]", "rule[1].qos = [3]: must be a list of 0, 1 and 2"),
        ("qos = []", "rule[1].qos = []: must be a list of 0, 1 and 2"),
        ('retain = "yes"', "rule[1].retain = 'yes': must be true or false"),
        ("retain = true", "rule[1].retain: a subscription has none; say receive or publish"),
        ("claims = { a = 1.5 }", "rule[1].claims.a: must be a text, a whole number"),
        ("claims = { a = [] }", "rule[1].claims.a: must be a text, a whole number"),
        ("claims = {}", "rule[1].claims: must be a table of claims and their values"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    if message.startswith("rule"):
        text = f'[[rule]]\nallow = "subscribe"\ntopics = ["a"]\n{text}'
        message = f"acl.toml: {message}"
    (line,) = errors(text)
    assert line.startswith(message)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    lines = errors('[groups]\na = []\n[[rule]]\nallow = "x"\ntopics = ["a"]\nqos = 5\nfoo = 1')
    assert len(lines) == 4


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe"])
def test_a_file_that_is_missing_empty_or_no_text(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "acl.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read|is empty"):
        load_rules(str(path))
