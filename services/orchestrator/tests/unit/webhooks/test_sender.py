"""The HTTP client of webhooks, with servers on loopback: one is an allowed target, the others must not be reached."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from orchestrator.webhooks.sender import HttpSender, SystemResolver, parse_retry_after
from orchestrator.webhooks.targets import TargetPolicy

from services.orchestrator.tests.webhook_receiver import Receiver, Reply, always, receiving

TARGET = "127.0.0.3"
PERMISSIVE = TargetPolicy(allow_http=True, ports=frozenset(), networks=(ip_network(f"{TARGET}/32"),))
TIMEOUT = timedelta(seconds=20)
BODY = b'{"type":"job.succeeded"}'


class ScriptedResolver:
    """Gives the answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Sentinels:
    """Servers that must never be connected to, on all addresses of this machine that the tests name."""

    def __init__(self, receivers: list[Receiver]) -> None:
        self.receivers = receivers
        self.port = receivers[0].port

    @property
    def hits(self) -> int:
        return sum(receiver.connections for receiver in self.receivers)


@pytest.fixture
async def sentinels() -> AsyncIterator[Sentinels]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(receiving(always(Reply())))
        others = []
        for host in ("127.0.0.2", "127.1.2.3", "::1"):
            try:
                others.append(await stack.enter_async_context(receiving(always(Reply()), host, first.port)))
            except OSError:
                continue  # a machine without IPv6
        yield Sentinels([first, *others])


# Every way to name this machine, the local network or a metadata service; names resolve as the second part says.
FORBIDDEN = [
    *((f"{scheme}://{host}", None) for scheme in ("http", "https") for host in (
        "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433",
        "0x7f000001", "0x7f.1",
        "0X7F.0x0.0x0.0x1", "017700000001", "0177.0.0.1", "0177.1", "127.0.0.01", "127.000.000.001",
        "127.0.0.1.", "00000177.1",
        "１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
        "[2001:0:7f00:1::]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "localhost", "LOCALHOST",
        "localhost.", "a.localhost",
        "ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal", "10.0.0.1",
        "user@127.0.0.1", "user:password@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1\\@example.com",
        "example.com\\@127.0.0.1",
    )),
    *((f"http://{host}", addresses) for host, addresses in (
        ("rebind.example.com", ["127.0.0.1"]),
        ("127.0.0.1.nip.example", ["127.0.0.1"]),
        ("mixed.example.com", ["1.1.1.1", "127.0.0.1"]),
        ("mixed6.example.com", ["2606:4700::1", "::1"]),
        ("mapped.example.com", ["::ffff:127.0.0.1"]),
        ("compatible.example.com", ["::127.0.0.1"]),
        ("nat64.example.com", ["64:ff9b::7f00:1"]),
        ("sixtofour.example.com", ["2002:7f00:1::"]),
        ("teredo.example.com", ["2001:0:7f00:1::"]),
        ("isatap.example.com", ["2606:4700::5efe:7f00:1"]),
        ("scoped.example.com", ["::1%lo"]),
        ("linklocal.example.com", ["fe80::1"]),
        ("metadata.example.com", ["169.254.169.254"]),
        ("zero.example.com", ["0.0.0.0"]),
        ("any.example.com", ["::"]),
        ("bücher.example", ["127.0.0.1"]),
        ("xn--bcher-kva.example", ["127.0.0.1"]),
        ("nothing.example.com", []),
    )),
]  # fmt: skip


async def test_no_url_reaches_a_sentinel(sentinels: Sentinels) -> None:
    assert len(FORBIDDEN) >= 80
    answers = {}
    resolver = ScriptedResolver([])
    async with HttpSender(resolver, TargetPolicy(allow_http=True, ports=frozenset()), TIMEOUT) as sender:
        for url, addresses in FORBIDDEN:
            resolver.answers = [["127.0.0.1"] if addresses is None else addresses]
            answers[url] = (await sender.post(f"{url}:{sentinels.port}/hook", {}, BODY)).error

    assert {url: error for url, error in answers.items() if error != "webhook_url_not_allowed"} == {}
    assert sentinels.hits == 0


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(sentinels: Sentinels) -> None:
    # DNS rebinding: allowed when it is checked, this machine when it is asked again.
    resolver = ScriptedResolver([TARGET], ["127.0.0.1"])
    async with (
        receiving(always(Reply()), TARGET, sentinels.port) as target,
        HttpSender(resolver, PERMISSIVE, TIMEOUT) as sender,
    ):
        url = f"http://rebind.example.com:{sentinels.port}/hook?a=b"
        first = await sender.post(url, {"webhook-id": "evt_1"}, BODY)
        second = await sender.post(url, {}, BODY)

    assert (first.status, first.error) == (200, "")
    assert second.error == "webhook_url_not_allowed"
    assert resolver.asked == ["rebind.example.com"] * 2
    (request,) = target.requests
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.headers["host"] == f"rebind.example.com:{sentinels.port}"
    assert (request.headers["webhook-id"], request.body) == ("evt_1", BODY)
    assert sentinels.hits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sentinels: Sentinels, status: int) -> None:
    to_sentinel = Reply(status, headers={"Location": f"http://127.0.0.1:{sentinels.port}/"})
    async with (
        receiving(always(to_sentinel), TARGET) as target,
        HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender,
    ):
        answer = await sender.post(f"http://{TARGET}:{target.port}/", {}, BODY)

    assert (answer.status, answer.error, answer.succeeded) == (status, "redirected", False)
    assert sentinels.hits == 0


