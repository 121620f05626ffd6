"""What people read of each alert, in tests/messages; run it to write what they read now.

    .venv/bin/python tests/unit/messages.py

A file holds what one role reads in one language: of every alert of the rules, its subject, its
text and the SMS with its length. The HTML form lies beside them, for some.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/messages"
TEMPLATES = ROOT / "alertmanager/templates"
LANGUAGES = ("en", "fr")
ROLES = ("provider", "owner")
FORMS = ("subject", "text", "sms")
SILENT = {"Watchdog", "PrometheusReady", "SiteRemoved"}
"""Signals between the parts of the stack: nobody is sent them."""

BREAK = "\n=====\n"
WITH_PAGE = ("SiteDown", "IncidentResolved", "SiteSlow")

VALUES = {
    "": "3",
    "humanizeDuration": "12m 30s",
    "humanizeTimestamp": "2027-07-14 18:31:00 +0000 UTC",
    "humanizePercentage": "1.2%",
    "printf": "6.9",
}
"""What stands for the value of an alert, by the function that a rule passes it through."""

LABEL = r"\{\{ *\$labels\.(\w+) *\}\}"
QUERY = r"(?s)\s*\{\{- *with printf .*\{\{ *end *\}\}"
"""What a rule asks Prometheus for at the end of a text; nothing is found here."""

WITH_LABEL = r"\{\{ *with \$labels\.(\w+) *\}\}(.*?)\{\{ *end *\}\}"
EITHER = r"\{\{ *if [^}]*\}\}[^{]*\{\{-? *else *\}\}(.*?)\{\{ *end *\}\}"
VALUE = r"\{\{ *\$value *\|? *(\w*)[^}]*\}\}"

Alert = Mapping[str, Any]

SITE = {
    "site": "shop.example.com",
    "owner": "marie",
    "provider": "infogerance",
    "host": "srv1",
    "instance": "https://shop.example.com/cart",
    "reason": "timeout",
}
OTHER = {"job": "courier", "integration": "email", "channel": "", "place": "paris"}
"""Labels that some rules name; one that is not here stands for itself."""

TIMES = {"startsAt": "2027-07-14T18:31:00Z", "endsAt": "2027-07-14T18:43:30Z"}

FOR_OWNERS = ("IncidentResolved", "ProviderOverdue", "ReportReady")
"""What no provider is told."""

REPORT = {
    "status": "firing",
    "labels": {"alertname": "ReportReady", "severity": "info", "owner": "marie", "month": "202706"},
    "annotations": {
        "summary": "Report of 2027-06: 3 incidents",
        "incidents": "3",
        "month": "2027-06",
    },
    **TIMES,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One notification: its alerts, and how the file calls it."""

    name: str
    alerts: tuple[Alert, ...]


