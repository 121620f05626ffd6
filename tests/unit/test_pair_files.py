"""What the files of a pair have in common with those of a single stack, and with each other."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import debian_package
from dolcevita.config import UserError
from dolcevita.stack import native
from dolcevita.stack.packages import Programs

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "prometheus"
MEMBERS = ("first", "second")


def loaded(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def test_members_differ_in_whom_they_ask_and_in_nothing_else() -> None:
    first, second = ((PROMETHEUS / f"pair/{name}.yml").read_text() for name in MEMBERS)
    turned = first.replace("prometheus-second", "prometheus-first").replace(
        "courier-1:9715/", "courier-2:9715/"
    )
    turned = turned.replace("for the first of", "for the second of").replace(
        "order: second", "order: first"
    )
    assert turned == second


@pytest.mark.parametrize("member", MEMBERS)
def test_member_scrapes_all_that_a_single_prometheus_does_in_the_same_way(member: str) -> None:
    single, pair = loaded(PROMETHEUS / "prometheus.yml"), loaded(PROMETHEUS / f"pair/{member}.yml")
    jobs = {job["job_name"]: job for job in pair["scrape_configs"]}
    assert jobs.keys() - {job["job_name"] for job in single["scrape_configs"]} == {"peer"}
    for job in single["scrape_configs"]:
        own = jobs[job["job_name"]]
        if job["job_name"] in ("courier", "alertmanager"):
            assert len(own["static_configs"][0]["targets"]) == 3
        else:
            # The mark of a member: availability.yml leaves events to pair/rules.yml.
            mark = {"metric_relabel_configs"} if job["job_name"] == "exporter" else set()
            assert own == job | {key: own[key] for key in mark}
    assert pair["rule_files"] == [*(f"../{name}" for name in single["rule_files"]), "rules.yml"]


@pytest.mark.parametrize("member", MEMBERS)
def test_prometheus_accepts_the_configuration_of_a_pair(programs: Programs, member: str) -> None:
    run = subprocess.run(
        [programs.promtool, "check", "config", PROMETHEUS / f"pair/{member}.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The services of both compose files together, as Compose reads them."""
    try:
        package = debian_package("sid", "docker-compose")
    except UserError as error:
        pytest.skip(str(error))
    program = next(p for p in package.glob("usr/lib*/**/docker-compose") if p.is_file())
    files = ("-f", "docker-compose.yml", "-f", "docker-compose.pair.yml")
    run = subprocess.run(
        [program, *files, "config"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return dict(yaml.safe_load(run.stdout)["services"])


def test_every_address_in_the_configuration_is_a_service(
    services: dict[str, dict[str, Any]],
) -> None:
    names = set(services)
    for service in services.values():
        for network in service["networks"].values():
            names |= set((network or {}).get("aliases", ()))
    texts = [(PROMETHEUS / f"pair/{member}.yml").read_text() for member in MEMBERS]
    texts += [" ".join(service.get("command") or ()) for service in services.values()]
    addressed = {name for text in texts for name in re.findall(r"([a-z][\w-]*):[89]\d{3}", text)}
    assert addressed - names == {"localhost"}


def test_members_run_with_the_flags_of_a_single_stack(services: dict[str, dict[str, Any]]) -> None:
    for name in ("prometheus", "prometheus-second"):
        assert set(native.PROMETHEUS_FLAGS) <= set(services[name]["command"])
    alone = "--cluster.listen-address="
    flags = {*native.ALERTMANAGER_FLAGS, native.START_DELAY_FLAG} - {alone}
    for name in ("alertmanager", "alertmanager-2", "alertmanager-3"):
        assert flags <= set(services[name]["command"])


def test_no_two_share_what_they_write_or_a_port_of_this_machine(
    services: dict[str, dict[str, Any]],
) -> None:
    written = [
        volume["source"]
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "volume" and not volume.get("read_only")
    ]
    ports = [port["published"] for s in services.values() for port in s.get("ports", ())]
    assert len(written) == len(set(written))
    assert len(ports) == len(set(ports))


def test_each_of_the_pair_has_a_file_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    for name, member in zip(("prometheus", "prometheus-second"), MEMBERS, strict=True):
        assert (
            f"--config.file=/etc/dolcevita/prometheus/pair/{member}.yml"
            in services[name]["command"]
        )
