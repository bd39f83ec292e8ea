"""Bytes and packets: the MQTT codec, without input or output of its own."""
