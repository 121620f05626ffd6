"""The manifests for Kubernetes: what kustomize makes of them, against the schemas of Kubernetes."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from binaries import debian_package
from dolcevita.config import UserError
from dolcevita.stack import native

ROOT = Path(__file__).parents[2]
NEWEST = kubernetes_validate.latest_version()
OLDEST = "1.31.0"
"""Where `ordinals` of a StatefulSet are no longer new."""
MEMBERS = {"pair/prometheus-0.yml": "pair/first.yml", "pair/prometheus-1.yml": "pair/second.yml"}
"""Which configuration each pod of the pair finds under its own name."""


def kubectl() -> str:
    """The one of this machine, or Debian's."""
    if found := shutil.which("kubectl"):
        return found
    try:
        return str(debian_package("sid", "kubectl") / "usr/bin/kubectl")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    run = subprocess.run(
        [kubectl(), "kustomize", ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_does_not_exist_is_noticed(manifests: list[dict[str, Any]]) -> None:
    broken = of_kind(manifests, "StatefulSet")["prometheus"]
    broken = {**broken, "spec": {**broken["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, NEWEST, strict=True)


def test_every_rule_and_every_template_is_where_it_is_in_the_repository(
    manifests: list[dict[str, Any]],
) -> None:
    found = set()
    for name in ("prometheus", "alertmanager"):
        spec = of_kind(manifests, "StatefulSet")[name]["spec"]["template"]["spec"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == "configuration"]
        top = "prometheus/" if name == "prometheus" else ""
        for source in volume["projected"]["sources"]:
            keys = of_kind(manifests, "ConfigMap")[source["configMap"]["name"]]["data"]
            items = source["configMap"]["items"]
            assert {item["key"] for item in items} == keys.keys()
            found |= {top + MEMBERS.get(item["path"], item["path"]) for item in items}
    files = [
        *ROOT.glob("prometheus/rules/*.yml"),
        *ROOT.glob("prometheus/pair/*.yml"),
        *ROOT.glob("alertmanager/templates/*"),
        *ROOT.glob("alertmanager/*.yml"),
    ]
    named = {str(path.relative_to(ROOT)) for path in files}
    assert found == named | {"sites.yml", "people.yml", "secrets/README.md"}


def test_containers_run_with_the_flags_of_a_single_stack_and_few_rights(
    manifests: list[dict[str, Any]],
) -> None:
    sets = of_kind(manifests, "StatefulSet") | of_kind(manifests, "Deployment")
    containers = {
        container["name"]: container
        for workload in sets.values()
        for container in workload["spec"]["template"]["spec"]["containers"]
    }
    alone = "--cluster.listen-address="
    flags = {*native.ALERTMANAGER_FLAGS, native.START_DELAY_FLAG} - {alone}
    assert set(native.PROMETHEUS_FLAGS) <= set(containers["prometheus"]["args"])
    assert flags <= set(containers["alertmanager"]["args"])
    for container in containers.values():
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("member", ["first", "second"])
def test_every_address_is_a_service(manifests: list[dict[str, Any]], member: str) -> None:
    services = of_kind(manifests, "Service")
    text = (ROOT / f"prometheus/pair/{member}.yml").read_text()
    for name, port in set(re.findall(r"([a-z][\w-]*):([89]\d{3})", text)) - {("localhost", "9090")}:
        assert services[name]["spec"]["ports"][0]["port"] == int(port)
