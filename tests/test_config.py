from __future__ import annotations

import re
import textwrap
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.config import (
    ConfigError,
    check_listeners,
    find_config,
    load_settings,
    parse_settings,
    render_settings,
)
from mqttd.config.endpoints import is_local, with_backlog
from mqttd.config.values import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from mqttd.settings import (
    AbuseSettings,
    AccessSettings,
    BrokerSettings,
    ClientCertificate,
    ConnectionLimits,
    HTTPSettings,
    Identity,
    ListenerSettings,
    Overflow,
    PasswordHashing,
    ProtocolSettings,
    Rate,
    RetainedSettings,
    SessionSettings,
    SettingError,
    SharedLimits,
    TLSSettings,
    WebSocketSettings,
)
from mqttd.settings_access import (
    RULE_SOURCES,
    ClaimsSettings,
    MosquittoFileSettings,
    RedisRulesSettings,
    RuleFileSettings,
    SQLRulesSettings,
    WebRulesSettings,
)
from mqttd.settings_authentication import AUTHENTICATORS
from mqttd.settings_bridge import BridgeSettings, BridgeTopic

ETC = Path(__file__).parent.parent / "etc"


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "mqttd.toml")
    return caught.value.lines()


# --- values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604_800),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("90", 90),
        ("1h30m", 5400),
        (" 10 s ", 10),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10y", "-1s", "10s5", "1h 30", "ten", "10 s x", "1e3"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65_536),
        ("2MiB", 2_097_152),
        ("1GiB", 1 << 30),
        ("1KB", 1000),
        ("7B", 7),
        ("3MB", 3_000_000),
        ("512", 512),
        ("1_000", 1000),
        ("0.5KiB", 512),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "1TiBx", "-1", "64k", "1KiB2"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "in_bytes", "rate"),
    [
        ("100/s", False, Rate(100)),
        ("6000/m", False, Rate(100)),
        ("100/s burst 500", False, Rate(100, 500)),
        ("10KiB/s burst 100KiB", True, Rate(10_240, 102_400)),
        ("0.5/s", False, Rate(0.5)),
    ],
)
def test_rates_are_read(text: str, in_bytes: bool, rate: Rate) -> None:
    assert parse_rate(text, in_bytes) == rate


@pytest.mark.parametrize("text", ["100", "100/y", "10KiB/s", "100/s 500", "burst 5", "0/s", "-1/s"])
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rate(text, in_bytes=False)


@given(st.one_of(st.integers(0, 2**40), st.integers(0, 10**7).map(lambda n: n / 1000)))
def test_a_duration_survives_writing(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(0, 2**50))
def test_a_size_survives_writing(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 2**40), st.integers(0, 2**40), st.booleans())
def test_a_rate_survives_writing(rate: int, burst: int, in_bytes: bool) -> None:
    assert parse_rate(format_rate(Rate(rate, burst), in_bytes), in_bytes) == Rate(rate, burst)


# --- what is wrong ---------------------------------------------------------------


