"""No mail and no password for a server that cannot prove its name: over TLS from the start, and by STARTTLS."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import LazySettings
from django.core.mail import send_mail

from messaging.providers import SignInRefused
from messaging.providers.smtp import Smtp

# OpenSSL reads the machine's clock, whatever the suite's says.
BEGINS, ENDS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


def certificate(folder: Path, *names: str) -> Path:
    """A certificate for `names` that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mail server")])
    theirs = [x509.DNSName(one) if one.isalpha() else x509.IPAddress(ip_address(one)) for one in names]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINS)
        .not_valid_after(ENDS)
        .add_extension(x509.SubjectAlternativeName(theirs), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


class Server:
    """Says as little as a mail server may, and keeps what it hears."""

    def __init__(self, file: Path, *, at_once: bool) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(file)
        self._at_once = at_once
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                peer, _address = self._listening.accept()
            except OSError:
                return
            try:
                self._talk(peer)
            except OSError:
                peer.close()

    def _talk(self, peer: socket.socket) -> None:
        peer.settimeout(5)
        if self._at_once:
            peer = self._context.wrap_socket(peer, server_side=True)
        peer.sendall(b"220 here\r\n")
        try:
            while line := peer.recv(1000):
                self.heard.append(line.strip())
                if line.startswith(b"ehlo"):
                    peer.sendall(b"250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
                elif line.startswith(b"STARTTLS"):
                    peer.sendall(b"220 go on\r\n")
                    peer = self._context.wrap_socket(peer, server_side=True)
                elif line.startswith(b"quit"):
                    peer.sendall(b"221 bye\r\n")
                else:
                    peer.sendall(b"235 come in\r\n")
        finally:
            peer.close()


@pytest.fixture(params=["ssl", "tls"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, settings: LazySettings
) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*names: str) -> Server:
        made = Server(certificate(tmp_path, *names), at_once=request.param == "ssl")
        started.append(made)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "localhost", made.port, 5
        settings.EMAIL_USE_SSL, settings.EMAIL_USE_TLS = request.param == "ssl", request.param == "tls"
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "ana", "secret"
        settings.SMTP_CONNECTIONS = 1
        return made

    yield start
    for one in started:
        one.stop()


def test_a_certificate_that_only_vouches_for_itself_gets_no_password(server: Callable[..., Server]) -> None:
    there = server("localhost")
    with pytest.raises(SignInRefused, match=r"certificate is not to be trusted.*self-signed"):
        Smtp().open()
    with pytest.raises(ssl.SSLCertVerificationError):
        send_mail("a letter", "goes the same way", None, ["mia@example.org"])
    assert not any(line.startswith((b"AUTH", b"MAIL")) for line in there.heard)


def test_a_certificate_for_another_name_gets_no_password(
    server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = server("elsewhere")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    with pytest.raises(SignInRefused, match=r"certificate is not to be trusted.*not valid for 'localhost'"):
        Smtp().open()
    assert not any(line.startswith(b"AUTH") for line in there.heard)


def test_an_authority_of_ones_own_is_trusted_by_the_name_of_its_file(
    server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = server("localhost", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    way = Smtp()
    assert way.open() == 1
    way.close()
    assert there.heard[-2:] == [b"AUTH PLAIN AGFuYQBzZWNyZXQ=", b"quit"]
