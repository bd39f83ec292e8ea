"""The PROXY protocol, versions 1 and 2: who a connection through a proxy is from.

The header comes first on the socket, before any TLS. A ``ProxyProtocol`` reads
it, asks the gate about the true peer, and then puts the factory's protocol in
its own place, so that what follows costs nothing more. It is bounded in time by
the CONNECT deadline and in size by the longest header. Who may send a header at
all the gate has decided before.
"""

from __future__ import annotations

from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from struct import unpack_from
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from mqttd.net.gate import Gate

log = Logger()

_SIGNATURE_1 = b"PROXY "
_SIGNATURE_2 = b"\r\n\r\n\x00\r\nQUIT\n"
#: Of version 1, its line end included; as its specification says.
_LONGEST_1 = 107
_FIXED_2 = 16
#: Of version 2: its own limit is 64 KiB, but no proxy needs that much.
_LONGEST_2 = 16_384

#: Address family and transport -> bytes that its addresses take. Streams only.
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_LOCAL, _PROXY = 0x20, 0x21


class BadHeader(ValueError):
    """What came is no PROXY header."""


#: Bytes that the header takes, and the client (None: ask the socket).
Header = tuple[int, IAddress | None]


def parse_header(data: bytes) -> Header | None:
    """The header at the beginning of *data*; None when more bytes are needed.

    Raises ``BadHeader`` as soon as it cannot become one.
    """
    if data.startswith(_SIGNATURE_2[: len(data)]):
        return _parse_2(data)
    if data.startswith(_SIGNATURE_1[: len(data)]):
        return _parse_1(data)
    raise BadHeader("no PROXY signature")


def _parse_1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _LONGEST_1)
    if end < 0:
        if len(data) >= _LONGEST_1:
            raise BadHeader("a line without end")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return end + 2, None
    if len(words) != 6:
        raise BadHeader("a line of another form")
    source, _ = (_address_1(words[1], *words[i : i + 3 : 2]) for i in (2, 3))
    return end + 2, source


def _address_1(family: bytes, host: bytes, port: bytes) -> IAddress:
    if not port.isdigit() or len(port) > 5 or int(port) > 65_535:
        raise BadHeader("a port that is none")
    try:
        if family == b"TCP4":
            return IPv4Address("TCP", str(IPv4(host.decode("ascii"))), int(port))
        if family == b"TCP6" and b"%" not in host:
            return IPv6Address("TCP", str(IPv6(host.decode("ascii"))), int(port))
    except ValueError:
        raise BadHeader("an address that is none") from None
    raise BadHeader("an unknown family")


def _parse_2(data: bytes) -> Header | None:
    if len(data) < _FIXED_2:
        return None
    command, family, length = unpack_from("!BBH", data, 12)
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("an unknown version or command")
    if _FIXED_2 + length > _LONGEST_2:
        raise BadHeader("a header that is too long")
    end = _FIXED_2 + length
    if command == _PROXY and _ADDRESS_SIZES.get(family, length + 1) > length:
        raise BadHeader("an unknown family, or addresses cut short")
    if len(data) < end:
        return None
    if command == _LOCAL:
        return end, None
    _check_vectors(data, _FIXED_2 + _ADDRESS_SIZES[family], end)
    return end, _address_2(data, family)


def _address_2(data: bytes, family: int) -> IAddress | None:
    if family == _TCP4:
        host, port = unpack_from("!4s4xH", data, _FIXED_2)
        return IPv4Address("TCP", str(IPv4(host)), port)
    if family == _TCP6:
        host, port = unpack_from("!16s16xH", data, _FIXED_2)
        return IPv6Address("TCP", str(IPv6(host)), port)
    return None


def _check_vectors(data: bytes, position: int, end: int) -> None:
    """What follows the addresses: type, length, value. Nothing of it is used."""
    while position < end:
        if position + 3 > end:
            raise BadHeader("an extension cut short")
        position += 3 + int.from_bytes(data[position + 1 : position + 3], "big")
    if position != end:
        raise BadHeader("an extension past the end")


class ProxyProtocol(Protocol):
    """One connection until its header is complete."""

    transport: Any

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._data = b""

    def connectionMade(self) -> None:
        broker = self._gate.broker
        self._gate.waiting.add(self)
        self._since = broker.seconds()
        timeout = self._gate.settings.limits.connect_timeout
        self._timer = broker.wheel.call_later(timeout, self._timed_out)

    def dataReceived(self, data: bytes) -> None:
        if self.transport.disconnecting:
            return
        self._data += data
        try:
            header = parse_header(self._data)
        except BadHeader as error:
            log.debug("The PROXY header of {peer}: {error}", peer=self._peer, error=error)
            self._refuse("proxy-header")
            return
        if header is not None:
            self._hand_over(*header)

    def _hand_over(self, size: int, source: IAddress | None) -> None:
        """Let the client in, and the protocol made for it take this one's place."""
        gate, transport = self._gate, self.transport
        rest, self._data = self._data[size:], b""
        self._leave()
        protocol = gate.let_in(source or self._peer, gate.broker.seconds() - self._since)
        if protocol is None:
            transport.loseConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    @property
    def _peer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def _timed_out(self) -> None:
        self._gate.refuse("connect-timeout")
        self.abort()

    def _refuse(self, reason: str) -> None:
        self._gate.refuse(reason)
        self._leave()
        self.transport.loseConnection()

    def _leave(self) -> None:
        self._timer.cancel()
        self._gate.waiting.discard(self)

    def abort(self) -> None:
        self._leave()
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
