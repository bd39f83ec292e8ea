"""The guard of one client: asks the authorizer, and remembers the answers.

Every path by which a client publishes, subscribes or receives goes through its
guard. An answer is kept until the authorizer's epoch moves on; an authorizer
that fails refuses. The guard outlives the connection when a will or a retained
message must be judged by the rules of the one who sent it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.interfaces import AccessRequest, IAuthorizer, IMQTTAvatar, Peer

if TYPE_CHECKING:
    from mqttd.broker.metrics import Metrics

log = Logger()

#: Answers kept per client.
CACHE_SIZE = 256


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
    )

    def __init__(
        self,
        authorizer: IAuthorizer,
        avatar: IMQTTAvatar,
        client_id: str,
        peer: Peer | None,
        listener_name: str,
        metrics: Metrics,
    ) -> None:
        self.authorizer = authorizer
        self.avatar = avatar
        self.client_id = client_id
        self.peer = peer
        self.listener_name = listener_name
        self.metrics = metrics
        self._epoch = authorizer.epoch
        self._answers: dict[tuple[str, str, int, bool], bool] | None = None

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
        if answer is not None:
            return answer
        return self._ask(key)

    def change_avatar(self, avatar: IMQTTAvatar) -> None:
        """The client has authenticated anew: ask everything again."""
        self.avatar = avatar
        self._answers = None

    def _ask(self, key: tuple[str, str, int, bool]) -> bool | Deferred[bool]:
        action, topic, qos, retain = key
        request = AccessRequest(
            self.avatar, self.client_id, self.peer, self.listener_name, action, topic, qos, retain
        )
        try:
            answer = self.authorizer.authorize(request)
        except Exception:
            log.failure("The authorizer failed on {request!r}; refused", request=request)
            self.metrics.errors["authorizer"] += 1
            return False
        if isinstance(answer, Deferred):
            return answer.addCallbacks(
                self._remember, self._failed, callbackArgs=(key, self._answers, self._epoch)
            )
        return self._remember(answer, key, self._answers, self._epoch)

    def _remember(
        self,
        answer: Any,
        key: tuple[str, str, int, bool],
        answers: dict[tuple[str, str, int, bool], bool] | None,
        epoch: int,
    ) -> bool:
        allowed = answer is True
        # An answer to a question of before, about other rules or another avatar,
        # is not for the cache of now.
        if epoch == self.authorizer.epoch and answers is not None and answers is self._answers:
            if len(answers) >= CACHE_SIZE:
                # The oldest goes: with more topics than that, asking is the rule.
                del answers[next(iter(answers))]
            answers[key] = allowed
        return allowed

    def _failed(self, failure: Any) -> bool:
        log.failure("The authorizer failed; refused", failure=failure)
        self.metrics.errors["authorizer"] += 1
        return False
