"""Certificates for one test, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificate(NamedTuple):
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates.

    Attributes:
        cert: Its own, for those who are to trust it.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Its files are in `folder`, which exists."""
        self._folder = folder
        self.cert = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        subject = ("-subj", f"/CN=The tests' {name}")
        _openssl("req", "-x509", *_EC, "-keyout", self._key, "-out", self.cert, *subject, "-days", "2")

    def issue(self, name: str, hosts: str = "IP:127.0.0.1,DNS:localhost") -> Certificate:
        """Make a certificate with a common name and, in OpenSSL's notation, what hosts it is for."""
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        extensions.write_text(f"subjectAltName={hosts}\n")
        _openssl("req", "-new", *_EC, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, "-out", made.cert, *signing, "-days", "2")
        return made


def trust_folder(folder: Path, cert: Path) -> Path:
    """Make `folder` what OpenSSL takes for a folder of trusted certificates, with this one in it."""
    folder.mkdir()
    (folder / "authority.crt").write_bytes(cert.read_bytes())
    _openssl("rehash", folder)
    return folder


def _openssl(*arguments: object) -> None:
    words = ["openssl", *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}:\n{result.stderr}")
