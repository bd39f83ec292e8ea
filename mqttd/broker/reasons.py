"""Why connections end or are refused and messages dropped: every reason, and its meaning.

These are the labels that ``Metrics`` counts under, which operators read at ``/metrics``
and on ``$SYS``; the reference is written from here. A test holds the code to the lists.
Hooks, authenticators and plugins may add reasons of their own.
"""

from __future__ import annotations

#: ``Metrics.closed``. What a refusal ends is counted under its reason in ``REFUSED``.
CLOSED = {
    "aborted": "The broker cut the connection: a stop, a listener that closed, or a client "
    "that went on sending after it was told to go.",
    "administrative-action": "An operator ended it, by the API, mqttctl or the dashboard.",
    "answer-too-large": "The client takes no packet as large as its CONNACK.",
    "authentication": "The client did not prove who it is when it was to do so again.",
    "banned": "A ban that came meanwhile holds for it.",
    "certificate-name": "Its certificate has no usable name where it is to be the user name.",
    "closed-by-client": "The client closed without DISCONNECT.",
    "connect-timeout": "There was no CONNECT, or no end of the login, in time.",
    "connection-lost": "The network or the operating system says that the client is gone.",
    "disconnect": "The client took leave with DISCONNECT.",
    "error": "Something of the broker's own broke; the log has it.",
    "keep-alive": "Nothing came from the client for longer than its keep alive allows.",
    "kicked": "A hook or the embedding program ended it.",
    "protocol-error": "The client broke the rules of MQTT.",
    "queue-full": "Too many messages waited for it, and overflow is disconnect.",
    "revoked": "Its user, or what vouched for it, is gone.",
    "send-timeout": "The client took nothing from the network for limits.send_timeout.",
    "shutdown": "The broker took leave.",
    "taken-over": "The client came again on another connection.",
    "tls-error": "TLS failed.",
}

#: Reasons in ``CLOSED`` that are failures, whose last packets are worth keeping; those of
#: a broken rule and of an error are kept where they happen.
FAILURES = frozenset({"keep-alive", "queue-full", "send-timeout"})

#: ``Metrics.refused``.
REFUSED = {
    "access-rule": "The access rules of the listener keep its address out.",
    "authentication": "Wrong user name, password, certificate or token.",
    "authentication-busy": "Too many logins waited to be checked.",
    "authentication-error": "Whoever is asked about users could not answer.",
    "authentication-method": "The client wants a method of authentication that there is not.",
    "banned": "The address, client id or user is banned.",
    "certificate-name": CLOSED["certificate-name"],
    "client-id": "The client id is not allowed: too long, empty, or not the user's.",
    "connect-timeout": CLOSED["connect-timeout"],
    "error": CLOSED["error"],
    "failed-logins": "Its address had too many failed logins lately.",
    "hook": "A hook said no.",
    "keep-alive": "A client below 5.0 wants a keep alive over the maximum.",
    "maximum-connections": "The listener has as many connections as it may.",
    "maximum-connections-per-address": "Its address has as many connections as it may.",
    "maximum-connections-per-user": "Its user has as many connections as he may.",
    "protocol-error": "What came first was no CONNECT, or one that breaks the rules.",
    "proxy-header": "There was no PROXY header that can be read.",
    "proxy-source": "It came from where no proxy is expected.",
    "redirected": "It was sent to another server.",
    "session": "The session belongs to another user, or as many are kept as may be.",
    "shutdown": "The broker is about to stop.",
    "store": "No session can be kept at present: the disk.",
    "version": "The listener does not serve this version of MQTT.",
    "websocket-request": "The WebSocket request is not one for MQTT: path, subprotocol, origin.",
    "will": "The will is too large, or may not be published or retained.",
    # Ends of a connection that was accepted, and whose CONNACK was not sent yet.
    "administrative-action": CLOSED["administrative-action"],
    "kicked": CLOSED["kicked"],
    "queue-full": CLOSED["queue-full"],
    "revoked": CLOSED["revoked"],
    "taken-over": CLOSED["taken-over"],
}

#: ``Metrics.dropped``.
DROPPED = {
    "answer-too-large": "An answer larger than the client takes.",
    "damaged": "What the store had of the message makes no sense.",
    "delayed-lost": "A delayed message that no store kept, at a stop.",
    "denied": "The rules in force now do not let the subscriber have it.",
    "expired": "Its message expiry interval was over.",
    "hook": "A hook refused it.",
    "not-authorized": "Its publisher may not publish to the topic.",
    "offline": "QoS 0, and the subscriber was away.",
    "payload-format-invalid": "It says to be UTF-8 and is not, and that is checked.",
    "presence": "More clients came and went than $SYS may tell of.",
    "queue-full": "Too many messages wait for the subscriber.",
    "quota-exceeded": "Its publisher's quota is used up, it is too large, or nothing can be "
    "kept at present.",
    "retained-bytes": "There are as many bytes of retained messages as there may be.",
    "retained-count": "There are as many retained messages as there may be.",
    "retained-payload": "Too large to be retained; those who are connected got it.",
    "session-ended": "The session that it waited for ended.",
    "store": "The store could not keep it.",
    "system-topic": "More $SYS messages than may be sent at once.",
    "thinned": "The subscription wished for fewer: max-rate, conflate, sample.",
    "too-large": "Larger than the subscriber takes.",
    "topic-name-invalid": "Its topic is too long, has too many levels, or is none.",
    "webhook": "The queue of a webhook was full, or its server did not take it.",
    "will-denied": "A will whose publisher may not publish it any more, or that a hook refused.",
}
