"""Every alert that can reach Alertmanager, as the rules have it."""

from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SITE, HOST, STACK = ("site", "host"), ("host",), ()
"""What alerts are about, as the labels that say so."""


@dataclass(frozen=True)
class Kind:
    """An alert: its name, one of its severities, and what it is about."""

    name: str
    severity: str
    about: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({self.severity})"


def alerts_of_the_rules() -> list[Kind]:
    """All alerts of the rules and the courier's own, once for each severity."""
    found = {
        Kind("PrometheusSilent", "critical", STACK),
        Kind("AlertmanagerStandby", "none", STACK),
    }
    for file in (ROOT / "prometheus/rules").glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if name := rule.get("alert"):
                    summary = rule["annotations"]["summary"]
                    about = next((a for a in (SITE, HOST) if f"$labels.{a[0]}" in summary), STACK)
                    found.add(Kind(name, rule["labels"]["severity"], about))
    return sorted(found, key=str)


ALERTS = alerts_of_the_rules()
SITES = [kind for kind in ALERTS if kind.about == SITE]
SITES_AND_HOSTS = [kind for kind in ALERTS if kind.about != STACK]
STACK_ALERTS = [kind for kind in ALERTS if kind.about == STACK]