def rules() -> dict[str, dict[str, Any]]:
    """The alerts of the rules by name and severity; the guard's own one beside them."""
    from dolcevita.courier import guard

    found: dict[str, dict[str, Any]] = {}
    for path in sorted((ROOT / "prometheus/rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule and rule["alert"] not in SILENT:
                    severity = rule.get("labels", {}).get("severity", "")
                    name = f"{rule['alert']} {severity}{' drill' * ('drill' in rule['labels'])}"
                    # A later rule of a series of thresholds shares the words of the first.
                    words = rule.get("annotations") or found[_first(found, rule["alert"])]
                    found[name] = dict(words)
    found[f"{guard.GUARD_ALERT} critical"] = dict(guard.ANNOTATIONS)
    return dict(sorted(found.items()))


def _first(found: Mapping[str, Any], alert: str) -> str:
    return next(name for name in found if name.partition(" ")[0] == alert)


def cases(role: str) -> Iterator[Case]:
    """Every notification that a person of that role may get."""
    for name, words in rules().items():
        alert, severity, *drill = name.split()
        more = {"drill": "true", "reason": "drill"} if drill else {}
        if role == "provider" and alert not in FOR_OWNERS:
            for status in ("firing", "resolved"):
                yield Case(f"{name} {status}", (_alert(alert, severity, status, words, **more),))
        about_site = "$labels.site" in str(words)
        if (
            role == "owner"
            and name != "SiteDown critical drill"
            and (
                alert in ("SiteDown", "ServerDown", "ProviderOverdue", "IncidentResolved")
                or (severity == "warning" and about_site)
            )
        ):
            yield Case(f"{name}", (_alert(alert, severity, "firing", words, **more),))
    if role == "owner":
        yield Case("ReportReady info", (REPORT,))
        words = rules()["IncidentResolved info"]
        for count in (2, 5):
            sites = [f"site{n}.example.com" for n in range(1, count + 1)]
            alerts = (_alert("IncidentResolved", "info", "firing", words, site=s) for s in sites)
            yield Case(f"IncidentResolved info, {count} of them", tuple(alerts))
    else:
        words = rules()["SiteDown critical"]
        yield Case(
            "SiteDown critical firing, 2 of them",
            tuple(
                _alert("SiteDown", "critical", "firing", words, site=f"site{n}.example.com")
                for n in (1, 2)
            ),
        )


def _alert(
    name: str, severity: str, status: str, words: Mapping[str, str], **more: str
) -> dict[str, Any]:
    of_site = "$labels.site" in str(words)
    labels = {"alertname": name, "severity": severity, "provider": "infogerance"}
    if name.startswith("ServerDown"):
        labels |= {"host": "srv1", "owner": "marie"}
    elif of_site:
        labels |= SITE
    elif name == "NotificationsFailing":
        labels |= {"integration": OTHER["integration"], "receiver_name": "owner/marie"}
    if "{{ $labels.status }}" in str(words):
        labels |= {"status": "client transfer prohibited", "change": "gone"}
    if "{{ $labels.place }}" in str(words):
        labels["place"] = OTHER["place"]
    labels |= more
    known = {**OTHER, **labels}
    annotations = {}
    for key in {"summary", "description", "runbook_url"} & words.keys():
        text = re.sub(QUERY, "", str(words[key]))
        text = re.sub(
            WITH_LABEL,
            lambda match: (
                match[2].replace("{{ . }}", labels.get(match[1], "")) * (match[1] in labels)
            ),
            text,
        )
        text = re.sub(EITHER, r"\1", text)
        text = re.sub(LABEL, lambda match: known.get(match[1], match[1]), text)
        annotations[key] = re.sub(VALUE, lambda match: VALUES.get(match[1], match[0]), text)
    asked_for = {
        "began": "14/07 20:31",
        "began_provider": "14/07 20:31",
        "evidence_url": "http://127.0.0.1:9714/site/shop.example.com",
        "lasted": "12m 30s",
        "days": VALUES["printf"],
        "takes": VALUES["humanizeDuration"],
        "times": VALUES[""],
    }
    annotations |= {key: text for key, text in asked_for.items() if key in words}
    return {"status": status, "labels": labels, "annotations": annotations, **TIMES}


def rendered(
    amtool: Path, language: str, role: str, forms: Sequence[str], alerts: Sequence[Alert]
) -> list[str]:
    """The forms of one notification, as Alertmanager's own engine makes them."""
    first = alerts[0]
    common = {
        part: {k: v for k, v in first[part].items() if all(a[part].get(k) == v for a in alerts)}
        for part in ("labels", "annotations")
    }
    data = {
        "status": first["status"],
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": common["labels"],
        "commonAnnotations": common["annotations"],
    }
    names = [f'{{{{ template "dolcevita.{language}.{role}.{form}" . }}}}' for form in forms]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(data, file)
        file.flush()
        command = [amtool, "template", "render", f"--template.glob={TEMPLATES}/*.tmpl"]
        command += [f"--template.data={file.name}", f"--template.text={BREAK.join(names)}"]
        command += [f"--template.type={'html' if forms == ['html'] else 'text'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(BREAK)


def told(amtool: Path, language: str, role: str) -> str:
    """The whole file of one role and language."""
    parts = []
    for case in cases(role):
        subject, text, sms = rendered(amtool, language, role, FORMS, case.alerts)
        same = "as the text" if sms == text else sms
        parts.append(f"[{case.name}]\n{subject}\n{text}\nSMS, {len(sms)}: {same}\n")
    return "\n".join(parts)


def page(amtool: Path, language: str, role: str, case: Case) -> str:
    [html] = rendered(amtool, language, role, ["html"], case.alerts)
    return html.strip() + "\n"


def pages(role: str) -> Iterator[tuple[str, Case]]:
    """The notifications whose HTML form is kept, by the name of its file."""
    for case in cases(role):
        if case.name.partition(" ")[0] in WITH_PAGE:
            yield "-".join(re.findall(r"\w+", case.name)), case


def _write() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from binaries import version_ends

    amtool = version_ends()["newest"].amtool
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*"):
        path.unlink()
    for language in LANGUAGES:
        for role in ROLES:
            (FOLDER / f"{role}.{language}.txt").write_text(told(amtool, language, role))
            for name, case in pages(role):
                html = page(amtool, language, role, case)
                (FOLDER / f"{role}.{language}.{name}.html").write_text(html)


if __name__ == "__main__":
    _write()
