"""The DNS prober against BIND, and against name servers that misbehave."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme
from pydantic import ValidationError

from dolcevita.probes import Reason, Result
from dolcevita.probes.dns import KIND, Expect
from peers import attempt, mute, says, server_context, talking
from waiting import until
from webserver import blackhole, closed_port, has, run, sample

needs_bind = pytest.mark.skipif(not shutil.which("named"), reason="named (BIND) is not installed")

ZONE = """$TTL 300
@ IN SOA ns1.example.com. hostmaster.example.com. ( {serial} 3600 600 86400 300 )
@ NS ns1
@ NS ns2
@ A 192.0.2.1
@ MX 10 Mail
@ TXT "v=spf1 -all" " second part"
ns1 A {first}
ns2 AAAA {second}
mail A 192.0.2.25
mail AAAA 2001:db8::25
www CNAME @
many {many}
odd A {odd}
"""


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def udp_and_tcp_port(addresses: tuple[str, ...]) -> int:
    """A port that is free on all addresses for both."""
    for _ in range(50):
        with socket.create_server((addresses[0], 0), family=_family(addresses[0])) as first:
            port: int = first.getsockname()[1]
        try:
            for address in addresses:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(_family(address), kind) as taken:
                        taken.bind((address, port))
        except OSError:
            continue
        return port
    pytest.fail("no port is free for name servers")


@contextmanager
def bind(
    folder: Path, address: str, port: int, zone: str, tls: tuple[int, Path] | None = None
) -> Iterator[None]:
    """BIND with the zone example.com on an address, and perhaps (port, PEM file) for TLS."""
    folder.mkdir()
    (folder / "zone").write_text(zone)
    key = "inet_v6" if ":" in address else "inet"
    listen, never = (
        ("listen-on-v6", "listen-on") if key == "inet_v6" else ("listen-on", "listen-on-v6")
    )
    secure = ""
    if tls:
        file = f'"{tls[1]}"'
        secure = f"tls mine {{ cert-file {file}; key-file {file}; }};"
    extra = f"{listen} port {tls[0]} tls mine {{ {address}; }};" if tls else ""
    (folder / "named.conf").write_text(
        f"""
        {secure}
        options {{
          directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session.key";
          {listen} port {port} {{ {address}; }}; {extra} {never} {{ none; }};
          recursion no; notify no; dnssec-validation no; allow-query {{ any; }};
        }};
        controls {{ }};
        zone "example.com" {{ type primary; file "{folder}/zone"; }};
        """
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["named", "-g", "-n", "1", "-c", folder / "named.conf"], stdout=log, stderr=log
        )
    try:
        host = f"[{address}]" if ":" in address else address
        url = f"dns://{host}:{port}/example.com"
        until(
            lambda: server.poll() is None and run(attempt(KIND, url, budget=1)).success,
            lambda: f"an answer of named: {(folder / 'log').read_text()}",
        )
        yield
    finally:
        server.terminate()
        server.wait()


def zone(port: int, serial: int = 7, odd: str = "192.0.2.9") -> str:
    many = "\nmany ".join(f"A 198.51.100.{n}" for n in range(1, 91))
    return ZONE.format(
        serial=serial, first="127.0.0.1", second="::1", many=many, odd=odd, port=port
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """BIND at 127.0.0.1, as it should be."""
    folder = tmp_path_factory.mktemp("bind")
    port = udp_and_tcp_port(("127.0.0.1", "::1"))
    with bind(folder / "1", "127.0.0.1", port, zone(port)):
        yield f"dns://127.0.0.1:{port}"


def ask(url, options=None, budget=5.0, **expect) -> Result:
    return run(attempt(KIND, url, options, budget, **expect))


@needs_bind
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_an_answer_is_measured_as_blackbox_exporter_does(server, transport):
    result = ask(f"{server}/example.com?type=A", {"transport": transport}, answer="192.0.2.1")
    assert result.success, result.detail
    assert sample(result, "probe_dns_answer_rrs") == 1
    assert sample(result, "probe_dns_authority_rrs") == 0
    assert sample(result, "probe_dns_additional_rrs") == 0
    assert sample(result, "probe_dns_query_succeeded") == 1
    assert sample(result, "probe_dns_duration_seconds", phase="request") > 0
    connecting = sample(result, "probe_dns_duration_seconds", phase="connect")
    assert (connecting > 0) is (transport == "tcp")
    assert sample(result, "probe_ip_protocol") == 4
    assert not has(result, "probe_dns_serial")


@needs_bind
def test_the_serial_of_a_zone(server):
    result = ask(f"{server}/example.com?type=SOA")
    assert sample(result, "probe_dns_serial") == 7


@needs_bind
def test_without_recursion_the_name_servers_come_with_the_answer(server):
    result = ask(
        f"{server}/example.com?type=MX;class=IN",
        {"recursion": False},
        answer="10 MAIL.example.com",
        authority=["ns1.example.com", "ns2.example.com."],
        authoritative=True,
        only=True,
    )
    assert result.success, result.detail
    assert sample(result, "probe_dns_authority_rrs") == 2
    assert sample(result, "probe_dns_additional_rrs") == 4


@needs_bind
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("mail.example.com?type=AAAA", "2001:DB8:0::25"),
        ("www.example.com", ["example.com", "192.0.2.1"]),
        ("example.com?type=TXT", "v=spf1 -all second part"),
        ("example.com?type=TXT", '"v=spf1 -all" " second part"'),
        ("EXAMPLE.com.?type=mx", "10 mail.example.com."),
    ],
)
def test_data_may_be_written_in_every_usual_way(server, question, answer):
    result = ask(f"{server}/{question}", answer=answer)
    # A CNAME's chain holds records of two types; each text is compared as the record's type.
    assert result.success, result.detail


@needs_bind
def test_another_answer_than_expected(server):
    result = ask(f"{server}/example.com?type=A", answer="192.0.2.66")
    assert result.reason is Reason.CONTENT
    assert "has 192.0.2.1 in the answer section for A example.com, expected 192.0.2.66" in (
        result.detail
    )
    assert sample(result, "probe_dns_query_succeeded") == 1


@needs_bind
def test_an_answer_that_should_not_be_there(server):
    assert ask(f"{server}/many.example.com", answer="198.51.100.7").success
    assert ask(f"{server}/many.example.com", answer="198.51.100.7", only=True).reason is (
        Reason.CONTENT
    )
    assert ask(f"{server}/many.example.com", absent="198.51.100.7").reason is Reason.CONTENT
    assert ask(f"{server}/many.example.com", absent="198.51.100.251").success


@needs_bind
def test_an_answer_too_long_for_udp_is_fetched_over_tcp(server):
    result = ask(f"{server}/many.example.com")
    assert sample(result, "probe_dns_answer_rrs") == 90
    assert sample(result, "probe_dns_duration_seconds", phase="connect") > 0


@needs_bind
def test_a_name_that_does_not_exist_is_a_status_and_may_be_expected(server):
    result = ask(f"{server}/none.example.com")
    assert result.reason is Reason.STATUS
    assert "answers NXDOMAIN for A none.example.com, expected NOERROR" in result.detail
    assert sample(result, "probe_dns_query_succeeded") == 1
    assert ask(f"{server}/none.example.com", rcode=["nxdomain", "NOERROR"]).success


@needs_bind
def test_a_zone_that_the_server_does_not_have_is_a_status(server):
    result = ask(f"{server}/example.org")
    assert result.reason is Reason.STATUS
    assert "REFUSED" in result.detail


@needs_bind
def test_no_record_of_the_type_fails_unless_none_is_needed(server):
    result = ask(f"{server}/example.com?type=AAAA")
    assert result.reason is Reason.CONTENT
    assert "has no records for AAAA example.com" in result.detail
    assert ask(f"{server}/example.com?type=AAAA", records=0).success


@needs_bind
@pytest.mark.parametrize(
    ("rules", "fine"),
    [
        ({"fail_if_matches_regexp": r"\t198\.51\."}, False),
        ({"fail_if_matches_regexp": r"\t203\."}, True),
        ({"fail_if_not_matches_regexp": [r"\tIN\tA\t198\.", r"^many\.example\.com\."]}, True),
        ({"fail_if_not_matches_regexp": r"\.1$"}, False),
        ({"fail_if_none_matches_regexp": [r"\.1$", "nothing"]}, True),
        ({"fail_if_none_matches_regexp": "nothing"}, False),
        ({"fail_if_all_match_regexp": r"198\."}, True),
        ({"fail_if_all_match_regexp": r"\.1$"}, False),
    ],
)
def test_regular_expressions_over_records(server, rules, fine):
    result = ask(f"{server}/many.example.com", validate_answer_rrs=rules)
    assert result.success is fine
    assert fine or result.reason is Reason.CONTENT


@needs_bind
def test_regular_expressions_over_the_other_sections(server):
    url, options = f"{server}/example.com?type=MX", {"recursion": False}
    ns = {"fail_if_not_matches_regexp": r"\tNS\tns\d\."}
    assert ask(url, options, validate_authority_rrs=ns).success
    assert not ask(url, options, validate_additional_rrs=ns).success
    empty = ask(f"{server}/example.com", validate_authority_rrs=ns)
    assert "there is no record to match" in empty.detail


@pytest.fixture
def pair(tmp_path):
    """Two name servers of one zone: the second's serial and record `odd` can be chosen."""
    port = udp_and_tcp_port(("127.0.0.1", "::1"))

    @contextmanager
    def start(serial=7, odd="192.0.2.9", second=True):
        with bind(tmp_path / "1", "127.0.0.1", port, zone(port)):
            if not second:
                yield f"dns://127.0.0.1:{port}"
                return
            with bind(tmp_path / "2", "::1", port, zone(port, serial, odd)):
                yield f"dns://127.0.0.1:{port}"

    return start