def test_all_errors_are_told_at_once_one_a_line() -> None:
    assert errors("""
        [protocol]
        maximum_qoss = 1
        maximum_qos = 5
        keep_alive_factor = "x"
        [session]
        overflow = "drop"
        [limits]
        connect_timeout = "5y"
        inbound_messages = "10KiB/s"
        [foo]
        [[listener]]
        [listener.limits]
        maximum_connections = -1
    """) == [
        'mqttd.toml: protocol.maximum_qoss: unknown; did you mean "maximum_qos"?',
        "mqttd.toml: protocol.maximum_qos = 5: must be a whole number from 0 to 2",
        'mqttd.toml: protocol.keep_alive_factor = "x": must be a number from 1 to 100',
        'mqttd.toml: session.overflow = "drop": must be one of "drop-oldest", "drop-newest", '
        '"disconnect", "pause-publishers"',
        'mqttd.toml: limits.connect_timeout = "5y": must be a duration in seconds or such as '
        '"10s", from 0.001 to 3,600',
        'mqttd.toml: limits.inbound_messages = "10KiB/s": must be a rate such as '
        '"100/s burst 500", or "unlimited"',
        "mqttd.toml: foo: unknown; known here: broker, log, protocol, session, retained, store, "
        "limits, shared_limits, password_hashing, access, abuse, hooks, http, trace, "
        "flight, authentication, authorization, plugin, bridge, listener",
        "mqttd.toml: listener[1].limits.maximum_connections = -1: must be a whole number of at "
        "least 0",
        'mqttd.toml: listener[1].endpoint: missing; for instance endpoint = "tcp:1883"',
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[protocol]\nmaximum_qos = "1"', "protocol.maximum_qos"),
        ("[protocol]\nmaximum_qos = true", "protocol.maximum_qos"),
        ("[protocol]\nmaximum_qos = 1.0", "protocol.maximum_qos"),
        ("[protocol]\nretain_available = 1", "protocol.retain_available"),
        ("[protocol]\nretain_available = []", "protocol.retain_available"),
        ("[protocol]\nassigned_client_id_prefix = 7", "protocol.assigned_client_id_prefix"),
        ('[protocol]\nassigned_client_id_prefix = "\\u0000"', "protocol.assigned_client_id_prefix"),
        ('[protocol]\nmaximum_keep_alive = "500ms"', "protocol.maximum_keep_alive"),
        ('[protocol]\nmaximum_keep_alive = "unlimited"', "protocol.maximum_keep_alive"),
        ("[protocol]\nmaximum_packet_size = 19", "protocol.maximum_packet_size"),
        ("[protocol]\nmaximum_packet_size = nan", "protocol.maximum_packet_size"),
        ("[limits]\nconnect_timeout = nan", "limits.connect_timeout"),
        ("[limits]\nconnect_timeout = inf", "limits.connect_timeout"),
        ("[limits]\ninbound_bytes = 0", "limits.inbound_bytes"),
        ("[limits]\ninbound_bytes = nan", "limits.inbound_bytes"),
        ("[limits]\ninbound_bytes = true", "limits.inbound_bytes"),
        ("[session]\npriorities = { a = 256 }", "session.priorities"),
        ("[session]\npriorities = 5", "session.priorities"),
        ("[broker]\nlog_level = 'info'", "broker.log_level"),
        ("[broker]\nprotocol = 5", "broker.protocol"),
        ("[log]\nlevel = 'loud'", "log.level"),
        ("[log.levels]\nmqttd = 'loud'", "log.levels"),
        ("broker = 5", "broker"),
        ("listener = 5", "listener"),
        ("[listener]\nendpoint = 'tcp:1883'", "listener"),
        ("[[listener]]\nendpoint = 5", "listener[1].endpoint"),
        ("[[listener]]\nendpoint = 'tcp:1'\nprotocol = 5", "listener[1].protocol"),
        ("[[listener]]\nendpoint = 'tcp:1'\ntls = 5", "listener[1].tls"),
        ("[[listener]]\nendpoint = 'tcp:1'\n[listener.tls]", "listener[1].tls.certificate"),
        ("[[listener]]\nendpoint = 'tcp:1'\naccess = ['allow all of']", "listener[1].access"),
        ("[[listener]]\nendpoint = 'tcp:1'\nproxy_sources = ['ten']", "listener[1].proxy_sources"),
        ("[[listener]]\nendpoint = 'tcp:1'\nproxy_sources = 'ten'", "listener[1].proxy_sources"),
        ("[authentication]\nauth = ['file:x']", "authentication"),
        ("[[authentication]]\npath = 'x'", "authentication[1].type"),
        ("[[authentication]]\ntype = 'telepathy'", "authentication[1].type"),
        ("[[authentication]]\ntype = ['sql']", "authentication[1].type"),
        ("[[authentication]]\ntype = 'cred'\nauth = 'file:x'", "authentication[1].auth"),
        ("[[authentication]]\ntype = 'cred'", "authentication[1].auth"),
        ("[[authentication]]\ntype = 'password-file'", "authentication[1].path"),
        ("[[authentication]]\ntype = 'scram'\npath = 'x'\npaht = 1", "authentication[1].paht"),
        ("[[authentication]]\ntype = 'scram'\npath = 'x'\nname = 'all'", "authentication"),
        (
            "[[authentication]]\ntype = 'certificate'\nidentity = 'none'",
            "authentication[1].identity",
        ),
        ("[[authentication]]\ntype = 'certificate'\n" * 2, "authentication"),
        ("[[listener]]\nendpoint = 'tcp:1'\nauthentication = ['who']", "authentication"),
        ("[protocol]\nserver_moved = true", "protocol.server_moved"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_key(text: str, key: str) -> None:
    (line,) = errors(text)
    assert re.match(rf"mqttd\.toml: {re.escape(key)}\b[ :]", line.replace("]:", "]x:"))


def test_the_file_itself_may_be_wrong(tmp_path: Path) -> None:
    assert "is not TOML" in errors("[broker")[0]
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(tmp_path / "latin.toml")


def test_two_listeners_may_not_share_endpoint_or_name() -> None:
    text = "[[listener]]\nendpoint = 'tcp:1'\nname = 'a'\n"
    assert "'tcp:1'".strip("'") in errors(text + text.replace("'a'", "'b'"))[0]
    assert '"a"' in errors(text + text.replace("tcp:1", "tcp:2"))[0]


def test_an_embedding_program_gets_the_same_checks() -> None:
    with pytest.raises(SettingError, match="from 0 to 2"):
        ProtocolSettings(maximum_qos=3)
    with pytest.raises(SettingError, match="drop-oldest"):
        SessionSettings(overflow="drop-oldest")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="a rate such as"):
        ConnectionLimits(inbound_bytes=5)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="above 0"):
        Rate(0)
    with pytest.raises(SettingError, match="client_authorities"):
        TLSSettings(certificate="x", client_certificate=ClientCertificate.REQUIRED)
    with pytest.raises(SettingError, match="identity"):
        TLSSettings(certificate="x", identity=Identity.COMMON_NAME)
    with pytest.raises(SettingError, match="allow_mqtt5"):
        ProtocolSettings(allow_mqtt31=False, allow_mqtt311=False, allow_mqtt5=False)