async def test_proxies_of_the_environment_are_ignored(sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{sentinels.port}")
    async with (
        receiving(always(Reply()), TARGET) as target,
        HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender,
    ):
        answer = await sender.post(f"http://hooks.example.com:{target.port}/", {}, BODY)

    assert answer.succeeded
    assert sentinels.hits == 0


@pytest.mark.parametrize(("reply", "connected"), [(Reply(hang=True), 1), (Reply(drip=True), 1)])
async def test_a_server_that_does_not_answer_is_given_up(reply: Reply, connected: int) -> None:
    async with (
        receiving(always(reply), TARGET) as target,
        HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, timedelta(seconds=1)) as sender,
    ):
        answer = await sender.post(f"http://{TARGET}:{target.port}/", {}, BODY)

    assert (answer.status, answer.error) == (0, "timed_out")
    assert target.connections == connected


async def test_a_name_server_that_does_not_answer_is_given_up() -> None:
    class Silent:
        async def resolve(self, host: str) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

    async with HttpSender(Silent(), PERMISSIVE, timedelta(seconds=0.2)) as sender:
        answer = await sender.post("http://slow.example.com/", {}, BODY)

    assert answer.error == "timed_out"


async def test_of_a_long_answer_only_the_beginning_is_read() -> None:
    async with (
        receiving(always(Reply(500, b"\x00" + b"x" * 10_000_000)), TARGET) as target,
        HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender,
    ):
        answer = await sender.post(f"http://{TARGET}:{target.port}/", {}, BODY)

    assert (answer.status, answer.error) == (500, "unexpected_status")
    assert answer.response == "\N{REPLACEMENT CHARACTER}" + "x" * 1_023


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with (
        receiving(always(Reply(200, b"\x1f\x8b" * 10, {"Content-Encoding": "gzip"})), TARGET) as target,
        HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender,
    ):
        answer = await sender.post(f"http://{TARGET}:{target.port}/", {}, BODY)

    assert answer.succeeded


@pytest.mark.parametrize("wire", [b"no http\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"])
async def test_what_is_no_http_answer_is_a_failure(wire: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(wire)
        writer.close()

    server = await asyncio.start_server(handle, TARGET, 0)
    async with server, HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender:
        port = server.sockets[0].getsockname()[1]
        answer = await sender.post(f"http://{TARGET}:{port}/", {}, BODY)

    assert answer.error == "invalid_response"


async def test_a_port_where_nothing_listens_is_a_failure() -> None:
    async with receiving(always(Reply()), TARGET) as closed:
        port = closed.port
    async with HttpSender(ScriptedResolver([TARGET]), PERMISSIVE, TIMEOUT) as sender:
        answer = await sender.post(f"http://{TARGET}:{port}/", {}, BODY)

    assert answer.error == "connection_failed"


def certificate(name: str, folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for `name`, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, private)
    return path, context


async def test_tls_is_verified_for_the_name_of_the_url(tmp_path: Path) -> None:
    ca_file, server = certificate("hooks.example.com", tmp_path)
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    client = ssl.create_default_context(cafile=str(ca_file))
    resolver = ScriptedResolver([TARGET])
    async with (
        receiving(always(Reply()), TARGET, ssl=server) as target,
        HttpSender(resolver, PERMISSIVE, TIMEOUT, client) as sender,
        HttpSender(resolver, PERMISSIVE, TIMEOUT) as distrustful,
    ):
        right = await sender.post(f"https://hooks.example.com:{target.port}/", {}, BODY)
        wrong_name = await sender.post(f"https://other.example.com:{target.port}/", {}, BODY)
        untrusted = await distrustful.post(f"https://hooks.example.com:{target.port}/", {}, BODY)

    assert right.succeeded
    assert names[0] == "hooks.example.com"
    assert (wrong_name.error, untrusted.error) == ("tls_failed", "tls_failed")


async def test_the_system_resolver_shares_a_query_that_is_under_way() -> None:
    async with SystemResolver(threads=1) as resolver:
        answers = await asyncio.gather(*(resolver.resolve("localhost") for _ in range(20)))

    assert all(answer == answers[0] for answer in answers)
    assert "127.0.0.1" in answers[0] or "::1" in answers[0]


def test_retry_after_is_read_as_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert parse_retry_after("120", now) == timedelta(seconds=120)
    assert parse_retry_after("Thu, 01 Jan 2026 00:01:00 GMT", now) == timedelta(minutes=1)
    huge = ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "Thu, 01 Jan 2030 00:00:00 +99999999999999")
    for text in ("", "-1", "soon", "99999999999999", "Thu, 01 Jan 2015 00:01:00 GMT", "٣", *huge):
        assert parse_retry_after(text, now) is None
