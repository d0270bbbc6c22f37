"""Which URLs webhooks may be sent to: the parts that need no DNS, and the addresses that DNS may give."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from orchestrator.webhooks.model import WebhookUrlNotAllowed
from orchestrator.webhooks.targets import TargetPolicy, check_addresses, is_public, parse_allowed, parse_target

# As permissive as an operator can be without naming private targets: whatever is refused here is refused by its host.
OPEN = TargetPolicy(allow_http=True, ports=frozenset())
STRICT = TargetPolicy()


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("https://Example.COM/hook", "example.com", 443, "/hook"),
        ("https://example.com:8443/a?b=c&d=%20", "example.com", 8443, "/a?b=c&d=%20"),
        ("https://example.com:/x", "example.com", 443, "/x"),
        ("https://example.com./x", "example.com", 443, "/x"),
        ("https://hooks_1.example.com/x", "hooks_1.example.com", 443, "/x"),
        ("https://bücher.example/x", "xn--bcher-kva.example", 443, "/x"),
        ("https://bücher。example/x", "xn--bcher-kva.example", 443, "/x"),
        ("https://xn--bcher-kva.example/x", "xn--bcher-kva.example", 443, "/x"),
        ("https://1.1.1.1/x", "1.1.1.1", 443, "/x"),
        ("https://[2606:4700:4700::1111]/x", "2606:4700:4700::1111", 443, "/x"),
        ("https://[::ffff:1.1.1.1]/x", "::ffff:101:101", 443, "/x"),
        ("https://1password.com", "1password.com", 443, "/"),
    ],
)
def test_public_urls_are_allowed(url: str, host: str, port: int, path: str) -> None:
    target = parse_target(url, STRICT)

    assert (ip_address(target.host) if target.address else target.host) == (
        ip_address(host) if target.address else host
    )
    assert (target.port, target.path) == (port, path)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "https:example.com",
        "https:/example.com",
        "//example.com",
        "example.com",
        "",
        "https://",
        "https:///path",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com@evil.example",
        "https://example.com#fragment",
        "https://example.com:22",
        "https://example.com:80",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:4430000",
        "https://example.com:443:443",
        "https://example.com\\@evil.example",
        "https://example.com/a b",
        "https://example.com/\r\nX-Header: 1",
        "https://exa mple.com",
        "https://example.com/ü",
        "https://example.com/%zz",
        "https://example..com",
        "https://-example.com",
        "https://exa%6dple.com",
        "https://" + "a" * 64 + ".com",
        "https://example.com/" + "x" * 2_048,
        "https://" + "a." * 130 + "com",
        " https://example.com",
        "https://example.com\x00.evil.example",
    ],
)
def test_urls_that_are_not_strictly_https_are_refused(url: str) -> None:
    with pytest.raises(WebhookUrlNotAllowed) as error:
        parse_target(url, STRICT)

    assert error.value.param == "url"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192",
        "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::169.254.169.254", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1",
        "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254",
        "fe80::1", "fec0::1", "ff02::1", "4000::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1",
    ],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(WebhookUrlNotAllowed):
        check_addresses(parse_target("https://example.com", STRICT), ["1.1.1.1", address], STRICT)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1", "64:ff9b::1.1.1.1"],
)
def test_other_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))
    assert check_addresses(parse_target("https://example.com", STRICT), [address], STRICT) == [str(ip_address(address))]


def test_a_name_without_addresses_is_refused() -> None:
    with pytest.raises(WebhookUrlNotAllowed):
        check_addresses(parse_target("https://example.com", STRICT), [], STRICT)


def test_operators_can_allow_networks_hosts_ports_and_http() -> None:
    networks, hosts = parse_allowed(["10.1.0.0/16", "fd00::/8", "127.0.0.1", "hooks.internal"])
    policy = TargetPolicy(allow_http=True, ports=frozenset({9000}), networks=networks, hosts=hosts)

    assert parse_target("http://10.1.2.3:9000", policy).host == "10.1.2.3"
    assert parse_target("http://[::ffff:10.1.2.3]:9000", policy).port == 9000
    hooks = parse_target("http://hooks.internal:9000", policy)
    assert check_addresses(hooks, ["192.168.1.1"], policy) == ["192.168.1.1"]
    for url in ("http://10.2.0.1:9000", "http://127.0.0.2:9000", "http://other.internal:9000", "http://10.1.2.3:9001"):
        with pytest.raises(WebhookUrlNotAllowed):
            parse_target(url, policy)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "0x7f.1", "*.example.com", "http://a.example", "127.1"])
def test_an_allow_list_that_cannot_be_read_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_allowed([entry])


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "foo.localhost", "localhost.", "printer.local", "metadata.google.internal",
        "router.lan", "box.home.arpa", "intranet", "site.onion",
        "127.1", "127.0.1", "0", "2130706433", "0x7f000001", "0X7F.1", "0x7f.0x0.0x0.0x1", "017700000001",
        "0177.0.0.1",
        "127.0.0.01", "127.0.0.1.", "1.1.1.256", "1.1.1.1.1", "0x", "example.0x10", "example.1",
        "１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌｏｃａｌｈｏｓｔ", "[::1]", "[::]",
        "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0000::1]", "[fe80::1%25eth0]",
        "[fe80::1%eth0]", "[::1", "[1.1.1.1]",
        "[v1.fe80]", "[]",
    ],
)  # fmt: skip
def test_this_machine_is_refused_in_every_notation(host: str) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(WebhookUrlNotAllowed):
            parse_target(f"{scheme}://{host}/", OPEN)
