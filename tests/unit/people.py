"""Random people, their times and their channels, for tests; seeded, so that a failure repeats."""

import random
from datetime import date, timedelta
from typing import Any

ZONES = (
    "UTC Europe/Paris America/New_York America/St_Johns America/Los_Angeles Asia/Kathmandu "
    "Asia/Tokyo Australia/Lord_Howe Australia/Adelaide Pacific/Auckland Pacific/Chatham "
    "Pacific/Apia Africa/Cairo America/Sao_Paulo Asia/Tehran Atlantic/Azores"
).split()
REGIONS = ("FR", "FR-57", "US", "US-CA", "JP", "GB-SCT", "DE-BY", "IN", "BR", "AU")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def clock(r: random.Random) -> str:
    return f"{r.randrange(24):02}:{r.choice((0, 0, 15, 30, r.randrange(60))):02}"


def span(r: random.Random) -> str:
    while (start := clock(r)) == (end := r.choice((clock(r), "24:00"))):
        pass
    return f"{start}-{end}"


def hours(r: random.Random) -> Any:
    """One range, several, or some for each weekday."""
    match r.randrange(4):
        case 0 | 1:
            return span(r)
        case 2:
            return [span(r) for _ in range(r.randint(1, 3))]
        case _:
            cut = r.randint(1, 6)
            first = f"{DAYS[0]}-{DAYS[cut - 1]}" if cut > 1 else DAYS[0]
            return {first: span(r), ",".join(DAYS[cut:]): [span(r) for _ in range(r.randint(1, 2))]}


def dates(r: random.Random, today: date) -> dict[str, Any]:
    """Holidays, bridges and absences about `today`."""
    found: dict[str, Any] = {}
    if r.random() < 0.4:
        found["public_holidays"] = r.choice(REGIONS)
        found["bridge_days"] = r.random() < 0.5
    if r.random() < 0.4:
        first = today + timedelta(days=r.randint(-40, 3))
        found["away"] = f"{first}..{first + timedelta(days=r.choice((0, 1, 2, 30, 50)))}"
    return found


def quiet(r: random.Random, today: date) -> dict[str, Any]:
    found = dates(r, today)
    if r.random() < 0.8:
        found["hours"] = hours(r)
    if r.random() < 0.3:
        found["weekends"] = True
    return found


def working_hours(r: random.Random, today: date) -> Any:
    return {"hours": hours(r), **dates(r, today)} if r.random() < 0.5 else hours(r)
