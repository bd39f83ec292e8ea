"""Token buckets: how much may pass, and how long to wait when it was too much.

The protocol asks; nothing here waits or pauses by itself. The bucket is
emqttd's: debt is paid by waiting, and what flows in during the pause belongs to
the pause, so that the configured rate is held exactly over time.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from mqttd.settings import ConnectionLimits, Rate, SharedLimits


class TokenBucket:
    """*rate* units per second on average, *burst* at once after a rest.

    Both may be read; ``change`` changes them at any time.
    """

    __slots__ = ("__weakref__", "_seconds", "_since", "_tokens", "burst", "rate")

    def __init__(self, rate: Rate, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.rate = rate.rate
        self.burst = self._tokens = rate.burst or rate.rate
        self._since = seconds()

    def change(self, rate: Rate) -> None:
        """Take *rate* from now on; savings (up to its burst) and debts are kept."""
        now = self._seconds()
        saved = self._tokens + self.rate * (now - self._since)
        self.rate = rate.rate
        self.burst = rate.burst or rate.rate
        if saved >= 0.0:
            self._tokens, self._since = min(saved, self.burst), now
        else:
            self._tokens, self._since = 0.0, now - saved / self.rate

    @property
    def debt(self) -> float:
        """Seconds until the debt is paid; 0 without one."""
        return max(0.0, self._since - self._seconds())

    @property
    def is_full(self) -> bool:
        """Nobody has taken anything for long: nothing is lost by forgetting it."""
        return self.saved >= self.burst

    @property
    def saved(self) -> float:
        """What may be taken now without a wait; below 0 is a debt."""
        now = self._seconds()
        return min(self.burst, self._tokens + self.rate * (now - self._since))

    def wait_for(self, amount: float) -> float:
        """Seconds until *amount* (or the burst, if that is less) is saved."""
        return max(0.0, (min(amount, self.burst) - self.saved) / self.rate)

    def take(self, amount: float) -> float:
        """Take *amount*; seconds to wait before the next may pass, 0 for none."""
        now = self._seconds()
        tokens = min(self.burst, self._tokens + self.rate * (now - self._since))
        if tokens >= amount:
            self._tokens = tokens - amount
            self._since = now
            return 0.0
        # Several who share the bucket may be in debt at once: each waits behind
        # what the others owe, since the clock stands at the end of their pause.
        pause = (amount - tokens) / self.rate
        self._tokens = 0.0
        self._since = now + pause
        return pause


class Limiter:
    """The buckets of one connection in one direction.

    Of bytes and of messages: its own, which may be changed, and those that it
    shares by its address and its user.
    """

    __slots__ = ("_own", "_seconds", "bytes", "messages")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._own: tuple[TokenBucket | None, TokenBucket | None] = (None, None)
        self.bytes: list[TokenBucket] = []
        self.messages: list[TokenBucket] = []

    @property
    def is_limited(self) -> bool:
        return bool(self.bytes or self.messages)

    @property
    def rates(self) -> tuple[Rate | None, Rate | None]:
        """Its own rates: of bytes, and of messages."""
        bytes, messages = self._own
        return _rate_of(bytes), _rate_of(messages)

    def change(self, bytes: Rate | None, messages: Rate | None) -> None:
        """Take these as its own rates from now on."""
        own = self._own
        self._own = (
            self._changed(own[0], self.bytes, bytes),
            self._changed(own[1], self.messages, messages),
        )

    def _changed(
        self, bucket: TokenBucket | None, buckets: list[TokenBucket], rate: Rate | None
    ) -> TokenBucket | None:
        if rate is None:
            if bucket is not None:
                buckets.remove(bucket)
            return None
        if bucket is None:
            bucket = TokenBucket(rate, self._seconds)
            buckets.append(bucket)
        else:
            bucket.change(rate)
        return bucket

    def share(self, bytes: TokenBucket | None, messages: TokenBucket | None) -> None:
        """Be limited by these as well."""
        if bytes is not None:
            self.bytes.append(bytes)
        if messages is not None:
            self.messages.append(messages)

    @property
    def debt(self) -> float:
        """Seconds until nothing is owed to any bucket."""
        return max((bucket.debt for bucket in (*self.bytes, *self.messages)), default=0.0)

    def take_bytes(self, amount: int) -> float:
        """Seconds to pause after *amount* bytes."""
        return max((bucket.take(amount) for bucket in self.bytes), default=0.0)

    def take_messages(self, amount: int) -> float:
        """Seconds to pause after *amount* PUBLISH packets."""
        return max((bucket.take(amount) for bucket in self.messages), default=0.0)


def _rate_of(bucket: TokenBucket | None) -> Rate | None:
    return None if bucket is None else Rate(bucket.rate, bucket.burst)


Pair = tuple[TokenBucket | None, TokenBucket | None]


class SharedBuckets:
    """The buckets that all connections of a user, or of an address, share."""

    #: Names kept before those that nobody has used for long are forgotten.
    ROOM = 10_000

    def __init__(
        self, bytes: Rate | None, messages: Rate | None, seconds: Callable[[], float]
    ) -> None:
        self._rates = (bytes, messages)
        self._seconds = seconds
        self._pairs: dict[str, Pair] = {}
        #: What was forgotten while a connection has it: it must not be limited by
        #: one bucket and the next connection of its name by another.
        self._in_use: WeakValueDictionary[tuple[str, int], TokenBucket] = WeakValueDictionary()
        self._room = self.ROOM

    def __len__(self) -> int:
        """Names known."""
        return len(self._pairs)

    @property
    def is_needed(self) -> bool:
        return self._rates != (None, None)

    def change(self, bytes: Rate | None, messages: Rate | None) -> None:
        """Take these rates from now on.

        A rate where there was none, or none where there was one, is for the
        connections to come.
        """
        if (bytes, messages) == self._rates:
            return
        self._rates = (bytes, messages)
        # What connections have is found again by ``of``; the rest may go.
        pairs, self._pairs = self._pairs, {}
        for name, pair in pairs.items():
            self._note_use(name, pair)
        for (_, which), bucket in list(self._in_use.items()):
            rate = self._rates[which]
            if rate is not None:
                bucket.change(rate)

    def of(self, name: str) -> Pair:
        """The buckets of *name*."""
        pair = self._pairs.get(name)
        if pair is None:
            if len(self._pairs) >= self._room:
                self._forget()
            pair = self._pairs[name] = (self._bucket(name, 0), self._bucket(name, 1))
        return pair

    def _bucket(self, name: str, which: int) -> TokenBucket | None:
        rate = self._rates[which]
        if rate is None:
            return None
        return self._in_use.get((name, which)) or TokenBucket(rate, self._seconds)

    def _note_use(self, name: str, pair: Pair) -> None:
        for which, bucket in enumerate(pair):
            if bucket is not None:
                self._in_use[name, which] = bucket

    def _forget(self) -> None:
        # A full bucket is as good as a new one. Doubling keeps the scans rare.
        kept: dict[str, Pair] = {}
        for name, pair in self._pairs.items():
            if any(bucket is not None and not bucket.is_full for bucket in pair):
                kept[name] = pair
            else:
                self._note_use(name, pair)
        self._pairs = kept
        self._room = max(self.ROOM, 2 * len(kept))


class Limits:
    """Makes the limiters of a broker's connections; one per broker."""

    def __init__(self, settings: SharedLimits, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._users = SharedBuckets(
            settings.user_inbound_bytes, settings.user_inbound_messages, seconds
        )
        self._addresses = SharedBuckets(
            settings.address_inbound_bytes, settings.address_inbound_messages, seconds
        )

    def change(self, settings: SharedLimits) -> None:
        """Take other rates, as ``SharedBuckets`` does."""
        self._users.change(settings.user_inbound_bytes, settings.user_inbound_messages)
        self._addresses.change(settings.address_inbound_bytes, settings.address_inbound_messages)

    def limiter(self) -> Limiter:
        """A limiter that limits nothing yet."""
        return Limiter(self._seconds)

    def for_connection(self, limits: ConnectionLimits, address: str) -> Limiter | None:
        """The limiter of a new connection; None when it has no limit."""
        if (
            limits.inbound_bytes is None
            and limits.inbound_messages is None
            and not self._addresses.is_needed
        ):
            return None
        limiter = self.limiter()
        limiter.change(limits.inbound_bytes, limits.inbound_messages)
        if self._addresses.is_needed:
            limiter.share(*self._addresses.of(address))
        return limiter

    def join_user(self, limiter: Limiter | None, user: str | None) -> Limiter | None:
        """The limiter of a connection that has turned out to be *user*'s."""
        if user is None or not self._users.is_needed:
            return limiter
        limiter = limiter or self.limiter()
        limiter.share(*self._users.of(user))
        return limiter
