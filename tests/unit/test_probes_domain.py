"""The registration of domains, asked of RDAP and WHOIS servers on this machine."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from dolcevita.config import ConfigError, load
from dolcevita.probes import KINDS, Reason, Result, Target, domain, probe, rdap, whois
from sites import files
from webserver import closed_port, has, page, raw, routes, sample, serving, silence
from webserver import run as run_loop

DAY = 86400


def run(scenario):
    async def whole():
        try:
            return await scenario
        finally:
            await domain.close()

    return run_loop(whole())


def date(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def registration(days: float | None = 100.5, status=("active",), registrar="Gandi SAS") -> bytes:
    """An answer as registries give it."""
    events = [{"eventAction": "registration", "eventDate": "2001-01-01T00:00:00Z"}]
    if days is not None:
        events.append({"eventAction": "expiration", "eventDate": date(days)})
    name = ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", registrar]]]
    return json.dumps(
        {
            "objectClassName": "domain",
            "ldhName": "EXAMPLE.COM",
            "status": list(status),
            "events": events,
            "entities": [
                {"roles": ["registrant"], "vcardArray": ["vcard", [["fn", {}, "text", "Marie"]]]},
                {"roles": ["registrar"], "vcardArray": name},
            ],
        }
    ).encode()


def target(server: str | None, url="domain://example.com", refresh="6h", **expect):
    options = domain.Options(server=server, refresh=refresh)
    return Target(url, options, domain.Expect(**expect))


async def settled(wanted, seconds=5.0) -> Result:
    await domain.settle(wanted, seconds)
    return await probe(domain.KIND, wanted, 5.0)


def answered(answer, url="domain://example.com", **expect) -> Result:
    """The result once an RDAP server has answered so."""

    async def scenario():
        async with serving(answer) as port:
            return await settled(target(f"http://127.0.0.1:{port}/rdap/", url, **expect))

    return run(scenario())


@asynccontextmanager
async def whois_serving(answers, pause=0.0):
    """A WHOIS server: what it says by the name asked for, '' for any other."""

    async def connected(reader, writer):
        asked = (await reader.readline()).decode().strip()
        answer = answers.get(asked, answers.get("", "No match for domain.\r\n"))
        for line in answer.splitlines(keepends=True):
            writer.write(line.encode())
            await asyncio.sleep(pause)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def whois_answered(text: str, **expect) -> Result:
    async def scenario():
        async with whois_serving({"example.com": text}) as port:
            return await settled(target(f"whois://127.0.0.1:{port}", **expect))

    return run(scenario())


def test_a_registration_is_told_with_its_expiry_status_registrar_and_age():
    result = answered(
        routes({"/rdap/domain/example.com": page(registration(status=["Active", "client hold x"]))})
    )
    assert result.known and result.success
    assert "100 days left" in result.detail
    expiry = sample(result, "probe_domain_expiry_timestamp_seconds")
    assert expiry == pytest.approx(time.time() + 100.5 * DAY, abs=5)
    assert sample(result, "probe_domain_registered") == 1
    assert sample(result, "probe_domain_lookup_success") == 1
    assert sample(result, "probe_domain_status", status="active") == 1
    assert sample(result, "probe_domain_info", registrar="Gandi SAS") == 1
    assert 0 <= sample(result, "probe_domain_age_seconds") < 5


def test_a_name_of_any_script_is_asked_for_in_ascii():
    path = "/rdap/domain/xn--mnchen-3ya.example"
    assert answered(routes({path: page(registration())}), "domain://MÜNCHEN.example.").success


def test_redirects_between_registries_are_followed():
    async def scenario():
        async with serving(page(registration())) as second:
            away = page(b"", 302, Location=f"http://127.0.0.1:{second}/domain/example.com")
            async with serving(away) as first:
                return await settled(target(f"http://127.0.0.1:{first}"))

    assert run(scenario()).success


@pytest.mark.parametrize(
    ("days", "status", "expect", "reason", "words"),
    [
        (-2, "active", {}, Reason.EXPIRED, "ran out on"),
        (100, "client hold", {}, Reason.EXPIRED, "status 'client hold'"),
        (100, "pendingDelete", {}, Reason.EXPIRED, "status 'pending delete'"),
        (100, "redemption period", {}, Reason.EXPIRED, "'redemption period'"),
        (20, "active", {"valid_for": "30d"}, Reason.EXPIRED, "expected 30d or more"),
        (
            100,
            "active",
            {"status": ["clientTransferProhibited"]},
            Reason.STATUS,
            "has not the status 'client transfer prohibited', it has: active",
        ),
    ],
)
def test_a_registration_in_trouble_fails(days, status, expect, reason, words):
    result = answered(page(registration(days, [status])), **expect)
    assert result.known and not result.success
    assert result.reason is reason
    assert words in result.detail
    assert result.attempts == 1


def test_a_registration_as_expected_is_fine():
    answer = page(registration(31, ["client transfer prohibited"]))
    wanted = {"valid_for": "30d", "status": "client transfer prohibited"}
    assert answered(answer, **wanted).success


def test_a_domain_that_nobody_has_registered_fails():
    result = answered(page(b"{}", 404))
    assert result.reason is Reason.EXPIRED
    assert sample(result, "probe_domain_registered") == 0
    assert "knows no registration of example.com" in result.detail


def test_a_registry_that_tells_no_expiry_is_fine_and_says_so():
    result = answered(page(registration(None)))
    assert result.success and "does not tell until when" in result.detail
    assert not has(result, "probe_domain_expiry_timestamp_seconds")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(b"", 429), "answers with 429: it is asked too often"),
        (page(b"", 500), "answers with 500"),
        (page(b"<html>"), "is not a JSON object"),
        (page(b"[]"), "is not a JSON object"),
        (page(b"[" * 100_000), "is not a JSON object"),
        (page(b" " * 3_000_000), "is not a JSON object"),
        (raw(b"nonsense\r\n\r\n"), "cannot be used"),
    ],
)
def test_a_server_that_does_not_tell_is_no_verdict(answer, words):
    result = answered(answer)
    assert not result.known
    assert words in result.detail
    assert sample(result, "probe_domain_lookup_success") == 0
    assert not has(result, "probe_domain_age_seconds")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "active", "events": {}, "entities": 3},
        {"status": [1, None], "events": [1, {"eventAction": "expiration"}], "entities": [[]]},
        {"events": [{"eventAction": "expiration", "eventDate": "tomorrow"}]},
        {"events": [{"eventAction": "expiration", "eventDate": "0001-01-01T00:00:00+23:59"}]},
        {"entities": [{"roles": ["registrar"], "vcardArray": ["vcard", [[], ["fn"], 7]]}]},
    ],
)
def test_odd_fields_are_passed_over(fields):
    result = answered(page(json.dumps(fields).encode()))
    assert result.success and not has(result, "probe_domain_expiry_timestamp_seconds")


def test_a_lookup_never_holds_up_a_probe():
    async def scenario():
        async with serving(silence) as port:
            begin = time.monotonic()
            wanted = target(f"http://127.0.0.1:{port}")
            results = [await probe(domain.KIND, wanted, 5.0) for _ in range(20)]
            return results, time.monotonic() - begin

    results, took = run(scenario())
    assert took < 0.5
    assert not any(result.known for result in results)
    assert "is being looked up" in results[-1].detail


def test_an_answer_is_asked_for_once_and_kept_while_the_server_is_gone():
    asked = []

    async def counting(request, writer):
        asked.append(request)
        await page(registration())(request, writer)

    async def scenario():
        async with serving(counting) as port:
            wanted = target(f"http://127.0.0.1:{port}", refresh="300ms")
            await settled(wanted)
            for _ in range(10):
                await probe(domain.KIND, wanted, 5.0)
            before = len(asked)
        deadline = time.monotonic() + 5
        while True:
            result = await settled(wanted)
            if not sample(result, "probe_domain_lookup_success"):
                return before, result
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    before, result = run(scenario())
    assert before == 1
    assert result.known and result.success
    assert sample(result, "probe_domain_age_seconds") > 0.3
    assert "cannot" in result.facts["last lookup"] or "refuses" in result.facts["last lookup"]


def test_few_lookups_run_at_the_same_time():
    most = now = 0

    async def slow(request, writer):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.1)
        await page(registration())(request, writer)
        now -= 1

    async def scenario():
        async with serving(slow) as port:
            many = [target(f"http://127.0.0.1:{port}", f"domain://d{i}.com") for i in range(8)]
            return await asyncio.gather(*(settled(wanted) for wanted in many))

    assert all(result.known for result in run(scenario()))
    assert most == domain.AT_ONCE


WHOIS = """\
   Domain Name: EXAMPLE.COM
   Updated Date: 2024-07-01T00:00:00Z
   {expiry}
   Registrar: Example Registrar, Inc.
   Domain Status: clientTransferProhibited https://icann.org/epp#clientTransferProhibited
   Domain Status: ok (https://www.icann.org/epp#ok)
>>> Last update of whois database: 2026-07-14T00:00:00Z <<<
"""


@pytest.mark.parametrize(
    "expiry",
    [
        "Registry Expiry Date: 2031-07-14T00:00:00Z",
        "Registrar Registration Expiration Date: 2031-07-14T02:00:00+0200",
        "paid-till:     2031-07-14T00:00:00Z",
        "Expiry date:  14-Jul-2031",
        "Expires on..............: 2031-Jul-14.",
        "expires............: 14.7.2031 00:00:00",
        "expires:       2031-07-14 03:00:00+03",
        "expires:     20310714 #20310714",
        "renewal date:          2031.07.14 12:00:00",
        "Expiration Date             : 2031. 07. 14.",
        "[Expires on]                    2031/07/14",
        "Expire Date: 2031-07-14",
        "Valid Until: 14/07/2031",
    ],
)
def test_whois_dates_of_many_registries_are_read(expiry):
    result = whois_answered(WHOIS.format(expiry=expiry))
    assert result.success, result.detail
    when = sample(result, "probe_domain_expiry_timestamp_seconds")
    assert datetime.fromtimestamp(when, UTC).date().isoformat() == "2031-07-14"
    assert sample(result, "probe_domain_status", status="client transfer prohibited") == 1
    assert sample(result, "probe_domain_status", status="ok") == 1
    assert sample(result, "probe_domain_info", registrar="Example Registrar, Inc.") == 1


@pytest.mark.parametrize(
    "text",
    [
        'No match for domain "EXAMPLE.COM".\n',
        "%% NOT FOUND\n",
        "Domain: example.com\nStatus: free\n",
        "The queried object does not exist: no entries found\n",
    ],
)
def test_whois_knows_no_such_domain(text):
    assert whois_answered(text).reason is Reason.EXPIRED


@pytest.mark.parametrize("text", ["", "Quota exceeded, try again later.\n", "\0\xff" * 1000])
def test_a_whois_answer_without_a_registration_is_no_verdict(text):
    result = whois_answered(text)
    assert not result.known and "holds no registration" in result.detail


def test_an_endless_whois_answer_is_cut(monkeypatch):
    monkeypatch.setattr(whois, "MOST_BYTES", 1000)
    text = "Expiry Date: 2031-07-14\n" + "x" * 70 + "\n" + ("y" * 70 + "\n") * 10_000
    begin = time.monotonic()
    assert whois_answered(text).success
    assert time.monotonic() - begin < 3


def test_a_whois_server_that_drips_is_given_up(monkeypatch):
    monkeypatch.setattr(domain, "LOOKUP", 0.5)

    async def scenario():
        async with whois_serving({"": "x\n" * 1000}, pause=0.05) as port:
            begin = time.monotonic()
            return await settled(target(f"whois://127.0.0.1:{port}")), time.monotonic() - begin

    result, took = run(scenario())
    assert not result.known and "does not answer in time" in result.detail
    assert took < 1.5


def test_a_whois_server_that_refuses_is_named():
    async def scenario():
        with closed_port() as port:
            return await settled(target(f"whois://127.0.0.1:{port}")), port

    result, port = run(scenario())
    assert not result.known
    assert result.detail.startswith(f"The WHOIS server 127.0.0.1 port {port} cannot be asked")


def registries(monkeypatch, rdap_answers, whois_answers, listed):
    """IANA's lists and the registries, all on this machine; gives what asks them."""

    async def ask(wanted):
        async with serving(routes(rdap_answers)) as port, whois_serving(whois_answers) as whois_at:
            base = f"https://127.0.0.1:{port}/"
            services = [[["net"], ["http://insecure.example/"]], [listed, [base]]]
            text = json.dumps({"version": "1.0", "services": services}).encode()
            async with serving(page(text)) as lists:
                monkeypatch.setattr(rdap, "BOOTSTRAP", f"http://127.0.0.1:{lists}/rdap/dns.json")
                monkeypatch.setattr(whois, "ROOT", ("127.0.0.1", whois_at))
                known = rdap.servers

                async def plain(budget):
                    return {k: v.replace("https", "http") for k, v in (await known(budget)).items()}

                async def here(name, budget, root=whois.server_of):
                    found = await root(name, budget)
                    return ("127.0.0.1", whois_at) if found else None

                monkeypatch.setattr(rdap, "servers", plain)
                monkeypatch.setattr(whois, "server_of", here)
                return await settled(wanted)

    return ask


def test_the_registry_is_found_in_ianas_list(monkeypatch):
    answers = {"/domain/example.com": page(registration())}
    ask = registries(monkeypatch, answers, {}, ["org", "com"])
    result = run(ask(target(None)))
    assert result.success and "/127.0.0.1:" in result.facts["said by"]


def test_whois_is_asked_where_rdap_has_no_expiry(monkeypatch):
    answers = {"/domain/example.de": page(registration(None, ["locked"]))}
    said = {"de": "whois: whois.denic.example\n", "example.de": "Expires: 2031-07-14\n"}
    result = run(
        registries(monkeypatch, answers, said, ["de"])(target(None, "domain://example.de"))
    )
    assert result.success and result.facts["status"] == "locked"
    assert sample(result, "probe_domain_expiry_timestamp_seconds") > time.time()


def test_whois_is_asked_where_there_is_no_rdap(monkeypatch):
    said = {"tk": "domain: TK\nwhois:   whois.example\n", "example.tk": "Expires: 2031-07-14\n"}
    result = run(registries(monkeypatch, {}, said, ["com"])(target(None, "domain://example.tk")))
    assert result.success and result.facts["said by"].startswith("whois://")


def test_a_registry_that_iana_does_not_know_is_no_verdict(monkeypatch):
    result = run(registries(monkeypatch, {}, {}, ["com"])(target(None, "domain://example.zz")))
    assert not result.known and "IANA lists no server" in result.detail


def test_what_does_not_load_says_why(tmp_path):
    sites = "sites: [{url: 'domain://example.com', domain: {server: 'ftp://rdap.example'}}]"
    with pytest.raises(ConfigError, match=r"server: found 'ftp://rdap.example', expected https://"):
        load(*files(tmp_path, sites), KINDS)