# --- what is in force --------------------------------------------------------------


def test_a_listener_inherits_and_overrides() -> None:
    settings = parse_settings("""
        [protocol]
        maximum_qos = 1
        receive_maximum = 10
        [session]
        overflow = "drop-newest"
        [limits]
        inbound_bytes = 1000
        [[listener]]
        endpoint = "unix:/run/mqttd"
        [listener.protocol]
        maximum_qos = 2
        [listener.limits]
        inbound_bytes = "unlimited"
        [[listener]]
        endpoint = "tcp:1883:interface=127.0.0.1"
    """)
    first, second = settings.listeners
    assert (first.protocol.maximum_qos, first.protocol.receive_maximum) == (2, 10)
    assert (first.limits.inbound_bytes, first.session.overflow) == (None, Overflow.DROP_NEWEST)
    assert (second.protocol.maximum_qos, second.limits.inbound_bytes) == (1, Rate(1000))


def test_without_configuration_only_this_machine_may_connect() -> None:
    settings = load_settings()
    endpoints = [listener.endpoint for listener in settings.listeners]
    assert "tcp:1883:interface=127.0.0.1" in endpoints
    assert all(is_local(endpoint) for endpoint in endpoints)
    assert all(listener.allow_anonymous for listener in settings.listeners)
    check_listeners(settings.listeners, authenticated=False)


def test_named_endpoints_replace_the_default_ones_and_join_those_of_the_file() -> None:
    only = load_settings(endpoints=["tcp:1999"]).listeners
    assert [listener.endpoint for listener in only] == ["tcp:1999"]
    text = "[[listener]]\nendpoint = 'unix:/a'"
    both = parse_settings(text, endpoints=["tcp:1999"]).listeners
    assert [listener.endpoint for listener in both] == ["unix:/a", "tcp:1999"]


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp:1883", False),
        ("tcp:1883:interface=127.0.0.1", True),
        ("tcp:1883:interface=127.8.0.1", True),
        ("tcp:interface=localhost:port=1883", True),
        ("tcp:1883:interface=0.0.0.0", False),
        ("tcp:1883:interface=mqtt.example.org", False),
        ("tcp6:1883", False),
        (r"tcp6:1883:interface=\:\:1", True),
        (r"tcp6:1883:interface=\:\:", False),
        ("ssl:8883:privateKey=a:interface=127.0.0.1", True),
        ("ssl:8883", False),
        ("tls:/certs:port=8883", False),
        (r"tls:/certs:port=8883:interface=\:\:1", True),
        ("unix:/run/mqttd.socket", True),
        ("systemd:domain=UNIX:name=mqtt", True),
        ("systemd:domain=INET:name=mqtt", False),
        ("haproxy:tcp:1883", False),
        ("haproxy:tcp:1883:interface=127.0.0.1", True),
        ("onion:80", False),
        ("", False),
    ],
)
def test_who_can_reach_an_endpoint(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) is local


