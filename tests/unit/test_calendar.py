"""Quiet time: the entries given to Alertmanager say what a plain reading of people.yml says."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import holidays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolcevita.alerting.calendar import intervals, next_quiet, next_reachable, reachable
from dolcevita.config import Owner, Problem, Quiet
from dolcevita.config.source import Source
from dolcevita.config.week import Week, read_quiet

PARIS = ZoneInfo("Europe/Paris")
EVENINGS = (time(19), time(9))


@dataclass(frozen=True)
class Wish:
    """Quiet time as a user thinks of it."""

    hours: tuple[time, time] | None = None
    weekends: bool = False
    public_holidays: str = ""
    away: tuple[tuple[date, date], ...] = ()


def quiet(wish: Wish) -> Quiet:
    return Quiet(week(wish.hours), wish.weekends, wish.public_holidays, False, wish.away)


def week(hours: tuple[time, time] | None) -> Week:
    if hours is None:
        return ()
    text = f"{hours[0]:%H:%M}-{hours[1]:%H:%M}"
    problems: list[Problem] = []
    found = read_quiet(Source("people.yml", {}), ("owners", 0, "quiet", "hours"), text, problems)
    assert not problems
    return found


def owner(wish: Wish | None, timezone: str = "Europe/Paris") -> Owner:
    when = quiet(wish) if wish else None
    return Owner("marie", "fr", timezone, (), frozenset({"resolved"}), when, None, False)


def paris(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS, fold=fold)


def disturbs(when: Wish, wall: datetime) -> bool:
    """A plain reading of people.yml: the oracle."""
    minute = wall.time().replace(second=0, microsecond=0)
    if when.hours:
        start, end = when.hours
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if inside:
            return False
    if when.weekends and wall.isoweekday() >= 6:
        return False
    if when.public_holidays:
        country, _, subdivision = when.public_holidays.partition("-")
        if wall.date() in holidays.country_holidays(country, subdiv=subdivision or None):
            return False
    return not any(first <= wall.date() <= last for first, last in when.away)


def test_owner_without_quiet_time_is_always_reachable() -> None:
    assert reachable(owner(None), paris("2027-07-14T20:31"))
    assert reachable(owner(Wish()), paris("2027-07-14T20:31"))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2027-07-13T18:59:59", True),
        ("2027-07-13T19:00", False),
        ("2027-07-13T23:59:59", False),
        ("2027-07-14T00:00", False),
        ("2027-07-14T08:59:59", False),
        ("2027-07-14T09:00", True),
    ],
)
def test_hours_over_midnight_begin_at_the_first_and_end_before_the_last(
    at: str, expected: bool
) -> None:
    assert reachable(owner(Wish(EVENINGS)), paris(at)) is expected


def test_hours_may_end_at_midnight() -> None:
    evening = owner(Wish((time(22), time(0))))
    assert not reachable(evening, paris("2027-07-13T23:59"))
    assert reachable(evening, paris("2027-07-14T00:00"))


def test_weekends_are_whole_days() -> None:
    restful = owner(Wish(weekends=True))
    assert reachable(restful, paris("2027-07-16T23:59"))
    assert not reachable(restful, paris("2027-07-17T00:00"))
    assert not reachable(restful, paris("2027-07-18T23:59"))
    assert reachable(restful, paris("2027-07-19T00:00"))


def test_public_holidays_follow_the_country_and_its_subdivision() -> None:
    bastille = paris("2027-07-14T12:00")
    assert not reachable(owner(Wish(public_holidays="FR")), bastille)
    assert reachable(owner(Wish(public_holidays="DE")), bastille)
    saint_stephen = paris("2027-12-26T12:00")
    assert reachable(owner(Wish(public_holidays="FR")), saint_stephen)
    assert not reachable(owner(Wish(public_holidays="FR-57")), saint_stephen)


def test_public_holidays_reach_two_years_beyond_this_one() -> None:
    entries = intervals(quiet(Wish(public_holidays="FR")), "Europe/Paris", date(2027, 12, 31))
    assert max(entry.years[0][0] for entry in entries) == 2029


def test_absence_is_quiet_from_its_first_midnight_to_its_last() -> None:
    traveller = owner(Wish(away=((date(2027, 7, 10), date(2027, 7, 25)),)))
    assert reachable(traveller, paris("2027-07-09T23:59:59"))
    assert not reachable(traveller, paris("2027-07-10T00:00"))
    assert not reachable(traveller, paris("2027-07-25T23:59:59"))
    assert reachable(traveller, paris("2027-07-26T00:00"))


def test_past_absence_is_left_out() -> None:
    past = Wish(away=((date(2027, 7, 1), date(2027, 7, 13)),))
    assert intervals(quiet(past), "Europe/Paris", date(2027, 7, 14)) == ()
    assert intervals(quiet(past), "Europe/Paris", date(2027, 7, 13))


def test_last_day_of_the_month_of_summer_time_is_quiet() -> None:
    traveller = owner(Wish(away=((date(2027, 3, 31), date(2027, 3, 31)),)))
    assert not reachable(traveller, paris("2027-03-31T12:00"))
    entries = intervals(traveller.quiet, "Europe/Paris", date(2027, 3, 1))
    assert {entry.location for entry in entries} == {"UTC"}


@pytest.mark.parametrize("day", ["2027-03-28", "2027-10-31"])
@pytest.mark.parametrize(
    "hours",
    [EVENINGS, (time(2), time(3)), (time(2, 30), time(2, 45)), (time(22), time(2, 30))],
)
def test_quiet_hours_hold_at_the_wall_clock_on_the_nights_the_clock_changes(
    day: str, hours: tuple[time, time]
) -> None:
    when = Wish(hours)
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=4)
    for minute in range(12 * 60):
        at = start + timedelta(minutes=minute)
        assert reachable(owner(when), at) is disturbs(when, at.astimezone(PARIS)), at


def test_hour_that_exists_twice_is_quiet_twice() -> None:
    night = owner(Wish((time(2), time(3))))
    assert not reachable(night, paris("2027-10-31T02:30", fold=0))
    assert not reachable(night, paris("2027-10-31T02:30", fold=1))
    assert reachable(night, paris("2027-10-31T03:00"))


@pytest.mark.parametrize(
    ("when", "at", "expected"),
    [
        (Wish(EVENINGS), "2027-07-13T20:00", "2027-07-14T09:00"),
        (Wish(EVENINGS), "2027-07-13T12:34", "2027-07-13T12:34"),
        (Wish(EVENINGS, public_holidays="FR"), "2027-07-13T20:00", "2027-07-15T09:00"),
        (Wish(EVENINGS, weekends=True), "2027-07-16T19:00", "2027-07-19T09:00"),
        (Wish((time(22), time(2, 30))), "2027-03-28T01:00", "2027-03-28T03:00"),
        (
            Wish(EVENINGS, away=((date(2027, 7, 10), date(2027, 7, 25)),)),
            "2027-07-11T11:00",
            "2027-07-26T09:00",
        ),
    ],
)
def test_next_reachable_moment(when: Wish, at: str, expected: str) -> None:
    found = next_reachable(owner(when), paris(at))
    assert found is not None
    assert found.replace(tzinfo=None).isoformat(timespec="minutes") == expected


@pytest.mark.parametrize(
    ("when", "at", "expected"),
    [
        (Wish(EVENINGS), "2027-07-13T12:34", "2027-07-13T19:00"),
        (Wish(EVENINGS, weekends=True), "2027-07-12T09:00", "2027-07-12T19:00"),
        (Wish(public_holidays="FR"), "2027-07-13T12:34", "2027-07-14T00:00"),
        (Wish(EVENINGS), "2027-07-13T20:00", "2027-07-13T20:00"),
        (Wish(), "2027-07-13T20:00", None),
    ],
)
def test_next_quiet_moment(when: Wish, at: str, expected: str | None) -> None:
    found = next_quiet(owner(when), paris(at))
    assert (found and found.replace(tzinfo=None).isoformat(timespec="minutes")) == expected


def test_owner_who_is_away_for_years_is_not_reachable_at_all() -> None:
    hermit = owner(Wish(away=((date(2027, 1, 1), date(2035, 1, 1)),)))
    assert next_reachable(hermit, paris("2027-07-14T12:00")) is None


ZONES = ["Europe/Paris", "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
ZONES += ["Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "Pacific/Chatham"]
DAYS = st.dates(date(2026, 1, 1), date(2030, 12, 31))
MINUTES = st.times().map(lambda t: t.replace(second=0, microsecond=0))


@st.composite
def absences(draw: st.DrawFn) -> tuple[date, date]:
    first = draw(DAYS)
    return first, first + timedelta(days=draw(st.integers(0, 70)))


@settings(max_examples=300, deadline=None)
@given(
    hours=st.none() | st.tuples(MINUTES, MINUTES).filter(lambda h: h[0] != h[1]),
    weekends=st.booleans(),
    public_holidays=st.sampled_from(["", "FR", "FR-57", "US-CA"]),
    away=st.lists(absences(), max_size=3).map(tuple),
    zone=st.sampled_from(ZONES),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31), timezones=st.just(UTC)),
)
def test_entries_say_what_people_yml_says(
    hours: tuple[time, time] | None,
    weekends: bool,
    public_holidays: str,
    away: tuple[tuple[date, date], ...],
    zone: str,
    start: datetime,
) -> None:
    when = Wish(hours, weekends, public_holidays, away)
    who = owner(when, zone)
    for minute in range(0, 26 * 60, 15):
        at = start + timedelta(minutes=minute)
        assert reachable(who, at) is disturbs(when, at.astimezone(ZoneInfo(zone))), at
    free = next_reachable(who, start)
    if free is not None:
        assert reachable(who, free)
        earlier = free - timedelta(minutes=1)
        assert free == start or earlier < start or not reachable(who, earlier)