@needs_bind
def test_name_servers_that_agree(pair):
    with pair() as url:
        result = ask(f"{url}/odd.example.com", agreement=True)
    assert result.success, result.detail
    for name in ("ns1.example.com", "ns2.example.com"):
        assert sample(result, "probe_dns_nameserver_serial", nameserver=name) == 7
        assert sample(result, "probe_dns_nameserver_success", nameserver=name) == 1


@needs_bind
def test_name_servers_with_different_answers(pair):
    with pair(odd="192.0.2.10") as url:
        assert ask(f"{url}/odd.example.com").success
        assert ask(f"{url}/example.com", agreement=True).success
        result = ask(f"{url}/odd.example.com", agreement="answers")
    assert result.reason is Reason.CONTENT
    assert (
        "disagree about A odd.example.com: ns1.example.com has 192.0.2.9, "
        "ns2.example.com has 192.0.2.10" in result.detail
    )


@needs_bind
def test_name_servers_with_different_serials(pair):
    with pair(serial=6) as url:
        assert ask(f"{url}/example.com", agreement="answers").success
        result = ask(f"{url}/example.com", {"transport": "tcp"}, agreement=True)
    assert result.reason is Reason.CONTENT
    assert "ns1.example.com has serial 7, ns2.example.com has serial 6" in result.detail


