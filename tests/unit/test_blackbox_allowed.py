"""Which targets a caller may name: by address, by name, after redirects and for moved names."""

import pytest

from dolcevita.config import UserError
from dolcevita.exporter.blackbox.allowed import Allowed, Guard, parse
from dolcevita.probes import Target, http, resolve
from dolcevita.probes.resolve import GUARD, Forbidden
from webserver import page, routes, run, serving


def permits(allowed: Allowed, host: str, *addresses: str) -> bool:
    try:
        allowed.check(host, addresses or (host,))
    except Forbidden:
        return False
    return True


def test_networks_names_and_folders_are_told_apart():
    allowed = parse(["10.0.0.0/8", "::1", "*.example.com", "shop.example.org.", "/run/app"])
    assert permits(allowed, "10.1.2.3")
    assert not permits(allowed, "11.1.2.3")
    assert permits(allowed, "::1")
    assert permits(allowed, "www.EXAMPLE.com", "192.0.2.1")
    assert permits(allowed, "shop.example.org", "192.168.1.1")
    assert not permits(allowed, "example.com", "192.0.2.1")
    assert not permits(allowed, "example.com.evil.test", "192.0.2.1")
    assert allowed.has_path("/run/app/web.sock")
    assert not allowed.has_path("/run/app/../docker.sock")
    assert not allowed.has_path("/run/application.sock")


def test_a_name_is_allowed_by_its_network_only_if_all_its_addresses_are():
    allowed = parse(["192.0.2.0/24"])
    assert permits(allowed, "a.example", "192.0.2.1", "192.0.2.2")
    assert not permits(allowed, "a.example", "192.0.2.1", "198.51.100.1")
    assert not permits(allowed, "a.example", "192.0.2.1", "::1")


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
    ],
)
def test_link_local_and_metadata_addresses_are_never_probed(address):
    allowed = parse(["0.0.0.0/0", "::/0", "metadata.example"], anything=True)
    assert not permits(allowed, address)
    assert not permits(allowed, "metadata.example", address)


@pytest.mark.parametrize("address", ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"])
def test_an_address_of_ipv4_in_other_clothes_is_what_it_is(address):
    assert not permits(parse(["::/0"]), address)


def test_without_any_address_the_name_must_be_allowed():
    allowed = parse(["0.0.0.0/0", "www.example.com"])
    allowed.check("www.example.com", ())
    with pytest.raises(Forbidden, match=r"--allow-target other\.example"):
        allowed.check("other.example", ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1 for that address alone"),
        ("http://www.example.com", "expected a network such as 10.0.0.0/8, a name"),
        ("10.0.0.256", "expected a network"),
        ("", "expected a network"),
    ],
)
def test_what_is_neither_is_refused_with_a_sentence(text, expected):
    with pytest.raises(UserError, match=expected):
        parse([text])


def guarded(allowed, scenario):
    async def whole():
        GUARD.set(Guard(allowed))
        return await scenario

    return run(whole())


async def get(url, **options):
    return await http.probe(Target(url, http.Options(**options), http.Expect()), 3.0)


def test_a_redirect_leads_to_no_address_that_is_not_allowed():
    async def scenario():
        async with serving(page(b"secret"), host="127.0.0.2") as inside:
            to = page(status=302, Location=f"http://127.0.0.2:{inside}/")
            async with serving(to) as port:
                return await get(f"http://127.0.0.1:{port}/")

    result = guarded(parse(["127.0.0.1"]), scenario())
    assert not result.success
    assert "127.0.0.2 is not allowed" in result.detail
    assert guarded(parse(["127.0.0.0/8"]), scenario()).success


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/", "http://2852039166/",
     "http://0xa9.0xfe.0xa9.0xfe/", "http://%31%36%39.254.169.254/", "//169.254.169.254/"],
)  # fmt: skip
def test_a_redirect_leads_to_no_metadata_however_it_is_written(location):
    async def scenario():
        async with serving(page(status=302, Location=location)) as port:
            return await get(f"http://127.0.0.1:{port}/")

    result = guarded(parse([], anything=True), scenario())
    assert not result.success
    assert "never probed" in result.detail or "does not exist" in result.detail, result.detail


def test_a_name_that_moves_to_another_address_between_redirects(monkeypatch):
    looked_up = iter([["127.0.0.1"], ["169.254.169.254"]])

    async def look_up(host, within):
        return next(looked_up)

    monkeypatch.setattr(resolve, "_look_up_beside", look_up)

    async def scenario():
        async with serving(routes({"/": page(status=302, Location="/next")})) as port:
            return await get(f"http://moving.example:{port}/")

    result = guarded(parse(["moving.example"]), scenario())
    assert "moving.example is at 169.254.169.254" in result.detail


def test_what_libcurl_would_resolve_by_itself_is_not_opened(monkeypatch):
    async def look_up(host, within):
        return ["192.0.2.1"]

    # libcurl reads %31 as 1 and knows no address for what it reads.
    monkeypatch.setattr(resolve, "_look_up_beside", look_up)

    async def scenario():
        async with serving(page()) as port:
            return await get(f"http://%31%32%37.0.0.1:{port}/")

    result = guarded(parse([], anything=True), scenario())
    assert not result.success


def test_a_name_for_the_proxy_must_be_allowed_too():
    async def scenario():
        async with serving(page()) as port:
            return [
                await get(f"http://{host}/", proxy=f"http://127.0.0.1:{port}")
                for host in ("shop.example", "other.example", "169.254.169.254")
            ]

    fine, other, metadata = guarded(parse(["shop.example", "0.0.0.0/0"]), scenario())
    assert fine.success
    assert "other.example is not allowed" in other.detail
    assert "never probed" in metadata.detail
