"""The data types of MQTT: how strings, binary data and integers lie in bytes.

The parser and the property codec read with these functions, the serializer
writes with them (MQTT 5.0 section 1.5). Readers take ``(data, position, end)``
and return ``(value, next position)``; *end* is where the enclosing packet or
property block ends, which may be before the end of *data*. They know nothing
of packets.

Control characters and non-characters are let through: both specifications
only advise against them. U+0000 and surrogates are refused.
"""

from __future__ import annotations

from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH
from mqttd.wire.errors import malformed

#: The longest string or binary datum, bytes.
MAXIMUM_STRING = 65_535


def decode_utf8(data: bytes) -> str:
    """*data* as text; raises ``ProtocolViolation`` (0x81) when it is not MQTT's UTF-8."""
    try:
        # The strict codec refuses surrogates and overlong forms, and keeps a BOM.
        text = str(
            data, "utf-8"
        )  # [MQTT-1.5.4-1] [MQTT-1.5.4-3] [MQTT311-1.5.3-1] [MQTT311-1.5.3-3]
    except UnicodeDecodeError:
        raise malformed("a string is not valid UTF-8") from None
    if "\0" in text:  # [MQTT-1.5.4-2] [MQTT311-1.5.3-2] [MQTT-4.7.3-2] [MQTT311-4.7.3-2]
        raise malformed("a string contains U+0000")
    return text


def read_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A UTF-8 Encoded String (section 1.5.4)."""
    start = position + 2
    if start > end:
        raise malformed("a string is cut off")
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise malformed("a string runs past the end of its packet")
    return decode_utf8(data[start:stop]), stop


def read_binary(data: bytes, position: int, end: int) -> tuple[bytes, int]:
    """Binary Data (section 1.5.6)."""
    start = position + 2
    if start > end:
        raise malformed("binary data is cut off")
    stop = start + (data[position] << 8 | data[position + 1])
    if stop > end:
        raise malformed("binary data runs past the end of its packet")
    return data[start:stop], stop


def read_two_bytes(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A Two Byte Integer (section 1.5.2)."""
    stop = position + 2
    if stop > end:
        raise malformed("a two byte integer is cut off")
    return data[position] << 8 | data[position + 1], stop


def read_variable_byte_integer(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A Variable Byte Integer (section 1.5.5), at most four bytes and minimal."""
    value = 0
    shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:  # [MQTT-1.5.5-1]
                raise malformed("a variable byte integer is longer than it need be")
            return value, position
        shift += 7
        if shift == 28:
            raise malformed("a variable byte integer has more than four bytes")
    raise malformed("a variable byte integer is cut off")


def variable_byte_integer(value: int) -> bytes:
    """*value* as a Variable Byte Integer; ``ValueError`` when it has no such form."""
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value <= MAXIMUM_REMAINING_LENGTH:
        raise ValueError(f"{value} does not fit a variable byte integer")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)  # [MQTT-1.5.5-1]
    return bytes(encoded)


def encode_binary(data: bytes) -> bytes:
    """*data* with its length in front; ``ValueError`` above 65,535 bytes."""
    size = len(data)
    if size > MAXIMUM_STRING:  # [MQTT-4.7.3-3] [MQTT311-4.7.3-3]
        raise ValueError(f"{size} bytes do not fit a string or binary field of 65535")
    return size.to_bytes(2, "big") + data


def encode_string(text: str) -> bytes:
    """*text* as a UTF-8 Encoded String.

    ``ValueError`` above 65,535 bytes, and for U+0000 or a surrogate.
    """
    if "\0" in text:  # [MQTT-1.5.4-2] [MQTT311-1.5.3-2]
        raise ValueError("U+0000 cannot be part of a string")
    # UnicodeEncodeError, for a surrogate, is a ValueError.
    return encode_binary(text.encode("utf-8"))  # [MQTT-1.5.4-1] [MQTT311-1.5.3-1]


def encode_integer(value: int, size: int) -> bytes:
    """*value* in *size* bytes, big endian; ``ValueError`` when it does not fit."""
    if not 0 <= value < 1 << 8 * size:
        raise ValueError(f"{value} does not fit an integer of {size} bytes")
    return value.to_bytes(size, "big")