@needs_bind
def test_a_name_server_of_the_zone_that_is_down(pair):
    with pair(second=False) as url:
        result = ask(f"{url}/example.com", agreement=True)
    assert result.reason is Reason.CONNECT
    assert "ns2.example.com: ::1" in result.detail
    name = "probe_dns_nameserver_success"
    assert sample(result, name, nameserver="ns1.example.com") == 1
    assert sample(result, name, nameserver="ns2.example.com") == 0


@needs_bind
def test_dns_over_tls(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    file = tmp_path / "both.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    port, secure = udp_and_tcp_port(("127.0.0.1",)), udp_and_tcp_port(("127.0.0.1",))
    with bind(tmp_path / "1", "127.0.0.1", port, zone(port), (secure, file)):
        options = {"transport": "tls", "ca_file": str(tmp_path / "ca.pem")}
        url = f"dns://127.0.0.1:{secure}/example.com"
        wrong = ask(url, options)
        result = ask(url, {**options, "server_name": "localhost"}, answer="192.0.2.1")
    assert result.success, result.detail
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert sample(result, "probe_dns_duration_seconds", phase="connect") > 0
    assert wrong.reason is Reason.CERTIFICATE
    assert wrong.detail == "The certificate of 127.0.0.1 is for another address."


@needs_bind
def test_ipv6(tmp_path):
    port = udp_and_tcp_port(("::1",))
    with bind(tmp_path / "1", "::1", port, zone(port)):
        result = ask(f"dns://[::1]:{port}/example.com")
    assert result.success, result.detail
    assert sample(result, "probe_ip_protocol") == 6


def test_a_name_server_whose_name_does_not_exist():
    result = ask("dns://nowhere.invalid/example.com")
    assert result.reason is Reason.DNS
    assert "nowhere.invalid" in result.detail
    assert sample(result, "probe_dns_query_succeeded") == 0
    assert sample(result, "probe_dns_answer_rrs") == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_that_nobody_listens_on(transport):
    with closed_port() as port, socket.socket(type=socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        if transport == "udp":
            port = unused.getsockname()[1]
            unused.close()
        result = ask(f"dns://127.0.0.1:{port}/example.com", {"transport": transport})
    assert result.reason is Reason.CONNECT
    assert "refuses the connection" in result.detail


def test_a_name_server_that_is_silent_leaves_time_for_a_second_attempt():
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        begin = time.monotonic()
        result = ask(f"dns://127.0.0.1:{silent.getsockname()[1]}/example.com", budget=1.0)
    assert result.reason is Reason.CONNECT
    assert "does not answer" in result.detail
    assert time.monotonic() - begin < 0.8


def test_a_host_that_answers_no_syn():
    with blackhole() as port:
        result = ask(f"dns://127.0.0.1:{port}/example.com", {"transport": "tcp"}, 0.8)
    assert result.reason is Reason.CONNECT
    assert result.duration < 0.6


def over_tcp(talk, transport="tcp", tls=None, budget=5.0, options=None) -> Result:
    async def scenario():
        async with talking(talk, tls) as port:
            url = f"dns://127.0.0.1:{port}/example.com"
            return await attempt(KIND, url, {"transport": transport, **(options or {})}, budget)

    return run(scenario())


def test_a_server_that_accepts_and_is_silent_is_a_timeout():
    result = over_tcp(mute, budget=0.5)
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 0.7


def test_a_server_that_hangs_up():
    result = over_tcp(says())
    assert result.reason is Reason.PROTOCOL
    assert "closed the connection too early" in result.detail


def test_a_server_that_speaks_no_tls():
    assert over_tcp(says("220 ready"), "tls").reason is Reason.TLS


def test_a_certificate_that_nobody_trusts():
    tls = server_context(trustme.CA().issue_cert("localhost"))
    assert over_tcp(mute, "tls", tls).reason is Reason.CERTIFICATE


@asynccontextmanager
async def over_udp(answers):
    """A UDP server that sends what `answers` makes of each query, on a port that is given."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, sender):
            for answer in answers(data):
                self.transport.sendto(answer, sender)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def misbehaving(answers, budget=1.0, options=None, **expect) -> Result:
    async def scenario():
        async with over_udp(answers) as port:
            url = f"dns://127.0.0.1:{port}/example.com"
            return await attempt(KIND, url, options, budget, **expect)

    return run(scenario())


def response(data: bytes, number: int | None = None, rcode=dns.rcode.NOERROR) -> bytes:
    answer = dns.message.make_response(dns.message.from_wire(data))
    answer.set_rcode(rcode)
    answer.answer.append(dns.rrset.from_text("example.com.", 60, "IN", "A", "192.0.2.1"))
    if number is not None:
        answer.id = number
    return answer.to_wire()


def test_an_answer_to_another_question_is_passed_over():
    def answers(data):
        forged = (dns.message.from_wire(data).id + 1) % 65_536
        return [b"", b"x", response(data, forged, dns.rcode.REFUSED), response(data)]

    assert misbehaving(answers).success


def test_what_is_no_dns_message_is_told():
    result = misbehaving(lambda data: [data[:2] + b"\x84\x00\x00\x09garbage"])
    assert result.reason is Reason.PROTOCOL
    assert "sends what is no DNS message" in result.detail


def test_an_answer_without_authority_where_it_is_needed():
    result = misbehaving(lambda data: [response(data)], authoritative=True)
    assert result.reason is Reason.CONTENT
    assert "without authority" in result.detail


def test_answers_without_end_end_in_time():
    begin = time.monotonic()

    async def scenario():
        async def flood(target):
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.bind(("127.0.0.1", port))
                while True:
                    try:
                        for _ in range(50):
                            sender.sendto(b"\0\1" * 600, ("127.0.0.1", target))
                    except OSError:
                        return
                    await asyncio.sleep(0)

        receiver: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Server(asyncio.DatagramProtocol):
            def datagram_received(self, data, sender):
                if not receiver.done():
                    receiver.set_result(sender[1])

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        url = f"dns://127.0.0.1:{port}/example.com"
        probing = asyncio.create_task(attempt(KIND, url, budget=1.0))
        target = await receiver
        transport.close()
        await asyncio.sleep(0)
        flooding = asyncio.create_task(flood(target))
        result = await probing
        flooding.cancel()
        return result

    assert run(scenario()).reason is Reason.CONNECT
    assert time.monotonic() - begin < 2


def test_a_zone_that_nobody_tells():
    result = misbehaving(lambda data: [response(data)], agreement=True)
    assert result.reason is Reason.CONTENT
    assert "does not tell which zone has A example.com" in result.detail


@pytest.mark.parametrize(
    "path", ["", "/", "/example.com?type=NONSENSE", f"/{'x' * 64}.example", "/example.com?class=Q"]
)
def test_what_cannot_be_asked_is_told(path):
    result = ask(f"dns://127.0.0.1{path}")
    assert result.reason is Reason.PROTOCOL


def test_an_unknown_response_code_is_refused():
    with pytest.raises(ValidationError, match="expected a response code such as NOERROR"):
        Expect(rcode="OOPS")
