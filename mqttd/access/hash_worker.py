"""The process in which passwords are compared: a line in, a line out.

``hashing.py`` starts it and speaks to it: hash and password, base64 each, with a
space between; the answer is 1 or 0, or "?" when it cannot be told. It ends when
its input does. Nothing of Twisted is in it, so that it is up at once.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode

from mqttd.access.passwords import matches


def main() -> None:
    """Answer until there is no more input; the argument is how nice to be."""
    os.nice(int(sys.argv[1]))
    for line in sys.stdin.buffer:
        encoded, password = map(b64decode, line.split(b" "))
        try:
            answer = b"1\n" if matches(encoded.decode(), password) else b"0\n"
        except Exception:
            # It would show nothing but the name of a library; the parent says the rest.
            answer = b"?\n"
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
