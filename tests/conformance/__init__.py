"""Conformance: every normative statement, the code that obeys it, the tests that show it.

``python -m tests.conformance`` prints the table; ``statements.toml`` holds the
statements; the ``test_*.py`` files beside it go through the chapters of the
specifications on a virtual broker.
"""
