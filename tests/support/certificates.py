"""Certificates for one test, made by the openssl program."""

from __future__ import annotations

import hashlib
import secrets
import ssl
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from .ports import free_port

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

# What `openssl ca` keeps beside the authority's certificate. `preserve` leaves subjects in the order they are given in;
# what the policy does not name is left out of them.
_CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
database = {index}
serial = {serial}
new_certs_dir = {folder}
certificate = {cert}
private_key = {key}
default_md = sha256
default_days = 2
default_crl_days = 2
unique_subject = no
preserve = yes
policy = anything
[anything]
countryName = optional
localityName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
serialNumber = optional
emailAddress = optional
domainComponent = optional
"""


class Certificate(NamedTuple):
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    def fingerprint(self) -> str:
        """Return the SHA-256 digest of the certificate, in hexadecimal."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()

    def paho(self, authority: Authority) -> dict[str, str]:
        """Return the argument `tls` of a `Client` that shows this certificate."""
        return {"ca_certs": str(authority.cert), "certfile": str(self.cert), "keyfile": str(self.key)}

    def context(self, authority: Authority) -> ssl.SSLContext:
        """Return the context of a connection that shows this certificate."""
        context = ssl.create_default_context(cafile=authority.cert)
        context.load_cert_chain(self.cert, self.key)
        return context


class Authority:
    """Signs certificates, and revokes them.

    Attributes:
        cert: Its own, for those who are to trust it.
        name: The common name in there.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Its files are in `folder`, which exists."""
        self._folder = folder
        self.name = f"The tests' {name}"
        self.cert = folder / f"{name}.crt"
        key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_EC, "-keyout", key, "-out", self.cert, "-subj", f"/CN={self.name}", "-days", "2"
        )
        self._revoked = folder / f"{name}.crl"
        self._serial = folder / f"{name}.serial"
        index = folder / f"{name}.index"
        index.touch()
        self._configuration = folder / f"{name}.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(index=index, serial=self._serial, folder=folder, cert=self.cert, key=key)
        )

    def issue(
        self,
        name: str,
        hosts: str | None = "IP:127.0.0.1,DNS:localhost",
        *,
        subject: str | None = None,
        serial: int | None = None,
        valid: tuple[datetime, datetime] | None = None,
    ) -> Certificate:
        """Make a certificate.

        Args:
            name: Of its files; and its common name, where no subject is given.
            hosts: Its alternative names in OpenSSL's notation; None for none.
            subject: Its subject in OpenSSL's notation, `/O=...`.
            serial: Left alone, a number of its own.
            valid: From when until when; left alone, for two days.
        """
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={hosts}\n" if hosts else ""))
        # OpenSSL wants an even number of digits.
        digits = f"{serial or secrets.randbits(60) + 1:x}"
        self._serial.write_text(f"{'0' * (len(digits) % 2)}{digits}\n")
        words = ("-utf8", "-subj", subject or f"/CN={name}")
        _openssl("req", "-new", *_EC, "-keyout", made.key, "-out", request, *words)
        dates = () if valid is None else ("-startdate", _asn1(valid[0]), "-enddate", _asn1(valid[1]))
        self._sign("-in", request, "-out", made.cert, "-notext", "-extfile", extensions, *dates)
        return made

    def issue_expired(self, name: str) -> Certificate:
        """Make a certificate that was valid until an hour ago."""
        now = datetime.now(timezone.utc)
        return self.issue(name, valid=(now - timedelta(days=1), now - timedelta(hours=1)))

    @staticmethod
    def lock(key: Path, locked: Path) -> None:
        """Make a copy of a key that wants a passphrase."""
        _openssl("pkey", "-in", key, "-out", locked, "-aes128", "-passout", "pass:secret")

    def revoke(self, *certificates: Certificate) -> Path:
        """Revoke certificates, and return the list of all that are, as a file."""
        for certificate in certificates:
            self._sign("-revoke", certificate.cert)
        self._sign("-gencrl", "-out", self._revoked)
        return self._revoked

    def _sign(self, *arguments: object) -> None:
        _openssl("ca", "-batch", "-config", self._configuration, *arguments)


class TlsListener:
    """A port and the lines of a listener that speaks TLS."""

    def __init__(self, authority: Authority, name: str = "server", *lines: str, **arguments: str) -> None:
        """`lines` are added; other arguments are those of `Authority.issue()`, for the listener's certificate."""
        self.port = free_port()
        certificate = authority.issue(name, **arguments)  # type: ignore[arg-type]
        self.lines = [
            f"listener {self.port} 127.0.0.1",
            f"certfile {certificate.cert}",
            f"keyfile {certificate.key}",
            *lines,
        ]


def trust_folder(folder: Path, cert: Path) -> Path:
    """Make `folder` what OpenSSL takes for a folder of trusted certificates, with this one in it."""
    folder.mkdir()
    (folder / "authority.crt").write_bytes(cert.read_bytes())
    _openssl("rehash", folder)
    return folder


def _asn1(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y%m%d%H%M%SZ")


def _openssl(*arguments: object) -> None:
    words = ["openssl", *map(str, arguments)]
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}:\n{result.stderr}")
