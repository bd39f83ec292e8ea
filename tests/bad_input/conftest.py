"""Fixtures of the bad-input tests."""

from __future__ import annotations

from tests.broker.conftest import bare, logged_failures

__all__ = ["bare", "logged_failures"]
