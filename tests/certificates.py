"""The certificates of ``mqttd.testing``, under the name that the tests know."""

from __future__ import annotations

from mqttd.testing.certificates import Authority, Issued, common_name, dns

__all__ = ["Authority", "Issued", "common_name", "dns"]
