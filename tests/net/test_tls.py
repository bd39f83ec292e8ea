"""TLS on real sockets with real certificates, as clients meet it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.x509.oid import NameOID

from mqttd.identity import user_name
from mqttd.net.listener import Listener
from mqttd.net.tls import ServerTLS, TLSError
from mqttd.settings import ClientCertificate, ConnectionLimits, Identity, TLSSettings
from mqttd.wire.packets import Connect, Pingreq
from mqttd.wire.serializer import serialize
from tests.certificates import Authority, Issued, common_name, dns

from .sockets import CONNACK, CONNECT, LOOPBACK, OnSockets, answer, ask, open_socket
from .test_proxy import GOOD as HEADERS

PINGRESP = b"\xd0\x00"


def context(authority: Authority, client: str = "", **changes: Any) -> ssl.SSLContext:
    """What a client that trusts *authority* connects with."""
    made = ssl.create_default_context(cadata=authority.pem.decode())
    if client:
        made.load_cert_chain(client)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def connect(
    where: Any,
    made: ssl.SSLContext,
    *,
    first: bytes = CONNECT,
    header: bytes = b"",
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLSocket, bytes]:
    """A TLS connection on which *first* was sent, and what was answered."""
    plain = open_socket(where, header)
    try:
        stream = made.wrap_socket(plain, server_hostname=name, session=session)
    except BaseException:
        plain.close()
        raise
    stream.sendall(first)
    try:
        return stream, answer(stream)
    except BaseException:
        stream.close()
        raise


class OverTLS(OnSockets):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.server = self.authority.issue("localhost")
        self.certificate = self.server.write(self.folder / "server.pem")
        self.authorities = self.authority.write(self.folder / "authority.pem")

    def settings(self, **fields: Any) -> TLSSettings:
        return TLSSettings(certificate=self.certificate, **fields)

    def asking(self, **fields: Any) -> TLSSettings:
        """Settings that ask clients for certificates."""
        fields.setdefault("client_certificate", ClientCertificate.REQUIRED)
        fields.setdefault("identity", Identity.COMMON_NAME)
        return self.settings(client_authorities=self.authorities, **fields)

    def issue(self, name: str, **fields: Any) -> tuple[Issued, str]:
        issued = self.authority.issue(name, **fields)
        return issued, issued.write(self.folder / f"{name}.pem")

    async def dial(self, listener: Listener, made: ssl.SSLContext, **more: Any) -> ssl.SSLSocket:
        """A client that has its CONNACK."""
        work: Callable[[], tuple[ssl.SSLSocket, bytes]]
        where = self.where(listener)
        work = lambda: connect(where, made, **more)  # noqa: E731
        stream, data = await self.client(work)
        assert data[:1] == CONNACK
        self.addCleanup(stream.close)
        return stream

    async def fails(self, listener: Listener, made: ssl.SSLContext, **more: Any) -> None:
        """The client does not get through."""
        where = self.where(listener)

        def attempt() -> bytes:
            try:
                stream, data = connect(where, made, **more)
            except (ssl.SSLError, ConnectionError, BrokenPipeError):
                return b""
            stream.close()
            return data

        assert await self.client(attempt) == b""


class Handshakes(OverTLS):
    async def test_versions(self) -> None:
        listener = await self.listen(tls=self.settings())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            made = context(self.authority, maximum_version=version, minimum_version=version)
            stream = await self.dial(listener, made)
            assert stream.version() == version.name.replace("_", ".")
        strict = await self.listen(tls=self.settings(minimum_version="1.3"))
        made = context(self.authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        await self.fails(strict, made)

    async def test_what_is_not_forward_secret_is_refused(self) -> None:
        listener = await self.listen(tls=self.settings())
        made = context(self.authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        made.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        await self.fails(listener, made)

    async def test_the_protocol_is_agreed_on(self) -> None:
        listener = await self.listen(tls=self.settings())
        for offered, agreed in ((["x", "mqtt"], "mqtt"), (["x-custom"], None), ([], None)):
            made = context(self.authority)
            if offered:
                made.set_alpn_protocols(offered)
            stream = await self.dial(listener, made)
            assert stream.selected_alpn_protocol() == agreed

    async def test_each_name_has_its_certificate(self) -> None:
        other = self.authority.issue("other", names=dns("other.example", "*.many.example"))
        file = other.write(self.folder / "other.pem")
        names = {"other.example": file, "*.many.example": file}
        listener = await self.listen(tls=self.settings(server_names=names))
        for name in ("localhost", "other.example", "a.many.example"):
            await self.dial(listener, context(self.authority), name=name)
            (protocol,) = [
                each for each in listener.factory.protocols if each.peer.server_name == name
            ]
            assert protocol.peer.tls
        await self.fails(listener, context(self.authority), name="b.a.many.example")

    async def test_an_endpoint_with_tls_of_its_own(self) -> None:
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={self.certificate}"
        listener = await self.listen(endpoint)
        await self.dial(listener, context(self.authority))
        (protocol,) = listener.factory.protocols
        assert protocol.peer.tls
        assert listener.connections == 1

    async def test_plain_text_is_closed(self) -> None:
        """Catalogue 12: plain text on 8883."""
        listener = await self.listen(tls=self.settings())
        for data in (CONNECT, b"GET / HTTP/1.1\r\n\r\n"):
            # A TLS alert, at most.
            assert (await self.client(ask, self.where(listener), data))[:1] in (b"", b"\x15")
        await self.until(lambda: listener.connections == 0)

    async def test_a_handshake_that_does_not_end_is_cut_at_the_deadline(self) -> None:
        limits = ConnectionLimits(connect_timeout=0.5)
        listener = await self.listen(tls=self.settings(), limits=limits)
        hello = bytes.fromhex("16030100f8010000f40303")
        with await self.client(open_socket, self.where(listener), hello):
            await self.until(lambda: listener.connections == 1)
            await self.until(lambda: listener.connections == 0, 3)
        assert self.refused == {"connect-timeout": 1}

    async def test_closing_does_not_wait_for_the_deadline(self) -> None:
        limits = ConnectionLimits(close_timeout=60)
        listener = await self.listen(tls=self.settings(), limits=limits)
        stream = await self.dial(listener, context(self.authority))
        self.broker.drain()

        def farewell() -> None:
            while answer(stream):
                pass
            stream.close()

        await self.client(farewell)
        await self.until(lambda: listener.connections == 0, 5)

    async def test_much_goes_through_both_ways(self) -> None:
        listener = await self.listen(tls=self.settings())
        stream = await self.dial(listener, context(self.authority))
        many = serialize(Pingreq(), 5) * 200_000

        def pings() -> int:
            stream.sendall(many[:200_000])
            count = 0
            while count < 200_000:
                count += len(stream.recv(65_536))
            return count

        assert await self.client(pings) == 200_000


def ask_often(where: Any) -> list[bytes]:
    return [ask(where, b"\x16\x03\x01") for _ in range(30)]


class RefusedBefore(OverTLS):
    async def test_a_flood_is_refused_without_a_handshake(self) -> None:
        """Catalogue 33: before TLS, whose handshake is what costs."""
        ssl_endpoint = f"ssl:0:interface=127.0.0.1:privateKey={self.certificate}"
        for endpoint, tls in ((LOOPBACK, self.settings()), (ssl_endpoint, None)):
            limits = ConnectionLimits(maximum_connections_per_address=1)
            listener = await self.listen(endpoint, tls=tls, limits=limits)
            await self.dial(listener, context(self.authority))
            before = self.refused.get("maximum-connections-per-address", 0)

            # Not even an alert: the socket closes as it is.
            assert await self.client(ask_often, self.where(listener)) == [b""] * 30
            assert self.refused["maximum-connections-per-address"] - before == 30
            assert listener.connections == 1
            assert self.broker.metrics.closed["tls-error"] == 0

    async def test_a_proxy_header_comes_before_the_handshake(self) -> None:
        listener = await self.listen(tls=self.settings(), proxy_protocol=True)
        await self.dial(listener, context(self.authority), header=HEADERS["v2 IPv4"][0])
        (protocol,) = listener.factory.protocols
        assert protocol.peer.address == "203.0.113.9"
        assert protocol.peer.tls
        await self.fails(listener, context(self.authority))
        assert self.refused == {"proxy-header": 1}


class Certificates(OverTLS):
    async def peers(self, listener: Listener, file: str) -> Any:
        await self.dial(listener, context(self.authority, file))
        (protocol,) = listener.factory.protocols
        return protocol.peer

    async def test_the_certificate_says_who_the_client_is(self) -> None:
        issued, file = self.issue("alice")
        listener = await self.listen(tls=self.asking())
        peer = await self.peers(listener, file)
        assert peer.certificate == issued.certificate
        assert peer.certificate_user == "alice"
        assert next(iter(self.broker.connections.values())).user_name == "alice"

    async def test_no_certificate_and_one_of_another_authority_are_refused(self) -> None:
        stranger = Authority("Another").issue("mallory").write(self.folder / "mallory.pem")
        listener = await self.listen(tls=self.asking())
        await self.fails(listener, context(self.authority))
        await self.fails(listener, context(self.authority, stranger))
        await self.until(lambda: listener.connections == 0)

    async def test_an_optional_certificate(self) -> None:
        stranger = Authority("Another").issue("mallory").write(self.folder / "mallory.pem")
        _, file = self.issue("alice")
        tls = self.asking(client_certificate=ClientCertificate.OPTIONAL)
        listener = await self.listen(tls=tls)
        stream = await self.dial(listener, context(self.authority))
        (protocol,) = listener.factory.protocols
        assert protocol.peer.certificate_user is None
        stream.close()
        await self.until(lambda: listener.connections == 0)
        assert (await self.peers(listener, file)).certificate_user == "alice"
        await self.fails(listener, context(self.authority, stranger))

    async def test_a_certificate_without_a_name_does_not_make_an_anonymous_client(self) -> None:
        nobody = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")])
        file = self.authority.issue(nobody).write(self.folder / "nobody.pem")
        listener = await self.listen(tls=self.asking())
        await self.fails(listener, context(self.authority, file))

    async def test_a_revoked_certificate_is_refused(self) -> None:
        revoked, bad = self.issue("mallory")
        _, good = self.issue("alice")
        file = self.folder / "revoked.pem"
        file.write_bytes(self.authority.revocation_list(revoked))
        listener = await self.listen(tls=self.asking(revocation_list=str(file)))
        await self.fails(listener, context(self.authority, bad))
        await self.dial(listener, context(self.authority, good))

    async def test_revocation_in_force_after_a_reload_and_for_tickets(self) -> None:
        revoked, bad = self.issue("mallory")
        file = self.folder / "revoked.pem"
        file.write_bytes(self.authority.revocation_list())
        listener = await self.listen(tls=self.asking(revocation_list=str(file)))
        made = context(self.authority, bad)
        stream = await self.dial(listener, made)
        session = stream.session
        file.write_bytes(self.authority.revocation_list(revoked))
        listener.reload(listener.settings)
        await self.fails(listener, made)
        await self.fails(listener, made, session=session)
        # The connection that is there stays.
        stream.sendall(serialize(Pingreq(), 5))
        assert await self.client(answer, stream) == PINGRESP


class Reloading(OverTLS):
    async def test_new_connections_get_the_new_certificate_and_old_ones_stay(self) -> None:
        listener = await self.listen(tls=self.settings())
        old = await self.dial(listener, context(self.authority))
        renewed = self.authority.issue("localhost")
        renewed.write(Path(self.certificate))
        listener.reload(listener.settings)
        other = serialize(Connect("b", 5), 5)
        new = await self.dial(listener, context(self.authority), first=other)
        serial = renewed.certificate.serial_number
        assert int(str(new.getpeercert()["serialNumber"]), 16) == serial  # type: ignore[index]
        assert int(str(old.getpeercert()["serialNumber"]), 16) != serial  # type: ignore[index]
        old.sendall(serialize(Pingreq(), 5))
        assert await self.client(answer, old) == PINGRESP

    async def test_a_broken_file_leaves_the_old_certificate_in_force(self) -> None:
        """Catalogue 70, reload: what cannot be read changes nothing and says so."""
        listener = await self.listen(tls=self.settings())
        Path(self.certificate).write_text("nothing of use")
        limits = ConnectionLimits(maximum_connections=7)
        with pytest.raises(TLSError, match=r"server\.pem"):
            listener.reload(evolve(listener.settings, limits=limits))
        assert listener.settings.limits.maximum_connections == 0
        await self.dial(listener, context(self.authority))
        Path(self.certificate).unlink()
        with pytest.raises(TLSError, match=r"server\.pem"):
            listener.reload(listener.settings)
        await self.dial(listener, context(self.authority))

    async def test_tls_can_be_switched_on(self) -> None:
        listener = await self.listen()
        assert (await self.client(ask, self.where(listener)))[:1] == CONNACK
        listener.reload(evolve(listener.settings, tls=self.settings()))
        await self.dial(listener, context(self.authority))
        listener.reload(evolve(listener.settings, tls=None))
        assert (await self.client(ask, self.where(listener)))[:1] == CONNACK


class Tickets(OverTLS):
    async def resumed(self, listener: Listener, version: ssl.TLSVersion, file: str = "") -> bool:
        made = context(self.authority, file, minimum_version=version, maximum_version=version)
        first = await self.dial(listener, made)
        session = first.session
        first.close()
        second = await self.dial(listener, made, session=session)
        return bool(second.session_reused)

    async def test_a_client_comes_back_without_a_full_handshake(self) -> None:
        _, file = self.issue("alice")
        for tls, certificate in ((self.settings(), ""), (self.asking(), file)):
            listener = await self.listen(tls=tls)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert await self.resumed(listener, version, certificate), version

    async def test_who_comes_back_is_still_known(self) -> None:
        _, file = self.issue("alice")
        listener = await self.listen(tls=self.asking())
        assert await self.resumed(listener, ssl.TLSVersion.TLSv1_3, file)
        await self.until(lambda: listener.connections == 1)
        (protocol,) = listener.factory.protocols
        assert protocol.peer.certificate_user == "alice"

    async def test_tickets_can_be_switched_off(self) -> None:
        listener = await self.listen(tls=self.settings(session_tickets=False))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert not await self.resumed(listener, version)


# --- what is in the files ---------------------------------------------------------


def make(folder: Path, **fields: Any) -> TLSSettings:
    authority = Authority()
    certificate = authority.issue("localhost").write(folder / "server.pem")
    authorities = authority.write(folder / "authority.pem")
    return TLSSettings(
        **{
            "certificate": certificate,
            "client_certificate": ClientCertificate.REQUIRED,
            "client_authorities": authorities,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"certificate": "{}/none.pem"}, r"none\.pem: No such file"),
        ({"certificate": "{}/junk.pem"}, r"certificate .*junk\.pem"),
        ({"private_key": "{}/none.pem"}, r"none\.pem: No such file"),
        ({"private_key": "{}/other.pem"}, r"private key .*other\.pem: .*mismatch"),
        ({"client_authorities": "{}/junk.pem"}, r"client authorities .*junk\.pem"),
        ({"revocation_list": "{}/junk.pem"}, r"revocation list .*junk\.pem"),
        ({"ciphers": "NONSENSE"}, r"ciphers 'NONSENSE'"),
        ({"ciphersuites": "NONSENSE"}, r"ciphersuites 'NONSENSE'"),
    ],
)
def test_an_error_says_which_file(tmp_path: Path, fields: dict[str, str], said: str) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    Authority().issue("other").write(tmp_path / "other.pem")
    filled = {name: value.format(tmp_path) for name, value in fields.items()}
    with pytest.raises(TLSError, match=said):
        ServerTLS(make(tmp_path, **filled))


def test_a_key_with_a_password_does_not_ask_the_terminal(tmp_path: Path) -> None:
    issued = Authority().issue("localhost")
    (tmp_path / "locked.pem").write_bytes(issued.certificate_pem + issued.key_pem(b"secret"))
    with pytest.raises(TLSError, match="password"):
        ServerTLS(make(tmp_path, certificate=str(tmp_path / "locked.pem")))


NAMES = [
    ("alice", dns("a.example"), Identity.COMMON_NAME, "alice"),
    ("alice", dns("a.example"), Identity.SUBJECT, "CN=alice"),
    ("alice", dns("a.example"), Identity.ALTERNATIVE_NAME, "a.example"),
    ("alice", dns("a.example"), Identity.NONE, None),
    (
        "alice",
        [*dns("a.example"), x509.RFC822Name("alice@example.org")],
        Identity.ALTERNATIVE_NAME,
        "alice@example.org",
    ),
    (
        "alice",
        [*dns("a.example"), x509.UniformResourceIdentifier("urn:device:1")],
        Identity.ALTERNATIVE_NAME,
        "urn:device:1",
    ),
    ("alice", dns("a.example", "b.example"), Identity.ALTERNATIVE_NAME, None),
    ("alice", [], Identity.ALTERNATIVE_NAME, None),
    (common_name("alice", "bob"), [], Identity.COMMON_NAME, None),
    (common_name("al\0ice"), [], Identity.COMMON_NAME, None),
]


@pytest.mark.parametrize(("subject", "names", "identity", "name"), NAMES)
def test_the_name_in_a_certificate(
    subject: Any, names: Any, identity: Identity, name: str | None
) -> None:
    certificate = Authority().issue(subject, names=names).certificate
    assert user_name(certificate, identity) == name
