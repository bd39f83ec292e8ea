"""pyOpenSSL's ``Connection``, with its four calls for data made the short way.

For each message over TLS there are four: ciphertext in, plain text out of it, and the
same back. pyOpenSSL makes a new buffer for each, locks it, and asks OpenSSL afterwards
whether what has gone well has gone wrong: half of what a message over TLS took beside
the encryption. Here one buffer serves all connections, and pyOpenSSL is left to find out
what is the matter only when something is. All else is ``Connection``.

That asks for what is pyOpenSSL's and cryptography's own business, of which they promise
nothing. So it is in this file alone, and where anything of it is missing ``in_memory``
gives what pyOpenSSL has, which does the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from OpenSSL import SSL

#: Bytes that are read at once; a record has half as many at most.
SIZE: Final = 2**15

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
_ATTRIBUTES = ("_ssl", "_into_ssl", "_from_ssl", "_raise_ssl_error")
_FUNCTIONS = ("SSL_read", "SSL_write", "BIO_read", "BIO_write")

_HAS_FUNCTIONS = _ffi is not None and all(hasattr(_lib, name) for name in _FUNCTIONS)
if _HAS_FUNCTIONS:
    _ssl_read, _ssl_write = _lib.SSL_read, _lib.SSL_write
    _bio_read, _bio_write = _lib.BIO_read, _lib.BIO_write
    _unpack = _ffi.unpack
    # For all of them: none is in use by two threads, and what is read leaves it at once.
    _buffer = _ffi.new("char[]", SIZE)


class BriefConnection(SSL.Connection):
    """A connection in memory, of the reactor's thread. Takes ``bytes`` only."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        if flags or bufsiz > SIZE:
            return super().recv(bufsiz, flags)
        got = _ssl_read(self._ssl, _buffer, bufsiz)
        if got <= 0:
            self._raise_ssl_error(self._ssl, got)
        data: bytes = _unpack(_buffer, got)
        return data

    def send(self, buf: bytes, flags: int = 0) -> int:  # type: ignore[override]
        sent: int = _ssl_write(self._ssl, buf, len(buf))
        if sent <= 0:
            self._raise_ssl_error(self._ssl, sent)
        return sent

    def bio_read(self, bufsiz: int) -> bytes:
        if bufsiz <= SIZE:
            got = _bio_read(self._from_ssl, _buffer, bufsiz)
            if got > 0:
                data: bytes = _unpack(_buffer, got)
                return data
        return super().bio_read(bufsiz)

    def bio_write(self, buf: bytes) -> int:  # type: ignore[override]
        written: int = _bio_write(self._into_ssl, buf, len(buf))
        return written if written > 0 else super().bio_write(buf)


def in_memory(context: SSL.Context) -> SSL.Connection:
    """A connection in memory: brief if it can be."""
    return (BriefConnection if _fits() else SSL.Connection)(context, None)


@cache
def _fits() -> bool:
    """Whether pyOpenSSL is made as is expected here."""
    probe = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    return _HAS_FUNCTIONS and all(hasattr(probe, name) for name in _ATTRIBUTES)