def test_a_listener_for_the_outside_must_say_who_may_connect() -> None:
    (outside,) = load_settings(endpoints=["tcp:1883"]).listeners
    assert not outside.allow_anonymous
    with pytest.raises(ConfigError) as refused:
        check_listeners([outside], authenticated=False)
    for remedy in ("allow_anonymous = true", "--allow-anonymous", "--auth", "[[authentication]]"):
        assert remedy in str(refused.value)
    check_listeners([outside], authenticated=True)
    check_listeners([attrs.evolve(outside, allow_anonymous=True)], authenticated=False)


def test_certificates_of_clients_are_authentication() -> None:
    tls = TLSSettings(
        certificate="server.pem",
        client_authorities="ca.pem",
        client_certificate=ClientCertificate.REQUIRED,
        identity=Identity.COMMON_NAME,
    )
    check_listeners([ListenerSettings("tcp:8883", tls=tls)], authenticated=False)
    optional = attrs.evolve(tls, client_certificate=ClientCertificate.OPTIONAL)
    with pytest.raises(ConfigError):
        check_listeners([ListenerSettings("tcp:8883", tls=optional)], authenticated=False)


def test_with_authentication_no_listener_is_anonymous_by_itself() -> None:
    text = (
        "[[authentication]]\ntype = 'cred'\nauth = ['file:x']\n[[listener]]\nendpoint = 'unix:/a'\n"
    )
    assert not parse_settings(text).listeners[0].allow_anonymous
    assert not load_settings(authenticated=True).listeners[0].allow_anonymous
    assert parse_settings(text + "allow_anonymous = true").listeners[0].allow_anonymous


def test_a_local_listener_may_refuse_the_anonymous() -> None:
    text = "[[listener]]\nendpoint = 'unix:/a'\nallow_anonymous = false"
    (listener,) = parse_settings(text).listeners
    assert not listener.allow_anonymous
    with pytest.raises(ConfigError, match="nobody could connect"):
        check_listeners([listener], authenticated=False)


def test_tls_in_tls_is_refused() -> None:
    twice = ListenerSettings("ssl:8883", allow_anonymous=True, tls=TLSSettings(certificate="x"))
    with pytest.raises(ConfigError, match="TLS already"):
        check_listeners([twice], authenticated=False)


def test_an_endpoint_gets_a_backlog_unless_it_has_one() -> None:
    assert with_backlog("tcp:1883", 9) == "tcp:1883:backlog=9"
    assert with_backlog("tcp:1883:backlog=5", 9) == "tcp:1883:backlog=5"
    assert with_backlog("systemd:domain=INET:index=0", 9) == "systemd:domain=INET:index=0"


def test_the_search_order(tmp_path: Path) -> None:
    own = tmp_path / "mqttd" / "mqttd.toml"
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_config(environment) != own
    own.parent.mkdir()
    own.touch()
    assert find_config(environment) == own
    assert find_config({**environment, "MQTTD_CONFIG": "/named"}) == Path("/named")


# --- etc/mqttd.toml -----------------------------------------------------------------


def uncommented() -> str:
    lines = (ETC / "mqttd.toml").read_text().splitlines()
    return "\n".join(re.sub(r"^#(?=\[|\w+ = )", "", line) for line in lines)


def test_as_it_stands_the_example_file_changes_nothing() -> None:
    assert load_settings(ETC / "mqttd.toml") == load_settings()


