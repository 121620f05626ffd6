"""One probe as a person reads it: a waterfall of phases, the certificate, the verdict."""

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dolcevita.probes import Phase, Result
from dolcevita.probes.certificate import Certificate

WIDTH = 40
"""Columns of the waterfall."""


def render(name: str, url: str, result: Result, now: datetime | None = None) -> RenderableType:
    """What `dolcevita probe` prints; `now` is an aware instant, for the days left."""
    heading = Text(name, style="bold")
    if name != url:
        heading.append(f"  {url}", style="not bold")
    parts: list[RenderableType] = [heading]
    if result.phases:
        parts += ["", _waterfall(result.phases)]
    facts = dict(result.facts)
    if result.certificates:
        facts |= _certificate(result.certificates, now or datetime.now(UTC))
    if facts:
        parts += ["", _table(facts)]
    return Group(*parts, "", _verdict(result))


def _waterfall(phases: tuple[Phase, ...]) -> Table:
    end = max(phase.start + phase.seconds for phase in phases) or 1.0
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(no_wrap=True, width=WIDTH)
    table.add_column(justify="right")
    for phase in phases:
        before = min(int(phase.start / end * WIDTH), WIDTH - 1)
        length = min(max(1, round(phase.seconds / end * WIDTH)), WIDTH - before)
        bar = Text(" " * before + "█" * length, style="green" if phase.finished else "red")
        table.add_row(phase.name, bar, f"{phase.seconds * 1000:.1f} ms")
    return table


def _certificate(chain: tuple[Certificate, ...], now: datetime) -> dict[str, str]:
    own = chain[0]
    first = min(chain, key=lambda certificate: certificate.expires)
    facts = {
        "certificate": f"{own.subject}, for {', '.join(own.names) or 'no name'}",
        "issued by": own.issuer,
        "expires": _expiry(own, now),
    }
    if first is not own:
        facts["chain expires"] = f"{_expiry(first, now)}: {first.subject}"
    return facts


def _expiry(certificate: Certificate, now: datetime) -> str:
    days = int((certificate.expires - now.timestamp()) // 86400)
    try:
        day = datetime.fromtimestamp(certificate.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError):
        day = "in a year beyond reckoning"
    return f"{day}, {days} days left" if days >= 0 else f"{day}, {-days} days ago"


def _table(facts: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for label, text in facts.items():
        # As Text: what a server sends is not rich markup.
        table.add_row(Text(label), Text(text))
    return table


def _verdict(result: Result) -> Text:
    if not result.known:
        verdict = Text("UNKNOWN", style="bold yellow")
    elif result.success:
        verdict = Text("FINE", style="bold green")
    else:
        verdict = Text(f"FAILED ({result.reason})", style="bold red")
    verdict.append(f"  {result.detail}", style="not bold default")
    tries = f", {result.attempts} attempts" if result.attempts > 1 else ""
    verdict.append(f"  [{result.duration:.3f} s{tries}]", style="dim not bold")
    return verdict
