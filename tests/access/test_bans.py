from __future__ import annotations

import json
from pathlib import Path

import pytest

from mqttd.access import bans as module
from mqttd.access.bans import Ban, BanError, BanList
from mqttd.config import ConfigError


class Wall:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "bans.json"


def test_clients_and_users(wall: Wall) -> None:
    bans = BanList(wall)
    bans.add(Ban("client_id", "c"))
    bans.add(Ban("user", "u"))
    assert bans.of_client("c", None)
    assert bans.of_client("x", "u")
    assert not bans.of_client("u", "c")
    assert not bans.of_client("", None)


@pytest.mark.parametrize(
    ("kind", "value", "inside", "outside"),
    [
        ("address", "192.0.2.1", ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.2", "unix", ""]),
        ("address", "::ffff:192.0.2.1", ["192.0.2.1"], ["::1"]),
        ("address", "2001:db8::1", ["2001:db8::1", "2001:db8:0::1"], ["2001:db8::2"]),
        ("network", "10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "::a00:0"]),
        ("network", "2001:db8::/32", ["2001:db8:1::5%eth0"], ["2001:db9::", "32.1.13.184"]),
    ],
)
def test_addresses_and_networks(
    wall: Wall, kind: str, value: str, inside: list[str], outside: list[str]
) -> None:
    bans = BanList(wall)
    bans.add(Ban(kind, value))
    assert all(bans.of_address(address) for address in inside)
    assert not any(bans.of_address(address) for address in outside)
    assert bans.remove(kind, value)
    assert not any(bans.of_address(address) for address in inside)
    assert bans.remove(kind, value) is None


def test_an_address_that_is_banned_twice_stays_banned_once(wall: Wall) -> None:
    bans = BanList(wall)
    bans.add(Ban("address", "192.0.2.1"))
    bans.add(Ban("network", "192.0.2.1/32"))
    bans.remove("network", "192.0.2.1/32")
    assert bans.of_address("192.0.2.1")
    bans.remove("address", "192.0.2.1")
    assert not bans.of_address("192.0.2.1")


def test_a_ban_ends(wall: Wall) -> None:
    bans = BanList(wall)
    bans.add(Ban("client_id", "c", wall.now + 10))
    bans.add(Ban("network", "10.0.0.0/8", wall.now + 10))
    wall.now += 9.9
    assert bans.of_client("c", None)
    assert bans.of_address("10.0.0.1")
    wall.now += 0.1
    assert list(bans) == []
    assert not bans.of_client("c", None)
    assert not bans.of_address("10.0.0.1")
    assert len(bans) == 0


def test_bans_outlive_the_process(wall: Wall, path: Path) -> None:
    bans = BanList(wall, path)
    bans.add(Ban("user", "u", reason="spam", by="root"))
    bans.add(Ban("network", "10.0.0.0/8", wall.now + 100))
    bans.add(Ban("client_id", "flaps", wall.now + 100, persistent=False))
    assert path.stat().st_mode & 0o777 == 0o600
    wall.now += 50
    later = BanList(wall, path)
    assert sorted(ban.value for ban in later) == ["10.0.0.0/8", "u"]
    assert later.of_client("x", "u") == Ban("user", "u", None, "spam", "root", wall.now - 50)
    later.remove("user", "u")
    assert [ban.value for ban in BanList(wall, path)] == ["10.0.0.0/8"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "{}",
        '[{"kind": "user"}]',
        '[{"kind": "planet", "value": "x"}]',
        '[{"kind": "user", "value": 1}]',
        '[{"kind": "user", "value": "u", "until": "soon"}]',
        '[{"kind": "network", "value": "10.0.0.0/99"}]',
        '[{"kind": "user", "value": "u", "extra": 1}]',
    ],
)
def test_a_file_that_cannot_be_used_is_no_empty_list(wall: Wall, path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ConfigError, match="cannot be used"):
        BanList(wall, path)
    assert path.read_text() == content


def test_a_ban_that_cannot_be_kept_is_not_made(wall: Wall, path: Path) -> None:
    bans = BanList(wall, path)
    bans.add(Ban("user", "u"))
    kept = path.read_text()
    path.with_name("bans.json.new").mkdir()
    for ban in (Ban("user", "v"), Ban("address", "192.0.2.1")):
        with pytest.raises(OSError, match=r"."):
            bans.add(ban)
    with pytest.raises(OSError, match=r"."):
        bans.remove("user", "u")
    assert [ban.value for ban in bans] == ["u"]
    assert not bans.of_address("192.0.2.1")
    assert path.read_text() == kept
    assert json.loads(kept)[0]["value"] == "u"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("planet", "x"),
        ("user", ""),
        ("address", "x"),
        ("address", "10.0.0.0/8"[:8] + "x"),
        ("network", "10.0.0.1/8"),
        ("network", "0.0.0.0/0"),
        ("network", "::/0"),
    ],
)
def test_what_bans_nobody_or_everybody_is_refused(wall: Wall, kind: str, value: str) -> None:
    bans = BanList(wall)
    with pytest.raises(BanError):
        bans.add(Ban(kind, value))
    assert len(bans) == 0


def test_bans_are_bounded(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BANS", 10)
    bans = BanList(wall)
    for number in range(10):
        bans.add(Ban("user", f"u{number}", wall.now + 10))
    with pytest.raises(BanError, match="10 bans already"):
        bans.add(Ban("user", "x"))
    bans.add(Ban("user", "u1"))
    wall.now += 10
    bans.add(Ban("user", "x"))
    assert sorted(ban.value for ban in bans) == ["u1", "x"]