def test_uncommented_the_example_file_says_the_defaults() -> None:
    settings = parse_settings(uncommented())
    assert attrs.evolve(settings, listeners=(), authorization=(), bridges=()) == BrokerSettings()
    assert settings.listeners == (
        ListenerSettings(
            "tcp:1883:interface=127.0.0.1",
            allow_anonymous=True,
            tls=TLSSettings(certificate="/etc/mqttd/server.pem"),
            websocket=WebSocketSettings(),
        ),
    )


def test_the_example_file_has_every_setting() -> None:
    tls = TLSSettings(certificate="/etc/mqttd/server.pem")
    listener = ListenerSettings("tcp:1883", tls=tls, websocket=WebSocketSettings())
    url, query = "https://a", "SELECT 1"
    sources = (
        RuleFileSettings(path="a"),
        MosquittoFileSettings(path="a"),
        ClaimsSettings(),
        WebRulesSettings(url=url),
        SQLRulesSettings(query=query, database="a"),
        RedisRulesSettings(),
    )
    bridge = BridgeSettings("a", ("mqtt://a",), topics=(BridgeTopic("a"),))
    complete = render_settings(
        BrokerSettings(listeners=(listener,), authorization=sources, bridges=(bridge,))
    )

    def keys(text: str) -> set[tuple[str, str]]:
        found, table = set(), ""
        for line in text.splitlines():
            if line.startswith("["):
                table = line
            elif match := re.match(r"(\w+) = ", line):
                found.add((table, match[1]))
        return found

    assert keys(uncommented()) == keys(complete)


def test_the_example_of_authentication_has_every_type_and_every_setting() -> None:
    text = (ETC / "authentication.toml").read_text()
    settings = parse_settings(re.sub(r"^#(?=\[|\w+ = )", "", text, flags=re.M))
    assert [each.TYPE for each in settings.authentication] == list(AUTHENTICATORS)
    tables = text.split("[[authentication]]")[1:]
    for settled, table in zip(settings.authentication, tables, strict=True):
        kind = type(settled)
        said = set(re.findall(r"^#?(\w+) = ", table, flags=re.M)) - {"type"}
        assert said == {field.name for field in attrs.fields(kind)}
        # What is commented out is the default.
        without = parse_settings("[[authentication]]" + table.split("\n[[")[0]).authentication[0]
        for name in set(re.findall(r"^#(\w+) = ", table, flags=re.M)):
            assert getattr(settled, name) == getattr(without, name), (kind, name)


def test_secrets_have_no_place_in_settings() -> None:
    assert parse_settings(ETC.joinpath("authentication.toml").read_text()).authentication
    with pytest.raises(SettingError) as caught:
        AUTHENTICATORS["http"](url="https://user:hunter2@auth.example.org/")  # type: ignore[call-arg]
    assert "hunter2" not in str(caught.value)
    (cred,) = parse_settings(
        "[[authentication]]\ntype = 'cred'\nauth = ['memory:ann:hunter2']"
    ).authentication
    assert "hunter2" not in repr(cred)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("type = 'http'\nurl = 'http://auth.example.org'", "url"),
        ("type = 'http'\nurl = 'https:///x'", "url"),
        ("type = 'http'\nurl = 'https://[x'", "url"),
        ("type = 'jwt'\nalgorithms = ['none']\nkey_file = 'x'", "algorithms"),
        ("type = 'jwt'\nalgorithms = ['HS256', 'RS256']\nkey_file = 'x'", "algorithms"),
        ("type = 'jwt'\nalgorithms = []\nkey_file = 'x'", "algorithms"),
        ("type = 'jwt'\nalgorithms = ['RS256']", "key_file"),
        ("type = 'jwt'\nalgorithms = ['RS256']\nkey_file = 'x'\njwks_file = 'y'", "key_file"),
        ("type = 'jwt'\nalgorithms = ['RS256']\njwks_url = 'http://x.example/'", "jwks_url"),
        ("type = 'sql'\ndatabase = 'd'\nquery = \"SELECT '${username}'\"", "query"),
        ("type = 'sql'\ndatabase = 'd'\nquery = 'SELECT ${user}'", "query"),
        ("type = 'sql'\ndatabase = 'd'\nquery = 'SELECT $1'", "query"),
        ("type = 'sql'\ndatabase = 'd'\nquery = 'q'\nhost = 'db.example'", "tls"),
        ("type = 'sql'\ndatabase = 'd'\nquery = 'q'\nhost = 'db.example'\ntls = true", "ca_file"),
        ("type = 'redis'\nhost = 'redis.example'", "tls"),
        ("type = 'redis'\nkey = '${nobody}'", "key"),
        ("type = 'ldap'\nurl = 'ldap://dir.example'\nuser_dn = 'uid=${username}'", "url"),
        ("type = 'ldap'\nurl = 'ldaps://dir.example'", "user_dn"),
        (
            "type = 'ldap'\nurl = 'ldaps://dir.example'\nsearch_base = 'b'\nbind_dn = 'c'",
            "bind_password_file",
        ),
    ],
)
def test_an_authenticator_that_would_be_unsafe_is_refused(table: str, key: str) -> None:
    (line,) = errors(f"[[authentication]]\n{table}")
    assert line.startswith(f"mqttd.toml: authentication[1].{key} = ")


