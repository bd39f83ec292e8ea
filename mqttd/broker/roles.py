"""What the parts of the broker see of each other, where anything will do that has it.

Only types, and none of them is compiled: what a compiled module takes for a class of
another must be one, and here a stand-in may be something else.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mqttd.broker.delivery import Delivery
    from mqttd.broker.message import Message
    from mqttd.broker.session import Session
    from mqttd.broker.subscription import Target


class Publisher(Protocol):
    """Whoever can be made to wait: the connection a message came from."""

    session: Session

    def hold(self) -> None:
        """Read no more until ``unhold`` was called as often."""

    def unhold(self) -> None: ...


class Subscriber(Protocol):
    """What routing needs to know of a session; sessions are told apart by identity."""

    @property
    def client_id(self) -> str: ...

    @property
    def online(self) -> bool: ...

    @property
    def inflight(self) -> Sized: ...

    def deliver(self, message: Message, target: Target, /) -> None: ...


class Consumer(Protocol):
    """Who takes a session's messages while its client is here."""

    @property
    def writable(self) -> bool:
        """Whether the output takes more."""

    #: QoS 1 and 2 messages that may be unacknowledged at a time.
    window: int
    #: Protocol version, 3 to 5.
    version: int

    def send_message(self, delivery: Delivery, packet_id: int, dup: bool) -> bool:
        """Send; False when the client can not take it (too large)."""

    def send_pubrel(self, packet_id: int) -> None: ...

    def may_receive(self, delivery: Delivery) -> Any:
        """True, False, or a Deferred of it."""

    def overflowed(self) -> None:
        """The queue is full and the policy is to disconnect."""

    def later(self) -> None:
        """Call ``session.pump`` again in the next turn."""

    def failed(self) -> None:
        """Something of ours broke: the client can not be served."""
