"""Certificates as files, the form in which daemons and clients want them."""

from __future__ import annotations

from pathlib import Path

from tests import certificates


class Authority:
    """Signs certificates and writes them, with their keys, into *folder*."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._authority = certificates.Authority(name)
        #: PEM file of the authority's own certificate.
        self.certificate = Path(self._authority.write(folder / f"{name}.pem"))

    def sign(self, common_name: str, file: str) -> tuple[Path, Path]:
        """A certificate with its key: (certificate, key), PEM files.

        It is good for a server on this machine and for a client.
        """
        issued = self._authority.issue(common_name)
        written = self._folder / f"{file}.pem", self._folder / f"{file}.key"
        written[0].write_bytes(issued.certificate_pem)
        written[1].write_bytes(issued.key_pem())
        return written