def test_what_authenticators_say_can_be_read_again() -> None:
    settings = parse_settings(ETC.joinpath("authentication.toml").read_text())
    assert parse_settings(render_settings(settings)) == settings


def test_the_other_example_is_a_configuration() -> None:
    settings = load_settings(ETC / "example.toml")
    check_listeners(settings.listeners, authenticated=True)


#: Settings that nothing obeys yet; empty it, and never add to it.
NOT_YET: set[str] = set()


def test_every_setting_is_obeyed_somewhere() -> None:
    files = [
        path
        for path in (ETC.parent / "mqttd").rglob("*.py")
        if path.name
        not in ("settings.py", "settings_access.py", "settings_authentication.py", "fields.py")
        and path.parent.name != "config"
    ]
    code = "\n".join(path.read_text() for path in files)
    names = {
        field.name
        for group in (
            BrokerSettings,
            ListenerSettings,
            ProtocolSettings,
            SessionSettings,
            RetainedSettings,
            ConnectionLimits,
            SharedLimits,
            TLSSettings,
            WebSocketSettings,
            HTTPSettings,
            AbuseSettings,
            AccessSettings,
            *RULE_SOURCES.values(),
            PasswordHashing,
            *AUTHENTICATORS.values(),
        )
        for field in attrs.fields(group)
    }
    # The settings' own check obeys this one, and nobody after it.
    names.discard("allow_plaintext")
    unread = {name for name in names if not re.search(rf'\.{name}\b|"{name}"', code)}
    assert unread <= NOT_YET


# --- writing ---------------------------------------------------------------------------


def test_what_is_in_force_can_be_read_again() -> None:
    text = r"""
        [broker]
        node = "näme \"quoted\" \u007f \\ \t"
        [session]
        priorities = { "alarm/#" = 200, "a.b" = 1 }
        retry_interval = 1.25
        [limits]
        inbound_bytes = "10KiB/s burst 1MiB"
        connection_rate = "3/m"
        [protocol]
        maximum_session_expiry = 90
        maximum_packet_size = 1000001
        [log.levels]
        "mqttd.net" = "debug"
        [[listener]]
        endpoint = "tcp6:8883:interface=\\:\\:1"
        access = ["deny 10.0.0.0/8", "allow all"]
        [listener.tls]
        certificate = "a.pem"
        alpn = ["mqtt", "x"]
        [listener.tls.server_names]
        "mqtt.example.org" = "b.pem"
        [listener.session]
        maximum_queued_messages = 5
        [[listener]]
        endpoint = "unix:/a"
        [[authorization]]
        type = "mosquitto"
        path = "/etc/mosquitto/acl"
        [[authorization]]
        type = "claims"
        shadow = true
    """
    settings = parse_settings(text)
    assert settings.session.priorities == {"alarm/#": 200, "a.b": 1}
    assert parse_settings(render_settings(settings)) == settings


def examples(page: str) -> list[str]:
    """The configurations that *page* of the documentation shows."""
    text = (ETC.parent / "docs" / page).read_text()
    blocks = re.findall(r"^\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", text, flags=re.M)
    return [textwrap.dedent(block) for block in blocks]


@pytest.mark.parametrize("text", examples("authentication.rst"))
def test_what_the_documentation_of_authentication_shows_is_a_configuration(text: str) -> None:
    assert parse_settings(text).authentication
