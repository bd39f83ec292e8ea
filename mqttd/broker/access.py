"""The guard of one client: asks the authorizer, and remembers the answers.

Every path by which a client publishes, subscribes or receives goes through its
guard. An answer is kept until the authorizer's epoch moves on; an authorizer
that fails refuses. The guard outlives the connection when a will or a retained
message must be judged by the rules of the one who sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.interfaces import AccessRequest, IAuthorizer, IMQTTAvatar, Peer

if TYPE_CHECKING:
    from mqttd.broker.metrics import Metrics

log = Logger()

#: Answers kept per client, where the authorizer has no ``cache_size``.
CACHE_SIZE = 256

Key = tuple[str, str, int, bool]


class LookedUp(NamedTuple):
    """An answer that came from elsewhere: it holds until *deadline*."""

    allowed: bool
    deadline: float


@implementer(IAuthorizer)
class AllowAll:
    """The authorizer that has no rules: it has no opinion, so all is allowed."""

    epoch = 0
    checks: frozenset[str] = frozenset()

    def authorize(self, request: AccessRequest) -> bool:
        return True


class Guard:
    """What one client may do."""

    __slots__ = (
        "_answers",
        "_epoch",
        "authorizer",
        "avatar",
        "client_id",
        "listener_name",
        "metrics",
        "peer",
        "seconds",
        "source",
    )

    def __init__(
        self,
        authorizer: IAuthorizer,
        avatar: IMQTTAvatar,
        client_id: str,
        peer: Peer | None,
        listener_name: str,
        metrics: Metrics,
        seconds: Callable[[], float] | None = None,
    ) -> None:
        """*seconds* is the broker's clock; without it, nothing is kept of answers that
        hold for a time only."""
        self.authorizer = authorizer
        self.avatar = avatar
        self.client_id = client_id
        self.peer = peer
        self.listener_name = listener_name
        self.metrics = metrics
        #: What a store keeps of it; see ``envelope``.
        self.source: bytes | None = None
        self.seconds = seconds
        self._epoch = authorizer.epoch
        self._answers: dict[Key, bool | LookedUp] | None = None

    def allowed(
        self, action: str, topic: str, qos: int = 0, retain: bool = False
    ) -> bool | Deferred[bool]:
        """Whether *action* on *topic* (with mount point) is allowed now."""
        authorizer = self.authorizer
        if action not in authorizer.checks or self.avatar.superuser:
            return True
        answers = self._answers
        if answers is None or self._epoch != authorizer.epoch:
            answers = self._answers = {}
            self._epoch = authorizer.epoch
        key = (action, topic, qos, retain)
        answer = answers.get(key)
        if answer is True or answer is False:
            return answer
        if answer is not None:
            if self.seconds is not None and self.seconds() < answer.deadline:
                return answer.allowed
            del answers[key]
        return self._ask(key)

    def settled(self, action: str, topic: str, qos: int = 0, retain: bool = False) -> bool:
        """Whether *action* is allowed now and until the rules change.

        So it need not be asked again, which is more than an answer that was
        looked up and holds for a time.
        """
        if self.allowed(action, topic, qos, retain) is not True:
            return False
        if action not in self.authorizer.checks or self.avatar.superuser:
            return True
        answers = self._answers
        return answers is not None and answers.get((action, topic, qos, retain)) is True

    def request(self, action: str, topic: str, qos: int = 0, retain: bool = False) -> AccessRequest:
        """The question that the authorizer gets."""
        return AccessRequest(
            self.avatar, self.client_id, self.peer, self.listener_name, action, topic, qos, retain
        )

    def change_avatar(self, avatar: IMQTTAvatar) -> None:
        """The client has authenticated anew: ask everything again."""
        self.avatar = avatar
        self.source = None
        self._answers = None

    def forget(self) -> None:
        """Give the memory of answers back: nobody will ask soon."""
        self._answers = None

    def _ask(self, key: Key) -> bool | Deferred[bool]:
        request = self.request(*key)
        try:
            answer: Any = self.authorizer.authorize(request)
        except Exception:
            log.failure("The authorizer failed on {request!r}; refused", request=request)
            self.metrics.errors["authorizer"] += 1
            return False
        if not isinstance(answer, Deferred):
            self._remember(key, answer is True, self._answers, self._epoch)
            return answer is True
        answer.addCallbacks(
            self._looked_up,
            self._failed,
            callbackArgs=(key, self._answers, self._epoch, self.avatar),
        )
        known = answer.result if answer.called and not answer.paused else None
        return known if isinstance(known, bool) else answer

    def _looked_up(
        self,
        answer: Any,
        key: Key,
        answers: dict[Key, bool | LookedUp] | None,
        epoch: int,
        avatar: IMQTTAvatar,
    ) -> bool | Deferred[bool]:
        if epoch != self.authorizer.epoch or avatar is not self.avatar:
            # By rules, or for somebody, of before: what holds now is to be asked.
            return self.allowed(*key)
        allowed = answer is True
        time_to_live = getattr(self.authorizer, "time_to_live", inf)
        if time_to_live == inf:
            self._remember(key, allowed, answers, epoch)
        elif time_to_live > 0 and self.seconds is not None:
            looked_up = LookedUp(allowed, self.seconds() + time_to_live)
            self._remember(key, looked_up, answers, epoch)
        return allowed

    def _remember(
        self,
        key: Key,
        answer: bool | LookedUp,
        answers: dict[Key, bool | LookedUp] | None,
        epoch: int,
    ) -> None:
        # An answer to a question of before, about other rules or another avatar,
        # is not for the cache of now.
        if epoch != self.authorizer.epoch or answers is None or answers is not self._answers:
            return
        if len(answers) >= getattr(self.authorizer, "cache_size", CACHE_SIZE):
            # The oldest goes: with more topics than that, asking is the rule.
            del answers[next(iter(answers))]
        answers[key] = answer

    def _failed(self, failure: Any) -> bool:
        log.failure("The authorizer failed; refused", failure=failure)
        self.metrics.errors["authorizer"] += 1
        return False
