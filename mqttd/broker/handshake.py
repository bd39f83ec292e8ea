"""CONNECT to CONNACK, and AUTH: how a client becomes a session's owner.

The first room of the protocol machine. The order of the checks matters, since
everything before authentication is open to anyone: form and version, client id,
authentication, will, session; only then anything that exists is touched.
Nothing here trusts what a checker, a method or an authorizer does: whatever
fails, refuses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.broker.access import Guard
from mqttd.broker.credentials import MQTTCredentials
from mqttd.broker.receiving import RESERVED_PREFIX, is_reserved
from mqttd.broker.revision import revise
from mqttd.broker.sessions import ClaimRefused
from mqttd.broker.wills import PendingWill
from mqttd.interfaces import (
    PUBLISH,
    Accepted,
    Avatar,
    Challenge,
    IAuthenticationMethod,
    IMQTTAvatar,
    LoginRefused,
    LoginUnavailable,
    Refuse,
)
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311, ReasonCode
from mqttd.wire.errors import ProtocolViolation, protocol_error
from mqttd.wire.packets import Auth, Connack, Connect, Disconnect, Packet, Properties, Will
from mqttd.wire.topics import check_topic_name

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.session import Session

log = Logger()

NEVER_EXPIRES = 0xFFFF_FFFF
#: The avatar of every client that nobody knows.
ANONYMOUS = Avatar()
MAXIMUM_WINDOW = 65_535

_PLACE_HOLDER = re.compile("%[cu]")


class Refused(Exception):
    """CONNECT is answered with *reason*; *label* names it in the metrics."""

    def __init__(
        self, reason: ReasonCode, text: str, label: str, properties: Properties | None = None
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.label = label
        self.properties = properties


def received(connection: Connection, packet: Packet) -> Deferred[None] | None:
    """A packet before CONNACK."""
    from mqttd.broker.connection import State

    if connection.state is State.NEW:
        if not isinstance(packet, Connect):  # [MQTT-3.1.0-1] [MQTT311-3.1.0-1]
            raise protocol_error(f"{packet.type.name} before CONNECT")
        connection.state = State.CONNECTING
        return connection.run(_guarded(connection, _connect(connection, packet)))
    if isinstance(packet, Auth) and connection.exchange is not None:
        return connection.run(_guarded(connection, _continue(connection, packet)))
    if isinstance(packet, Disconnect):
        connection.end("disconnect")
        connection.transport.close()
        return None
    raise protocol_error(f"{packet.type.name} before CONNACK")  # [MQTT-3.1.2-30]


async def _guarded(connection: Connection, work: Any) -> None:
    try:
        await work
    except Refused as refused:
        admission = connection.broker.admission
        if admission is not None and refused.label == "authentication":
            admission.login_failed(connection.transport.peer.address)
        connection.refuse(refused.reason, refused.text, refused.label, refused.properties)


def refuse_violation(connection: Connection, violation: ProtocolViolation) -> None:
    """A packet before CONNACK that breaks the rules."""
    version = connection.version or connection.transport.version
    if version and violation.reason is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
        # [MQTT-3.1.2-2] [MQTT311-3.1.2-2] return code 1, the form that is due by 3.1.1
        connection.version = MQTT311
    elif version >= MQTT5:
        connection.version = version
    else:
        # [MQTT311-3.1.4-1] [MQTT311-3.2.2-6] nothing in CONNACK fits, so it is not sent
        connection.broker.metrics.refused["protocol-error"] += 1
        connection.end("protocol-error")
        connection.transport.close()
        return
    connection.refuse(violation.reason, violation.text, "protocol-error")  # [MQTT-3.1.4-1]


async def _connect(connection: Connection, packet: Connect) -> None:
    connection.version = packet.version
    connection.is_bridge = packet.bridge
    properties = packet.properties
    connection.problem_information = properties.get("request_problem_information", 1) == 1
    window = connection.transport.listener.session.maximum_inflight or MAXIMUM_WINDOW
    # [MQTT-4.9.0-1]
    connection.window = min(window, properties.get("receive_maximum", MAXIMUM_WINDOW))
    settings = connection.transport.listener.protocol
    connection.maximum_aliases = min(
        settings.outbound_topic_alias_maximum, properties.get("topic_alias_maximum", 0)
    )
    limit = properties.get("maximum_packet_size")
    if limit is not None:
        connection.maximum_packet_size = limit
    _check_version(connection, packet)
    _check_redirection(connection)
    connection.client_id, assigned = _client_id(connection, packet)
    connection.user_name = packet.user_name
    _check_keep_alive(connection, packet)
    _check_admission(connection)
    if connection.broker.hooks.connect:
        await _ask_hooks(connection, "connect", packet)
    method = properties.get("authentication_method")
    if method is not None:
        await _start_exchange(connection, packet, assigned, method)
    else:
        avatar = await _authenticate(connection, packet)
        await finish(connection, packet, assigned, avatar, None)


# --- what can be checked at once ----------------------------------------------


def _check_version(connection: Connection, packet: Connect) -> None:
    settings = connection.transport.listener.protocol
    allowed = {
        MQTT31: settings.allow_mqtt31,
        MQTT311: settings.allow_mqtt311,
        MQTT5: settings.allow_mqtt5,
    }
    if not allowed[packet.version]:
        raise Refused(
            ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
            "this listener does not serve this protocol version",
            "version",
        )
    _check_draining(connection)


def _check_draining(connection: Connection) -> None:
    if connection.broker.draining:
        raise Refused(ReasonCode.SERVER_UNAVAILABLE, "the server is shutting down", "shutdown")


def _check_redirection(connection: Connection) -> None:
    settings = connection.transport.listener.protocol
    if settings.server_reference:
        reason = ReasonCode.SERVER_MOVED if settings.server_moved else ReasonCode.USE_ANOTHER_SERVER
        properties = Properties(server_reference=settings.server_reference)
        raise Refused(reason, "another server serves this client", "redirected", properties)


def _client_id(connection: Connection, packet: Connect) -> tuple[str, bool]:
    """The client identifier, and whether the server assigned it."""
    settings = connection.transport.listener.protocol
    client_id = packet.client_id
    if settings.user_name_as_client_id:
        client_id = connection.transport.peer.certificate_user or packet.user_name or ""
        if not client_id:
            text = "a user name is needed, which is the client identifier here"
            raise Refused(ReasonCode.NOT_AUTHORIZED, text, "client-id")
    if client_id:
        if len(client_id.encode()) > settings.maximum_client_id_length:
            raise _bad_client_id("the client identifier is too long")
        return client_id, not packet.client_id  # [MQTT-3.1.3-5] [MQTT311-3.1.3-5] and any other
    # [MQTT311-3.1.3-8] [MQTT311-3.1.3-9] [MQTT-3.1.3-8]
    if not settings.zero_length_client_id or packet.version == MQTT31:
        raise _bad_client_id("a client identifier is needed")
    if packet.version == MQTT311 and not packet.clean_start:  # [MQTT311-3.1.3-7]
        raise _bad_client_id("without a client identifier the session must be clean")
    while True:  # [MQTT-3.1.3-6] [MQTT-3.2.2-16] [MQTT311-3.1.3-6]
        client_id = settings.assigned_client_id_prefix + uuid4().hex
        if client_id not in connection.broker.sessions:
            return client_id, True


def _bad_client_id(text: str) -> Refused:
    return Refused(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, text, "client-id")


def _check_keep_alive(connection: Connection, packet: Connect) -> None:
    """What keep alive holds on this connection, seconds; 0 means none."""
    limit = connection.transport.listener.protocol.maximum_keep_alive
    keep_alive = packet.keep_alive
    if limit and not 0 < keep_alive <= limit:
        if packet.version < MQTT5:
            raise Refused(
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                f"the keep alive must be from 1 to {limit} seconds",
                "keep-alive",
            )
        keep_alive = limit
    connection.keep_alive = keep_alive  # [MQTT-3.2.2-22]


# --- who ------------------------------------------------------------------------


async def _authenticate(connection: Connection, packet: Connect) -> Any:
    """The avatar that certificate, user name and password stand for."""
    peer = connection.transport.peer
    if peer.certificate_user is not None:
        connection.user_name = peer.certificate_user
        return Avatar(principal=peer.certificate_user)
    portal = connection.broker.portal
    if portal is None:
        if connection.transport.listener.allow_anonymous:
            return ANONYMOUS
        raise _not_known()
    avatar: Any
    try:
        _, avatar, _ = await portal.login(_credentials(connection, packet), None, IMQTTAvatar)
    except LoginRefused as error:
        raise _login_refused(connection, error) from None
    except UnauthorizedLogin:
        raise _not_known() from None
    except Exception:
        # A portal that fails says no. [MQTT-3.1.4-2]
        log.failure("Authentication failed with an error; refused")
        raise _login_refused(connection, LoginUnavailable()) from None
    # What was proven counts, whatever CONNECT says of a user name.
    connection.user_name = avatar.principal
    return avatar


def _login_refused(connection: Connection, error: LoginRefused) -> Refused:
    if isinstance(error, LoginUnavailable):
        connection.broker.metrics.errors["authentication"] += 1
    return Refused(ReasonCode(error.reason), error.text, error.label)


def _credentials(connection: Connection, packet: Connect) -> MQTTCredentials:
    return MQTTCredentials(
        connection.client_id,
        (packet.user_name or "").encode(),
        packet.user_name is not None,
        packet.password,
        connection.transport.peer,
        connection.transport.listener,
        lambda: not connection.is_closed,
    )


def _not_known() -> Refused:
    # One answer for an unknown user and a wrong password.
    return Refused(
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        "user name or password is not right",
        "authentication",
    )


# --- enhanced authentication (section 4.12) ----------------------------------------


async def _start_exchange(
    connection: Connection, packet: Connect, assigned: bool, name: str
) -> None:
    method = connection.broker.methods.get(name)
    if method is None:
        raise Refused(
            ReasonCode.BAD_AUTHENTICATION_METHOD, "unknown method", "authentication-method"
        )  # [MQTT-4.12.0-1]
    connection.method = name
    exchange = _start(connection, method, _credentials(connection, packet))
    # What CONNECT asked waits with the exchange until it has succeeded.
    connection.exchange = (exchange, packet, assigned)
    await _step(connection, packet.properties.get("authentication_data"))


def _start(
    connection: Connection, method: IAuthenticationMethod, credentials: MQTTCredentials
) -> Any:
    try:
        return method.start(credentials)
    except UnauthorizedLogin:
        pass
    except Exception:
        _method_failed(connection)
    raise _not_authenticated()


def _method_failed(connection: Connection) -> None:
    log.failure("An authentication method failed; refused")
    connection.broker.metrics.errors["authentication"] += 1


def _not_authenticated() -> Refused:
    return Refused(ReasonCode.NOT_AUTHORIZED, "authentication failed", "authentication")


async def _continue(connection: Connection, packet: Auth) -> None:
    _check_auth(connection, packet, ReasonCode.CONTINUE_AUTHENTICATION)  # [MQTT-4.12.0-3]
    await _step(connection, packet.properties.get("authentication_data"))


def _check_auth(connection: Connection, packet: Auth, reason: ReasonCode) -> None:
    if packet.reason != reason:
        raise protocol_error(f"AUTH with reason 0x{packet.reason:02X}, not 0x{reason:02X}")
    if packet.properties.get("authentication_method") != connection.method:
        raise protocol_error("AUTH with another method than CONNECT")  # [MQTT-4.12.1-1]


async def _step(connection: Connection, data: bytes | None) -> None:
    """One step of an exchange, at CONNECT or later."""
    exchange, packet, assigned = connection.exchange
    answer = await _respond(connection, exchange, data)
    if connection.is_closed:
        return
    if isinstance(answer, Challenge):
        # [MQTT-4.12.0-2] [MQTT-4.12.0-5]
        connection.send(
            Auth(ReasonCode.CONTINUE_AUTHENTICATION, _auth_properties(connection, answer.data))
        )
        return
    connection.exchange = None
    if packet is not None:
        # What CONNECT says of a user name was not proven; the principal was.
        connection.user_name = answer.avatar.principal
        await finish(connection, packet, assigned, answer.avatar, answer.data)
    else:
        _reauthenticated(connection, answer)


async def _respond(
    connection: Connection, exchange: Any, data: bytes | None
) -> Challenge | Accepted:
    try:
        answer = exchange.respond(data)
        if isinstance(answer, Deferred):
            answer = await answer
    except UnauthorizedLogin:
        answer = None
    except Exception:
        _method_failed(connection)
        answer = None
    if not isinstance(answer, (Challenge, Accepted)):
        raise _not_authenticated()
    return answer  # [MQTT-4.12.0-4] by the exception


def _auth_properties(connection: Connection, data: bytes | None) -> Properties:
    properties = Properties()
    if connection.method is not None:
        properties["authentication_method"] = connection.method
    if data is not None:
        properties["authentication_data"] = data
    return properties


def reauthenticate(connection: Connection, packet: Auth) -> Deferred[None] | None:
    """AUTH on a connection that is up (section 4.12.1)."""
    return connection.run(_reauthenticate(connection, packet))


async def _reauthenticate(connection: Connection, packet: Auth) -> None:
    if connection.method is None:
        raise protocol_error("AUTH without an authentication method in CONNECT")  # [MQTT-4.12.0-7]
    begins = connection.exchange is None
    _check_auth(
        connection,
        packet,
        ReasonCode.REAUTHENTICATE if begins else ReasonCode.CONTINUE_AUTHENTICATION,
    )
    try:
        if begins:
            connection.exchange = (_start_again(connection, connection.method), None, False)
        await _step(connection, packet.properties.get("authentication_data"))
    except Refused as refused:  # [MQTT-4.12.1-2]
        connection.disconnect(refused.reason, refused.text, "authentication")


def _start_again(connection: Connection, name: str) -> Any:
    credentials = MQTTCredentials(
        connection.client_id,
        (connection.user_name or "").encode(),
        connection.user_name is not None,
        None,
        connection.transport.peer,
        connection.transport.listener,
    )
    return _start(connection, connection.broker.methods[name], credentials)


def _reauthenticated(connection: Connection, answer: Accepted) -> None:
    if answer.avatar.principal != connection.session.principal:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "another user than at CONNECT", "authentication")
    connection.guard.change_avatar(answer.avatar)
    connection.routes = None  # what the fast lane has learned holds no more
    broker = connection.broker
    broker.router.refresh(connection.session)
    Deferred.fromCoroutine(revise(broker, connection.session, connection.guard))
    _watch_expiry(connection, answer.avatar)
    connection.send(Auth(ReasonCode.SUCCESS, _auth_properties(connection, answer.data)))


# --- what then ----------------------------------------------------------------------


async def finish(
    connection: Connection, packet: Connect, assigned: bool, avatar: Any, data: bytes | None
) -> None:
    """The client is who it says: will, session, CONNACK."""
    if connection.is_closed:
        return
    listener = connection.transport.listener
    connection.guard = Guard(
        connection.broker.authorizer,
        avatar,
        connection.client_id,
        connection.transport.peer,
        listener.name or listener.endpoint,
        connection.broker.metrics,
        connection.broker.seconds,
    )
    connection.mount_point = _mount_point(connection, listener.mount_point)
    if connection.broker.hooks.authenticated:
        await _ask_hooks(connection, "authenticated")
    will = None if packet.will is None else await _will(connection, packet.will)
    if connection.is_closed:
        return
    if not packet.clean_start:
        await _recheck_subscriptions(connection, avatar.principal)
        if connection.is_closed:
            return
    _check_draining(connection)  # it may have begun while we waited
    admission = connection.broker.admission
    if admission is not None:
        refusal = admission.refuses_client(connection.client_id, avatar.principal)
        if refusal is not None:
            raise _not_admitted(refusal)
    # From here nothing waits until the session is ours: it never has two owners.
    session, present = _claim(connection, packet, avatar.principal)
    connection.accepted(session)
    if will is not None:
        connection.broker.wills.arm(session, will)
    else:
        connection.broker.wills.disarm(session)
    if session.durable and connection.broker.durability is not None:
        session.opened_by(listener)
        await connection.broker.durability.committed()
        if connection.is_closed:
            return
    _watch_expiry(connection, avatar)
    connection.transport.accepted(
        packet.version,
        connection.keep_alive * listener.protocol.keep_alive_factor,
        connection.maximum_packet_size,
        avatar.principal,
    )
    properties = _connack_properties(connection, packet, assigned, data)
    # [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    # [MQTT311-3.1.4-4] [MQTT311-3.2.0-1] [MQTT311-3.2.2-1] [MQTT311-3.2.2-2] [MQTT311-3.2.2-3]
    reported = present and connection.version != MQTT31  # 3.1 has no such flag
    if connection.send(Connack(reported, ReasonCode.SUCCESS, properties)):
        connection.start_delivery()
    else:
        # A client that can not take the CONNACK can not be served. [MQTT-3.1.2-24]
        connection.end("answer-too-large", will=False)
        connection.transport.close()


def _check_admission(connection: Connection) -> None:
    """Keep out whom we know, before it costs us a look for who it is."""
    admission = connection.broker.admission
    if admission is None:
        return
    address = connection.transport.peer.address
    refusal = admission.refuses_login(connection.client_id, connection.user_name, address)
    if refusal is not None:
        raise _not_admitted(refusal)


def _not_admitted(refusal: str) -> Refused:
    reason = ReasonCode.BANNED if refusal == "banned" else ReasonCode.QUOTA_EXCEEDED
    return Refused(reason, f"not let in: {refusal}", refusal)


async def _ask_hooks(connection: Connection, event: str, *arguments: Any) -> None:
    """Let the hooks of *event* refuse the client."""
    answer = connection.broker.hooks.ask(event, connection, *arguments)
    if isinstance(answer, Deferred):
        answer = await answer
    if isinstance(answer, Refuse):
        raise Refused(ReasonCode(answer.reason), answer.text, "hook")


def _mount_point(connection: Connection, pattern: str) -> str:
    """The mount point with client id and user name put in.

    Neither may bring a separator or a wildcard into the topic, or make it a $-topic.
    """
    if "%" not in pattern:
        return pattern
    names = {"%c": connection.client_id, "%u": connection.user_name or ""}
    if "%u" in pattern and not names["%u"]:
        raise _not_known()
    # In one pass: a name may hold what looks like a place holder.
    mount_point = _PLACE_HOLDER.sub(lambda found: names[found[0]], pattern)
    if any(
        holder in pattern and any(character in name for character in "/+#")
        for holder, name in names.items()
    ) or (mount_point.startswith("$") and not pattern.startswith("$")):
        raise Refused(
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
            "client identifier and user name may not hold / + # or begin with $ on this listener",
            "client-id",
        )
    return mount_point


async def _will(connection: Connection, will: Will) -> PendingWill:
    """*will*, checked as the PUBLISH that it will be."""
    settings = connection.transport.listener.protocol
    if will.qos > settings.maximum_qos:  # [MQTT-3.2.2-12]
        raise Refused(ReasonCode.QOS_NOT_SUPPORTED, "the QoS of the will is not supported", "will")
    if will.retain and not settings.retain_available:  # [MQTT-3.2.2-13]
        raise Refused(ReasonCode.RETAIN_NOT_SUPPORTED, "the will may not be retained", "will")
    levels, length = settings.maximum_topic_levels, settings.maximum_topic_length
    if check_topic_name(will.topic, levels, length) is not None:
        raise Refused(ReasonCode.TOPIC_NAME_INVALID, "the topic of the will is too long", "will")
    if 0 < settings.maximum_payload_size < len(will.payload):
        raise Refused(ReasonCode.PACKET_TOO_LARGE, "the payload of the will is too long", "will")
    topic = connection.mount_point + will.topic
    allowed: Any = not (
        will.topic.startswith(RESERVED_PREFIX) and is_reserved(will.topic, settings.dollar_topics)
    )
    if allowed:
        allowed = connection.guard.allowed(PUBLISH, topic, will.qos, will.retain)
    if isinstance(allowed, Deferred):
        allowed = await allowed
    if not allowed:
        raise Refused(ReasonCode.NOT_AUTHORIZED, "the will may not be published", "will")
    delay = will.properties.get("will_delay_interval", 0)
    delay = min(delay, settings.maximum_will_delay)
    return PendingWill(will, topic, connection.guard, delay, connection.mount_point)


def _claim(connection: Connection, packet: Connect, principal: str | None) -> tuple[Session, bool]:
    """Take the session over, from its present owner if need be."""
    broker = connection.broker
    client_id = connection.client_id
    if packet.version >= MQTT5:
        requested = packet.properties.get("session_expiry_interval", 0)
        expiry = granted_expiry(connection, requested)
    elif packet.clean_start:
        expiry = 0
    else:
        expiry = connection.transport.listener.protocol.persistent_session_expiry
    durability = broker.durability
    if durability is not None and durability.problem and expiry != 0:
        raise Refused(ReasonCode.QUOTA_EXCEEDED, "no session can be kept at present", "store")
    try:
        broker.sessions.check(client_id, principal, expiry, connection.mount_point)
    except ClaimRefused as refused:
        raise Refused(refused.reason, refused.text, "session") from None
    owner = broker.connections.get(client_id)
    if owner is not None:  # [MQTT-3.1.4-3] [MQTT311-3.1.4-2]
        if broker.hooks.session_taken_over:
            broker.hooks.tell(broker.hooks.session_taken_over, owner.session)
        owner.disconnect(ReasonCode.SESSION_TAKEN_OVER, "another connection", "taken-over")
    session, present = broker.sessions.claim(
        client_id, principal, packet.clean_start, connection.transport.listener.session, expiry
    )
    session.expiry = expiry
    session.mount_point = connection.mount_point
    return session, present


def granted_expiry(connection: Connection, requested: int) -> int | None:
    """The session expiry that we grant for *requested*; None means never."""
    limit = connection.transport.listener.protocol.maximum_session_expiry
    if limit is not None:
        return min(requested, limit)
    return None if requested == NEVER_EXPIRES else requested


async def _recheck_subscriptions(connection: Connection, principal: str | None) -> None:
    """Drop the subscriptions of the session to be resumed that are not allowed any more."""
    broker = connection.broker
    session = broker.sessions.get(connection.client_id)
    if session is None or (session.principal != principal and not broker.settings.share_sessions):
        return
    await revise(broker, session, connection.guard)


def _watch_expiry(connection: Connection, avatar: Any) -> None:
    if connection.expiry_timer is not None:
        connection.expiry_timer.cancel()
        connection.expiry_timer = None
    if avatar.expires_at is not None:
        connection.expiry_timer = connection.broker.wheel.call_at(
            avatar.expires_at,
            connection.disconnect,
            ReasonCode.NOT_AUTHORIZED,
            "the right to be connected has expired",
            "expired",
        )


def _connack_properties(
    connection: Connection, packet: Connect, assigned: bool, data: bytes | None
) -> Properties:
    if packet.version < MQTT5:
        return Properties()  # [MQTT311-7.0.0-2] nothing but the standard
    settings = connection.transport.listener.protocol
    asked = packet.properties
    properties = _auth_properties(connection, data)  # [MQTT-4.12.0-5] [MQTT-4.12.0-6]
    expiry = connection.session.expiry
    granted = NEVER_EXPIRES if expiry is None else expiry
    if granted != asked.get("session_expiry_interval", 0):
        properties["session_expiry_interval"] = granted
    if assigned:
        properties["assigned_client_identifier"] = connection.client_id  # [MQTT-3.1.3-7]
    if connection.keep_alive != packet.keep_alive:
        properties["server_keep_alive"] = connection.keep_alive  # [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    if settings.receive_maximum < 65_535:
        properties["receive_maximum"] = settings.receive_maximum
    if settings.topic_alias_maximum:
        properties["topic_alias_maximum"] = settings.topic_alias_maximum
    properties["maximum_packet_size"] = settings.maximum_packet_size
    if settings.maximum_qos < 2:  # [MQTT-3.2.2-9]
        properties["maximum_qos"] = settings.maximum_qos
    if not settings.retain_available:
        properties["retain_available"] = 0
    if not settings.wildcard_subscriptions:
        properties["wildcard_subscription_available"] = 0
    if not settings.subscription_identifiers:
        properties["subscription_identifier_available"] = 0
    if not settings.shared_subscriptions:
        properties["shared_subscription_available"] = 0
    if asked.get("request_response_information") and settings.response_information:
        properties["response_information"] = settings.response_information  # [MQTT-3.1.2-28]
    return properties
