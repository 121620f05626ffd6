"""The ICMP prober on the loopback, and in network namespaces where rights and routes differ."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from dolcevita.probes import Reason
from dolcevita.probes.icmp import KIND, Options
from peers import attempt
from webserver import has, run, sample

APART = ("unshare", "--map-root-user", "--net")
"""In a network of one's own, with every right there; no group may ping in a new one."""

POWERLESS = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
"""Without any right."""


def can_be_apart() -> bool:
    if not (shutil.which("unshare") and shutil.which("setpriv") and shutil.which("ip")):
        return False
    return subprocess.run([*APART, "true"], capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not can_be_apart(), reason="unshare, setpriv or ip is missing, or namespaces are forbidden"
)


def ping(url, options=None, budget=4.0):
    result = run(attempt(KIND, url, options, budget))
    if result.reason is Reason.LOCAL:
        pytest.skip(result.detail)
    return result


def apart(
    prepare: str, url: str, options=None, budget=2.0, command: tuple[str, ...] = ()
) -> dict[str, object]:
    """A ping in a network namespace of its own, after the shell commands in `prepare`."""
    code = (
        "import asyncio, json, sys, time; from peers import attempt; "
        "from dolcevita.probes.icmp import KIND; begin = time.monotonic(); "
        "r = asyncio.run(attempt(KIND, sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])));"
        "print(json.dumps({'reason': r.reason, 'detail': r.detail, "
        "'seconds': time.monotonic() - begin, "
        "'values': {s.name: s.value for s in r.samples}}))"
    )
    python = [sys.executable, "-c", code, url, json.dumps(options or {}), str(budget)]
    shell = f'set -e; ip link set lo up; {prepare}\nexec "$@"'
    done = subprocess.run(
        [*APART, "sh", "-c", shell, "sh", *command, *python],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("host", "version"), [("127.0.0.1", 4), ("[::1]", 6)])
def test_a_host_that_answers_is_fine_and_measured_as_blackbox_exporter_does(host, version):
    result = ping(f"icmp://{host}")
    assert result.success, result.detail
    assert sample(result, "probe_ip_protocol") == version
    assert sample(result, "probe_icmp_reply_hop_limit") == 64
    assert 0 < sample(result, "probe_icmp_duration_seconds", phase="rtt") < 0.5
    assert has(result, "probe_ip_addr_hash")
    assert [phase.name for phase in result.phases] == ["resolve", "setup", "rtt"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("size", [0, 1, 1399, 20_000])
def test_the_size_of_the_packet(host, size):
    assert ping(f"icmp://{host}", {"payload_size": size}).success


def test_the_other_options():
    options = {"ttl": 1, "dont_fragment": True, "source_ip_address": "127.0.0.5"}
    assert ping("icmp://127.0.0.1", options).success


def test_many_pings_at_once_do_not_take_each_others_replies():
    async def scenario():
        return await asyncio.gather(
            *(attempt(KIND, f"icmp://127.0.0.{n}", budget=4.0) for n in range(1, 101))
        )

    results = run(scenario())
    if results[0].reason is Reason.LOCAL:
        pytest.skip(results[0].detail)
    assert all(result.success for result in results)


def test_a_name_that_does_not_exist():
    result = run(attempt(KIND, "icmp://nowhere.invalid"))
    assert result.reason is Reason.DNS
    assert sample(result, "probe_icmp_duration_seconds", phase="rtt") == 0


def test_an_address_of_the_other_version():
    assert run(attempt(KIND, "icmp://127.0.0.1", {"ip_version": 6})).reason is Reason.DNS


def test_no_host_at_all():
    assert run(attempt(KIND, "icmp://")).reason is Reason.PROTOCOL


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": 256}, {"payload_size": 70_000}])
def test_what_fits_into_no_packet_is_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


@needs_namespaces
def test_a_host_that_is_silent_leaves_time_for_a_second_attempt():
    silence = "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all"
    answer = apart(silence, "icmp://127.0.0.1", budget=1.0)
    assert answer["reason"] == Reason.CONNECT
    assert answer["detail"] == "127.0.0.1 does not answer."
    assert 0.4 < answer["seconds"] < 0.8


@needs_namespaces
def test_a_host_that_no_route_leads_to():
    answer = apart("true", "icmp://192.0.2.2")
    assert answer["reason"] == Reason.CONNECT
    assert "no route to its network" in answer["detail"]


@needs_namespaces
def test_a_router_that_says_unreachable_is_believed_at_once():
    answer = apart("ip route add unreachable 192.0.2.0/24", "icmp://192.0.2.2")
    assert answer["reason"] == Reason.CONNECT
    assert "no route to the host" in answer["detail"]


@needs_namespaces
def test_a_packet_that_may_not_be_split_and_is_too_large():
    options = {"payload_size": 3000, "dont_fragment": True}
    answer = apart("ip link set lo mtu 1400", "icmp://127.0.0.1", options)
    assert answer["reason"] == Reason.CONNECT
    assert "without splitting it" in answer["detail"]
    options["dont_fragment"] = False
    answer = apart("ip link set lo mtu 1400", "icmp://127.0.0.1", options)
    assert answer["reason"] is None


@needs_namespaces
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_no_right_is_needed_where_the_group_may_ping(host):
    allow = "echo 0 0 > /proc/sys/net/ipv4/ping_group_range"
    answer = apart(allow, f"icmp://{host}", command=POWERLESS)
    assert answer["reason"] is None, answer["detail"]
    assert answer["values"]["probe_icmp_reply_hop_limit"] == 64


@needs_namespaces
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_right_to_raw_sockets_is_enough(host):
    answer = apart("true", f"icmp://{host}")
    assert answer["reason"] is None, answer["detail"]
    assert answer["values"]["probe_icmp_reply_hop_limit"] == 64


@needs_namespaces
def test_without_any_right_it_says_what_to_do():
    begin = time.monotonic()
    answer = apart("true", "icmp://127.0.0.1", command=POWERLESS)
    assert answer["reason"] == Reason.LOCAL
    assert "net.ipv4.ping_group_range" in answer["detail"]
    assert "CAP_NET_RAW" in answer["detail"]
    assert time.monotonic() - begin < 10
