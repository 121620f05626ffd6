"""What people read, rendered by Alertmanager's own engine at both ends of the versions."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from binaries import version_ends
from dolcevita.config import UserError

TEMPLATES = Path(__file__).parents[2] / "alertmanager/templates"
GSM_7 = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
SMS = 160

Render = Callable[..., str]


@pytest.fixture(params=["oldest", "newest"])
def render(request: pytest.FixtureRequest, tmp_path: Path) -> Render:
    try:
        amtool = version_ends()[request.param].amtool
    except UserError as error:
        pytest.skip(str(error))

    def render(name: str, *alerts: Mapping[str, Any]) -> str:
        data = tmp_path / "data.json"
        common = dict(alerts[0]["labels"])
        for other in alerts:
            common = {k: v for k, v in common.items() if other["labels"].get(k) == v}
        annotations = alerts[0]["annotations"] if len(alerts) == 1 else {}
        data.write_text(
            json.dumps(
                {
                    "status": "firing",
                    "alerts": alerts,
                    "groupLabels": {},
                    "commonLabels": common,
                    "commonAnnotations": annotations,
                }
            )
        )
        command = [amtool, "template", "render", f"--template.glob={TEMPLATES}/*.tmpl"]
        command += [f"--template.data={data}", f'--template.text={{{{ template "{name}" . }}}}']
        command += [f"--template.type={'html' if name.endswith('.html') else 'text'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return render


def alert(name: str, status: str = "firing", **annotations: str) -> dict[str, Any]:
    labels = {"alertname": name, "severity": "critical", "provider": "infogerance"}
    if name == "ServerDown":
        labels["host"] = "srv1"
    if name in ("SiteDown", "IncidentResolved"):
        labels |= {"site": "shop", "owner": "marie", "reason": "timeout"}
        labels["instance"] = "https://shop.example.com/cart"
    times = {"startsAt": "2027-07-14T18:31:00Z", "endsAt": "2027-07-14T18:43:30Z"}
    return {"status": status, "labels": labels, "annotations": annotations, **times}


BEGAN = {"began": "14/07 20:31", "began_provider": "14/07 20:31"}
RUNBOOK = {
    "runbook_url": "https://github.com/dolcevita/dolcevita/blob/main/docs/runbooks/SiteDown.md"
}


@pytest.mark.parametrize(
    ("name", "alert_", "expected"),
    [
        (
            "en.provider.text",
            alert("SiteDown", **BEGAN, runbook_url="https://example.com/r"),
            "DOWN shop: no answer in time, since 14/07 20:31. https://example.com/r",
        ),
        (
            "fr.provider.text",
            alert("SiteDown", **BEGAN, runbook_url="https://example.com/r"),
            "PANNE shop : délai dépassé, depuis le 14/07 20:31. https://example.com/r",
        ),
        (
            "en.provider.text",
            alert("SiteDown", "resolved", lasted="12m 30s"),
            "UP shop again after 12m 30s (no answer in time)",
        ),
        (
            "fr.provider.text",
            alert("SiteDown", "resolved", lasted="1d 2h 30m"),
            "OK shop : rétabli après 1j 2h 30m (délai dépassé)",
        ),
        (
            "en.provider.text",
            alert("SiteDown", "resolved"),
            "UP shop again after 12m30s (no answer in time)",
        ),
        ("en.provider.text", alert("ServerDown", **BEGAN), "DOWN server srv1, since 14/07 20:31"),
        ("fr.provider.text", alert("ServerDown", **BEGAN),
         "PANNE serveur srv1, depuis le 14/07 20:31"),
        ("fr.provider.text", alert("ServerDown", "resolved", lasted="9m 0s"),
         "OK serveur srv1 : rétabli après 9m 0s"),
        (
            "en.provider.text",
            alert("UplinkDown", summary="The uplink is down"),
            "CRITICAL The uplink is down",
        ),
        ("en.provider.text", alert("UplinkDown", "resolved", summary="The uplink is down"),
         "OVER The uplink is down, after 12m30s"),
        ("fr.provider.text", alert("UplinkDown", summary="The uplink is down"),
         "ALERTE la surveillance n'a plus de réseau"),
        ("fr.provider.text", alert("PrometheusSilent"),
         "ALERTE Prometheus ne répond plus, plus rien n'est surveillé"),
        (
            "en.owner.text",
            alert("IncidentResolved", began="14/07 20:31", lasted="12m 30s"),
            "shop was down 14/07 20:31 for 12m 30s (no answer in time). "
            "It is fixed, nothing to do.",
        ),
        (
            "fr.owner.text",
            alert("IncidentResolved", began="14/07 20:31", lasted="12m 30s"),
            "shop : panne le 14/07 20:31, 12m 30s (délai dépassé). C'est réparé, rien à faire.",
        ),
        ("en.owner.text", alert("SiteDown", **BEGAN),
         "shop is down since 14/07 20:31 (no answer in time). infogerance has been told."),
        ("fr.owner.text", alert("ServerDown", **BEGAN),
         "serveur srv1 : en panne depuis le 14/07 20:31. infogerance est au courant."),
        ("en.owner.subject", alert("IncidentResolved"), "shop is fixed"),
        ("fr.owner.subject", alert("IncidentResolved"), "shop : c'est réparé"),
        ("en.provider.subject", alert("SiteDown"), "DOWN shop"),
        ("fr.provider.subject", alert("SiteDown", "resolved"), "OK shop"),
    ],
)  # fmt: skip
def test_message_of_one_alert(
    render: Render, name: str, alert_: Mapping[str, Any], expected: str
) -> None:
    assert render(f"dolcevita.{name}", alert_) == expected


def test_digest_lists_every_incident_once(render: Render) -> None:
    other = alert("IncidentResolved", began="15/07 03:10", lasted="1d 5m")
    other["labels"] |= {"site": "mail", "reason": "dns"}
    both = (alert("IncidentResolved", began="14/07 20:31", lasted="12m 30s"), other)
    assert render("dolcevita.en.owner.text", *both).splitlines() == [
        "2 incidents, all fixed, nothing to do:",
        "- shop, 14/07 20:31, 12m 30s (no answer in time)",
        "- mail, 15/07 03:10, 1d 5m (name not found)",
    ]
    assert render("dolcevita.fr.owner.text", *both).splitlines() == [
        "2 incidents, tous réparés, rien à faire :",
        "- shop, le 14/07 20:31, 12m 30s (délai dépassé)",
        "- mail, le 15/07 03:10, 1j 5m (nom introuvable)",
    ]
    assert render("dolcevita.fr.owner.subject", *both) == "2 incidents, tous réparés"


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("role", ["provider", "owner"])
@pytest.mark.parametrize("name", ["SiteDown", "ServerDown", "IncidentResolved", "UplinkDown"])
def test_text_fits_one_sms(render: Render, language: str, role: str, name: str) -> None:
    for status in ("firing", "resolved") if role == "provider" else ("firing",):
        told = alert(name, status, **BEGAN, **RUNBOOK, lasted="12d 23h 59m", summary="Uplink down")
        text = render(f"dolcevita.{language}.{role}.text", told)
        assert text.strip() == text != ""
        assert len(text) <= SMS
        assert set(text) <= GSM_7


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", ["SiteDown", "ServerDown", "SiteDownEscalated"])
@pytest.mark.parametrize(
    ("site", "length", "fits"), [(4, 75, True), (45, 40, True), (45, 90, False)]
)
def test_provider_gets_the_link_to_what_was_seen_where_it_fits_one_sms(
    render: Render, language: str, name: str, site: int, length: int, fits: bool
) -> None:
    url = "https://monitor.example.com/site/".ljust(length, "x")
    told = alert(name, **BEGAN, evidence_url=url, runbook_url="docs/r.md")
    told["labels"]["host" if name == "ServerDown" else "site"] = "s" * site
    told["labels"]["reason"] = "missed"
    text = render(f"dolcevita.{language}.provider.text", told)
    assert text.endswith(f". {url}" if fits else ". docs/r.md")
    assert len(text) <= SMS
    assert f'href="{url}"' in render(f"dolcevita.{language}.provider.html", told)


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("role", ["provider", "owner"])
def test_html_shows_names_as_text(render: Render, language: str, role: str) -> None:
    hostile = alert("IncidentResolved", **BEGAN, lasted="1m")
    hostile["labels"]["site"] = "<script>alert(1)</script>"
    html = render(f"dolcevita.{language}.{role}.html", hostile)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("reason", "dns connect tls certificate timeout status content redirect "
                         "protocol unknown".split())  # fmt: skip
def test_every_reason_has_words_in_french(render: Render, reason: str) -> None:
    told = alert("SiteDown")
    told["labels"]["reason"] = reason
    text = render("dolcevita.fr.provider.text", told)
    words = text.removeprefix("PANNE shop : ")
    assert words not in ("", reason)


def test_unknown_reason_is_told_as_it_is(render: Render) -> None:
    told = alert("SiteDown")
    told["labels"]["reason"] = "gremlins"
    assert render("dolcevita.fr.provider.text", told) == "PANNE shop : gremlins"
