"""What a server may answer that no MLflow server does, and what it is told of whoever asks."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gate.errors import AbsentError, RegistryError, UsageError, VerificationError
from gate.verification import asking, files
from gate.verification.registered import asked
from gate.verification.server import Server

ROW = {"name": "encoder", "version": "1", "creation_timestamp": 5, "source": "file:///x"}
WANTED = asked("models:/encoder/1")


class Stub:
    """A server that answers everything with the same, and keeps what it was sent."""

    def __init__(self) -> None:
        self.code, self.body, self.headers = 200, b"{}", dict[str, str]()
        self.seen: list[tuple[str, dict[str, str]]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.seen.append((self.path, dict(self.headers)))
                self.send_response(stub.code)
                for name, value in {"Content-Length": str(len(stub.body)), **stub.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(stub.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def uri(self) -> str:
        return f"http://{self.host}"

    @property
    def login(self) -> str | None:
        return self.seen[-1][1].get("Authorization")


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


BASIC = "Basic bWU6OmE="  # me, :a


@pytest.mark.parametrize(
    ("variables", "user", "expected"),
    [
        ({}, "", None),
        ({}, "me:%3Aa@", BASIC),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": ":a"}, "", BASIC),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": ":a"}, "you:b@", BASIC),
        ({"MLFLOW_TRACKING_USERNAME": "me"}, "", None),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "you:b@", "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": ":a", "MLFLOW_TRACKING_TOKEN": "t"}, "", BASIC),
    ],
)
def test_whoever_asks_logs_in_as_mlflow_does(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], user: str, expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server = Server(f"http://{user}{stub.host}/")
    assert server.entries("x") == []
    assert (stub.login, server.root) == (expected, stub.uri)


def test_the_workspace_goes_along(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(stub.uri).entries("x")
    assert not [name for name in stub.seen[-1][1] if name.lower() == "x-mlflow-workspace"]
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    stub.body = json.dumps({"model_version": ROW, "artifact_uri": "file:///x"}).encode()
    assert Server(stub.uri).registered(WANTED).version.workspace == "team"
    sent = {name.lower(): value for name, value in stub.seen[-1][1].items()}
    assert sent["x-mlflow-workspace"] == "team"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_no_password_follows_a_redirect(stub: Stub, code: int) -> None:
    stub.code, stub.headers = code, {"Location": "http://elsewhere:x@evil.example/api"}
    with pytest.raises(RegistryError, match=r"leads on to http://evil\.example, which is not followed"):
        Server(f"http://me:secret@{stub.host}").registered(WANTED)
    assert len(stub.seen) == 1


@pytest.mark.parametrize("code", [401, 403])
def test_a_refusal_says_how_to_log_in_and_no_password(stub: Stub, code: int) -> None:
    stub.code = code
    with pytest.raises(RegistryError, match=f"refuses to answer \\({code}\\); set MLFLOW_TRACKING_USERNAME") as caught:
        Server(f"http://me:secret@{stub.host}").registered(WANTED)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}', AbsentError, "404: no such thing$"),
        (b'{"error_code": "INTERNAL_ERROR", "message": "a\\nb"}', RegistryError, "404: a\nb$"),
        (b'{"message": "\\n"}', RegistryError, "404: $"),
        (b"<html>", RegistryError, "404: Not Found$"),
        (b"[]", RegistryError, "404: Not Found$"),
    ],
)
def test_what_a_server_says_of_a_failure_is_passed_on(
    stub: Stub, body: bytes, kind: type[RegistryError], said: str
) -> None:
    stub.code, stub.body = 404, body
    with pytest.raises(kind, match=said) as caught:
        Server(stub.uri).registered(WANTED)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b"{}",
        b'{"model_version": {}}',
        b'{"model_version": []}',
        b'{"model_version": {"name": "encoder", "version": "1", "creation_timestamp": "x"}}',
        b'{"model_version": {"name": 1, "version": "1", "creation_timestamp": 1}}',
    ],
)
def test_what_is_no_mlflow_server_is_no_answer(stub: Stub, body: bytes) -> None:
    stub.body = body
    with pytest.raises(RegistryError, match="answers what no MLflow server does; check the address"):
        Server(stub.uri).registered(WANTED)


@pytest.mark.parametrize("body", [b'{"files": [{}]}', b'{"files": {"a": 1}}', b'{"files": [{"path": 1}]}'])
def test_a_listing_that_is_none_is_no_answer(stub: Stub, body: bytes) -> None:
    stub.body = body
    with pytest.raises(RegistryError, match="answers what no MLflow server does; check the address"):
        Server(stub.uri).entries("x")


def test_a_download_that_breaks_off_is_no_difference_of_the_file(stub: Stub) -> None:
    stub.body, stub.headers = b"half", {"Content-Length": "8"}
    with pytest.raises(RegistryError, match="the download of 'a/b' broke off; run the command again"):
        Server(stub.uri).sha256("a/b")
    with pytest.raises(RegistryError, match="the download of 'a/b' broke off; run the command again"):
        Server(stub.uri).beginning("a/b", 8)
    assert Server(stub.uri).beginning("a/b", 3) == b"hal"


def test_a_server_that_says_nothing_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Server(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(RegistryError, match="no MLflow server answers there: timed out"):
            server.entries("x")


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "a/b"])
def test_a_name_that_leads_elsewhere_is_refused(stub: Stub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stub.uri)
    stub.body = json.dumps({"files": [{"path": name, "is_dir": True}]}).encode()
    with pytest.raises(VerificationError, match="which is no name of a file"):
        files.of_location("mlflow-artifacts:/1/model")
    assert len(stub.seen) == 1


def test_a_password_goes_to_no_other_server(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{stub.host}")
    with pytest.raises(UsageError, match=f"lie behind another server, at .*, than {stub.uri}: name that one"):
        files.of_location("mlflow-artifacts://evil.example/1/model")
    assert asking.artifact_server("", stub.host).root == stub.uri
    assert stub.seen == []


def test_a_certificate_is_believed_as_mlflows_variables_say(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = certified(stub, tmp_path)
    uri = stub.uri.replace("http:", "https:")
    with pytest.raises(RegistryError, match=r"no MLflow server answers there: .*self.signed certificate"):
        Server(uri).entries("x")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    assert Server(uri).entries("x") == []
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"MLFLOW_TRACKING_SERVER_CERT_PATH: '.*nowhere' cannot be read"):
        Server(uri)
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert Server(uri).entries("x") == []


def certified(stub: Stub, folder: Path) -> Path:
    """Lets the server speak TLS, with a certificate of its own making."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "certificate").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    stub.server.socket = context.wrap_socket(stub.server.socket, server_side=True)
    return folder / "certificate"
