"""Hypothesis strategies for packets, as a client or a server may send them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TOPIC = st.text(
    st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=40
)
BYTES = st.binary(max_size=300)
PACKET_ID = st.integers(1, 0xFFFF)
QOS = st.integers(0, 2)

_TWO = st.integers(0, 0xFFFF)
_FOUR = st.integers(0, 0xFFFFFFFF)
_BIT = st.integers(0, 1)
_PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)
_IDENTIFIER = st.integers(1, 268_435_455)


def _properties(version: int, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Some of *values* and user properties, in any order; nothing below 5.0."""
    if version < 5:
        return st.just({})
    values["user_property"] = _PAIRS
    names = st.lists(st.sampled_from(sorted(values)), unique=True, max_size=len(values))
    return names.flatmap(lambda chosen: st.fixed_dictionaries({n: values[n] for n in chosen}))


def _message(version: int, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return _properties(
        version,
        payload_format_indicator=_BIT,
        message_expiry_interval=_FOUR,
        content_type=TEXT,
        response_topic=TOPIC,
        correlation_data=BYTES,
        **values,
    )


def connects(version: int) -> st.SearchStrategy[Connect]:
    will = st.builds(
        Will, TOPIC, BYTES, QOS, st.booleans(), _message(version, will_delay_interval=_FOUR)
    )
    properties = _properties(
        version,
        session_expiry_interval=_FOUR,
        receive_maximum=st.integers(1, 0xFFFF),
        maximum_packet_size=st.integers(1, 0xFFFFFFFF),
        topic_alias_maximum=_TWO,
        request_response_information=_BIT,
        request_problem_information=_BIT,
        authentication_method=TEXT,
    )
    built = st.builds(
        Connect,
        client_id=TEXT,
        version=st.just(version),
        clean_start=st.booleans(),
        keep_alive=_TWO,
        will=st.none() | will,
        user_name=st.none() | TEXT,
        password=st.none() | BYTES,
        properties=properties,
        bridge=st.booleans() if version < 5 else st.just(False),
    )
    if version == 5:
        return built
    return built.filter(lambda packet: packet.user_name is not None or packet.password is None)


def publishes(version: int, server: bool) -> st.SearchStrategy[Publish]:
    values: dict[str, st.SearchStrategy[Any]] = {"topic_alias": st.integers(1, 0xFFFF)}
    if server:
        values["subscription_identifier"] = st.lists(_IDENTIFIER, min_size=1, max_size=3)
    properties = _message(version, **values)
    unacknowledged = st.builds(
        Publish, TOPIC, BYTES, st.just(0), st.booleans(), properties=properties
    )
    acknowledged = st.builds(
        Publish,
        TOPIC,
        BYTES,
        st.integers(1, 2),
        st.booleans(),
        st.booleans(),
        PACKET_ID,
        properties,
    )
    return unacknowledged | acknowledged


def _acknowledgements(version: int) -> st.SearchStrategy[Packet]:
    properties = _properties(version, reason_string=TEXT)

    def one(kind: Any, codes: list[int]) -> st.SearchStrategy[Any]:
        return st.builds(
            kind, PACKET_ID, st.sampled_from(codes if version == 5 else [0]), properties
        )

    return st.one_of(
        one(Puback, [0, 0x10, 0x87]),
        one(Pubrec, [0, 0x10, 0x97]),
        one(Pubrel, [0, 0x92]),
        one(Pubcomp, [0, 0x92]),
    )


def from_client(version: int) -> st.SearchStrategy[Packet]:
    """Anything that a client may send after CONNECT."""
    options: dict[str, st.SearchStrategy[Any]] = {}
    if version == 5:
        options = {
            "no_local": st.booleans(),
            "retain_as_published": st.booleans(),
            "retain_handling": st.integers(0, 2),
        }
    requests = st.builds(SubscriptionRequest, TOPIC, QOS, **options).filter(
        lambda r: not (r.no_local and r.topic_filter.startswith("$share/"))
    )
    packets: list[st.SearchStrategy[Any]] = [
        publishes(version, server=False),
        _acknowledgements(version),
        st.builds(
            Subscribe,
            PACKET_ID,
            st.lists(requests, min_size=1, max_size=5),
            _properties(
                version, subscription_identifier=st.lists(_IDENTIFIER, min_size=1, max_size=1)
            ),
        ),
        st.builds(
            Unsubscribe, PACKET_ID, st.lists(TEXT, min_size=1, max_size=5), _properties(version)
        ),
        st.just(Pingreq()),
    ]
    if version == 5:
        disconnect = _properties(5, session_expiry_interval=_FOUR, reason_string=TEXT)
        packets.append(st.builds(Disconnect, st.sampled_from([0, 4, 0x93]), disconnect))
        packets.append(
            st.builds(
                Auth,
                st.sampled_from([0x18, 0x19]),
                st.fixed_dictionaries(
                    {"authentication_method": TEXT}, optional={"authentication_data": BYTES}
                ),
            )
        )
    else:
        packets.append(st.just(Disconnect()))
    return st.one_of(packets)


def from_server(version: int) -> st.SearchStrategy[Packet]:
    """Anything that a server may send."""
    five = version == 5
    codes = st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=5)
    packets: list[st.SearchStrategy[Any]] = [
        publishes(version, server=True),
        _acknowledgements(version),
        st.builds(
            Connack,
            st.just(False),
            st.sampled_from([0, 0x80, 0x9D] if five else [0, 1, 5]),
            _properties(
                version,
                assigned_client_identifier=TEXT,
                server_keep_alive=_TWO,
                maximum_qos=_BIT,
                shared_subscription_available=_BIT,
                server_reference=TEXT,
            ),
        ),
        st.builds(Suback, PACKET_ID, codes, _properties(version, reason_string=TEXT)),
        st.just(Pingresp()),
    ]
    if five:
        removed = st.lists(st.sampled_from([0, 0x11, 0x87]), min_size=1, max_size=5)
        packets.append(st.builds(Unsuback, PACKET_ID, removed, _properties(5, reason_string=TEXT)))
    else:
        packets.append(st.builds(Unsuback, PACKET_ID))
    return st.one_of(packets)
