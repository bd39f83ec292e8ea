"""mosquitto's own acl_file: the same file, the same questions, the same answers."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mqttd.access.mosquitto_acl import MosquittoRules, load_mosquitto, parse_mosquitto
from mqttd.config import ConfigError
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import (
    Connect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.access.support import ask
from tests.end_to_end.daemon import PATIENCE, free_port

TOPICS = ("a", "b", "a/b", "a/u1", "c1/a", "a/b/c", "/a", "a/", "$x/a", "$x", "u1/c1", "a b")
CLIENTS = ((None, "c1"), ("u1", "c1"), ("u1", "b"), ("a", "u1"), ("u 2", "c2"), ("x+y", "c3"))
CLIENTS_OF_BAD_NAMES = (("u1", "a#"),)


# --- a real mosquitto ---------------------------------------------------------------


class Raw:
    """A client that says what it is told to, and waits for the answer."""

    def __init__(self, port: int, user: str | None, client_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = Parser(1 << 20, server_side=False)
        self._parser.version = MQTT5
        self.send(Connect(version=MQTT5, client_id=client_id, user_name=user))
        self.next_packet()

    def send(self, *packets: Packet) -> None:
        self._socket.sendall(b"".join(serialize(packet, MQTT5) for packet in packets))

    def next_packet(self) -> Packet:
        while (packet := self._parser.next_packet()) is None:
            data = self._socket.recv(65_536)
            assert data, "mosquitto has closed the connection"
            self._parser.feed(data)
        return packet

    def may_publish(self, topics: tuple[str, ...]) -> set[str]:
        self.send(*(Publish(topic, b"w", 1, packet_id=n) for n, topic in enumerate(topics, 1)))
        answers: dict[int, int] = {}
        while len(answers) < len(topics):
            packet = self.next_packet()
            if isinstance(packet, Puback):
                answers[packet.packet_id] = packet.reason
        return {topic for n, topic in enumerate(topics, 1) if answers[n] < 0x80}

    def received(self) -> set[str]:
        """The topics of what has come."""
        self.send(Pingreq())
        topics = set()
        while not isinstance(packet := self.next_packet(), Pingresp):
            if isinstance(packet, Publish) and packet.payload == b"r":
                topics.add(packet.topic)
        return topics

    def close(self) -> None:
        self._socket.close()


@contextmanager
def mosquitto(program: str, acl: str) -> Iterator[tuple[int, int] | None]:
    """Its ports, one with the rules and one without; None when it refuses the file."""
    ruled, free = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "acl").write_text(acl)
        Path(folder, "conf").write_text(
            "per_listener_settings true\nset_tcp_nodelay true\n"
            f"listener {ruled} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\n"
            f"listener {free} 127.0.0.1\nallow_anonymous true\n"
        )
        # It would read as another user, that does not get into our folder.
        for path in (folder, f"{folder}/acl", f"{folder}/conf"):
            Path(path).chmod(0o755)
        process = subprocess.Popen(
            [program, "-c", f"{folder}/conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield (ruled, free) if _is_up(process, free) else None
        finally:
            process.kill()
            process.wait()


def _is_up(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return True
    return False


Answers = dict[tuple[str | None, str], tuple[set[str], set[str]]]


def answers_of_mosquitto(program: str, acl: str) -> Answers | None:
    """Client -> the topics that it may publish to, and receive."""
    found: Answers = {}
    with mosquitto(program, acl) as ports:
        if ports is None:
            return None
        for user, client_id in (*CLIENTS, *CLIENTS_OF_BAD_NAMES):
            with closing(Raw(ports[0], user, client_id)) as client:
                written = client.may_publish(TOPICS)
                requests = [SubscriptionRequest(f, 0) for f in ("#", "$x/#")]
                client.send(Subscribe(1, requests))
                client.next_packet()
                with closing(Raw(ports[1], None, "publisher")) as publisher:
                    publisher.send(
                        *(Publish(t, b"r", 1, packet_id=n) for n, t in enumerate(TOPICS, 1))
                    )
                    for _ in TOPICS:
                        publisher.next_packet()
                found[user, client_id] = (written, client.received())
    return found


def answers_of_ours(rules: MosquittoRules) -> Answers:
    def may(action: str, user: str | None, client_id: str) -> set[str]:
        decisions = {
            t: rules.decide(ask(t, action, user=user, client_id=client_id)) for t in TOPICS
        }
        return {topic for topic, decision in decisions.items() if decision and decision.allowed}

    return {
        client: (may(PUBLISH, *client), may(RECEIVE, *client))
        for client in (*CLIENTS, *CLIENTS_OF_BAD_NAMES)
    }


LEVELS = st.sampled_from(["a", "b", "c1", "u1", "$x", "+", "", "a b"])
ENDS = st.sampled_from(["#", "a", "b", "+", "%c", "%u", "x%cy", "a#", "%%u"])
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, end]), st.lists(LEVELS, max_size=2), ENDS
)
ACCESS = st.sampled_from(["", "read ", "write ", "readwrite ", "deny ", "read  ", "none "])
LINES = st.one_of(
    st.builds("topic {}{}".format, ACCESS, FILTERS),
    st.builds("pattern {}{}".format, ACCESS, FILTERS),
    st.sampled_from(["user u1", "user a", "user u 2", "user x+y", "user  u1", "user u1 "]),
    st.sampled_from(["", "# topic deny #", "  ", "topic", "user", "nonsense a", "topic a  "]),
)
#: Mostly right, since a file with one line that is wrong answers nothing.
GOOD = LINES.filter(
    lambda line: (
        not any(bad in line for bad in ("none", "a#", "nonsense")) and line not in ("topic", "user")
    )
)


@settings(
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.one_of(st.lists(GOOD, min_size=3, max_size=9), st.lists(LINES, min_size=1, max_size=3)))
@example(["topic read a/#", "topic deny a/b", "topic write a/#", "user u1", "topic #"])
@example(
    ["pattern readwrite a/%u", "pattern deny a/b", "pattern read %c/#", "user u1", "topic $x/#"]
)
@example(["pattern %u/%c", "user u1", "topic deny u1/c1", "topic readwrite a b"])
def test_mosquitto_gives_the_same_answers(program: Callable[[str], str], lines: list[str]) -> None:
    acl = "\n".join(lines) + "\n"
    theirs = answers_of_mosquitto(program("mosquitto"), acl)
    try:
        ours = answers_of_ours(parse_mosquitto(acl))
    except ConfigError as error:
        if "deny everything" not in str(error):
            assert theirs is None
        return
    assert theirs == ours


# --- where we are stricter ---------------------------------------------------------------


def allowed(rules: MosquittoRules, topic: str, action: str = PUBLISH, **who: str | None) -> bool:
    decision = rules.decide(ask(topic, action, **who))
    return decision is not None and decision.allowed


@pytest.mark.parametrize("name", ["a/b", "", "+", "#", "$SYS", "x/../y"])
def test_no_name_widens_a_pattern(name: str) -> None:
    rules = parse_mosquitto("pattern readwrite %c/#\npattern readwrite home/%u/#")
    for topic in ("a/b/c", "home/a/b/x", "home//x", "$SYS/x", f"{name}/x", f"home/{name}/x"):
        if name != "$SYS" or not topic.startswith("home/"):
            assert not allowed(rules, topic, user=name, client_id=name)


def test_a_denial_is_filled_with_any_name() -> None:
    rules = parse_mosquitto("pattern deny %c/secret\npattern readwrite #")
    assert not allowed(rules, "a/b/secret", client_id="a/b")
    assert allowed(rules, "a/b/open", client_id="a/b")


def test_everyone_may_subscribe_and_an_answer_names_its_line() -> None:
    rules = parse_mosquitto("\ntopic read a\nuser alice\ntopic deny b\ntopic b\n", "acl")
    assert allowed(rules, "#", SUBSCRIBE)
    decision = rules.decide(ask("b"))
    assert decision is not None
    assert (decision.allowed, decision.by) == (False, "line 4 of acl")
    assert rules.decide(ask("other")) is None


# --- files that are wrong ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topic", "acl: line 1: no topic"),
        ("\nuser ", "acl: line 2: user without a name"),
        ("topic none a", 'acl: line 1: \'none\' is not "read", "write", "readwrite" or "deny"'),
        ("topic a/#/b", "acl: line 1: 'a/#/b' is no topic filter"),
        ("allow a", 'acl: line 1: \'allow\' is not "user", "topic" or "pattern"'),
        ("# nothing", "acl: has no topic and no pattern: it would deny everything"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mosquitto(text, "acl")
    assert caught.value.lines() == [message]


@pytest.mark.parametrize("content", [None, b"", b"\n \n"])
def test_an_empty_or_missing_file_is_no_file(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "acl").write_bytes(content)
    with pytest.raises(ConfigError):
        load_mosquitto(str(tmp_path / "acl"))
