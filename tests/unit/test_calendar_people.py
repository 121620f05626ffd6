"""Quiet time as people.yml gives it: by weekday, with bridge days, from calendars."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dolcevita.alerting.calendar import intervals, next_reachable, reachable
from dolcevita.alerting.intervals import Muting
from dolcevita.config import ConfigError, Owner, Provider
from dolcevita.config.people import PeopleReader

PARIS = ZoneInfo("Europe/Paris")
TODAY = date(2027, 7, 1)


def read(folder: Path, quiet: str, provider: str = "") -> tuple[Owner, Provider]:
    path = folder / "people.yml"
    path.write_text(
        f"providers:\n  - name: pro\n    timezone: Europe/Paris\n    notify: []\n{provider}"
        f"owners:\n  - name: marie\n    timezone: Europe/Paris\n    notify: []\n"
        f"    quiet: {quiet}\n"
    )
    owners, providers = PeopleReader(path, TODAY).read()
    return owners[0], providers[0]


def paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


def quiet_at(owner: Owner, *times: str) -> list[bool]:
    return [not reachable(owner, paris(text)) for text in times]


def test_several_ranges_are_all_quiet(tmp_path: Path) -> None:
    owner, _ = read(tmp_path, '{hours: ["12:00-14:00", "19:00-09:00"]}')
    assert quiet_at(
        owner, "2027-07-13T08:59", "2027-07-13T09:00", "2027-07-13T12:00", "2027-07-13T13:59",
        "2027-07-13T14:00", "2027-07-13T19:00",
    ) == [True, False, True, True, False, True]  # fmt: skip


def test_night_belongs_to_the_day_it_begins_on(tmp_path: Path) -> None:
    owner, _ = read(tmp_path, '{hours: {mon-thu: "22:00-07:00", fri-sun: "23:00-10:00"}}')
    # 2027-07-16 is a Friday.
    assert quiet_at(
        owner, "2027-07-16T06:59", "2027-07-16T07:00", "2027-07-16T22:30", "2027-07-16T23:00",
        "2027-07-17T09:59", "2027-07-17T10:00", "2027-07-19T09:59", "2027-07-19T10:00",
    ) == [True, False, False, True, True, False, True, False]  # fmt: skip


def test_hours_of_working_days_leave_no_hole_on_monday_morning(tmp_path: Path) -> None:
    owner, _ = read(tmp_path, '{hours: {mon-fri: "19:00-09:00"}, weekends: true}')
    assert not any(
        reachable(owner, paris("2027-07-16T19:00") + timedelta(minutes=15 * n))
        for n in range(62 * 4)
    )
    assert reachable(owner, paris("2027-07-19T09:00"))


def test_day_may_be_quiet_as_a_whole(tmp_path: Path) -> None:
    owner, _ = read(tmp_path, '{hours: {sun: "00:00-24:00"}}')
    assert quiet_at(owner, "2027-07-17T23:59", "2027-07-18T00:00", "2027-07-18T23:59",
                    "2027-07-19T00:00") == [False, True, True, False]  # fmt: skip


def test_days_may_go_over_the_end_of_the_week_and_be_written_out(tmp_path: Path) -> None:
    owner, _ = read(tmp_path, '{hours: {"Saturday-mon, wed": "10:00-11:00"}}')
    week = [paris("2027-07-12T10:30") + timedelta(days=n) for n in range(7)]
    assert [not reachable(owner, at) for at in week] == [
        True, False, True, False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("day", "quiet"),
    [
        ("2027-05-06", True),  # Ascension, a Thursday.
        ("2027-05-07", True),  # The bridge to the weekend.
        ("2027-05-08", True),  # A holiday itself, on a Saturday.
        ("2027-07-14", True),  # A Wednesday: no bridge on either side.
        ("2027-07-13", False),
        ("2027-07-15", False),
        ("2028-08-14", True),  # The Monday before Assumption, a Tuesday.
        ("2028-08-16", False),
        ("2028-07-15", False),  # After Bastille Day, a Friday: a Saturday is no working day.
        ("2029-12-31", True),  # The Monday before a New Year's Day beyond the horizon.
    ],
)
def test_bridge_day_lies_between_a_holiday_and_a_weekend(
    day: str, quiet: bool, tmp_path: Path
) -> None:
    owner, _ = read(tmp_path, "{public_holidays: FR, bridge_days: true}")
    # As compiled on New Year, for three years.
    muting = Muting(intervals(owner.quiet, owner.timezone, date(2027, 1, 1)))
    assert muting.contains(paris(f"{day}T12:00")) is quiet


CALENDAR = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:1
SUMMARY:Choir
DTSTART;TZID=Europe/Paris:20270106T200000
DTEND;TZID=Europe/Paris:20270106T213000
RRULE:FREQ=WEEKLY;BYDAY=WE
EXDATE;TZID=Europe/Paris:20270714T200000
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART;VALUE=DATE:20270720
DTEND;VALUE=DATE:20270722
END:VEVENT
BEGIN:VEVENT
UID:3
DTSTART:20270715T120000
DURATION:PT45M
END:VEVENT
BEGIN:VEVENT
UID:4
STATUS:CANCELLED
DTSTART;VALUE=DATE:20270801
END:VEVENT
BEGIN:VEVENT
UID:5
TRANSP:TRANSPARENT
DTSTART;VALUE=DATE:20270802
END:VEVENT
END:VCALENDAR
"""


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        ("2027-07-07T19:59", False),
        ("2027-07-07T20:00", True),
        ("2027-07-07T21:29", True),
        ("2027-07-07T21:30", False),
        ("2027-07-14T20:30", False),  # Cancelled for once.
        ("2027-12-01T20:30", True),  # In winter at the same hour of the clock.
        ("2027-07-19T23:59", False),
        ("2027-07-20T00:00", True),
        ("2027-07-21T23:59", True),
        ("2027-07-22T00:00", False),
        ("2027-07-15T12:30", True),
        ("2027-07-15T12:45", False),
        ("2027-08-01T12:00", False),
        ("2027-08-02T12:00", False),
    ],
)
def test_events_of_a_calendar_are_quiet(at: str, quiet: bool, tmp_path: Path) -> None:
    (tmp_path / "private.ics").write_text(CALENDAR)
    owner, _ = read(tmp_path, "{calendar: private.ics}")
    assert quiet_at(owner, at) == [quiet]


def test_folder_of_calendars_counts_as_all_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "calendars"
    folder.mkdir()
    first, second = CALENDAR.split("BEGIN:VEVENT\nUID:2")[0], CALENDAR.split("UID:1")[0]
    (folder / "choir.ics").write_text(f"{first}END:VCALENDAR\n")
    (folder / "trip.ics").write_text(
        f"{second}UID:9\nDTSTART;VALUE=DATE:20270810\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    (folder / "notes.txt").write_text("no calendar")
    owner, _ = read(tmp_path, "{calendar: calendars}")
    assert quiet_at(owner, "2027-07-07T20:30", "2027-08-10T12:00", "2027-08-11T12:00") == [
        True, True, False,
    ]  # fmt: skip
    assert owner.quiet
    assert set(owner.quiet.files) == {folder, folder / "choir.ics", folder / "trip.ics"}


def test_calendar_reaches_two_years_beyond_this_one_and_then_anew(tmp_path: Path) -> None:
    (tmp_path / "private.ics").write_text(CALENDAR)
    path = tmp_path / "people.yml"
    read(tmp_path, "{calendar: private.ics}")
    for today, last in ((TODAY, 2029), (date(2029, 1, 1), 2031)):
        [owner], _ = PeopleReader(path, today).read()
        assert owner.quiet
        assert max(end for _, end in owner.quiet.busy).year == last


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("DTSTART:20270101T000000Z\nRRULE:FREQ=SECONDLY", "repeats within a day"),
        (
            "DTSTART:20270101T000000Z\nRRULE:FREQ=DAILY;BYHOUR=1,2,3,4,5,6;BYMINUTE=1,2,3,4,5",
            "repeats within a day",
        ),
        ("DTSTART:20270101T000000Z\nRRULE:FREQ=NEVER", "no proper iCalendar file"),
        ("SUMMARY:without a time", "no proper iCalendar file"),
    ],
)
def test_calendar_that_makes_no_sense_is_refused_in_a_sentence(
    event: str, says: str, tmp_path: Path
) -> None:
    head = CALENDAR.partition("BEGIN:VEVENT")[0]
    (tmp_path / "x.ics").write_text(
        f"{head}BEGIN:VEVENT\nUID:1\n{event}\nEND:VEVENT\nEND:VCALENDAR"
    )
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "{calendar: x.ics}")
    assert str(refused.value).startswith(f"{tmp_path}/people.yml:9: quiet.calendar: {tmp_path}/x")
    assert says in str(refused.value)


def test_provider_is_off_outside_of_working_hours_and_on_holidays(tmp_path: Path) -> None:
    _, provider = read(
        tmp_path,
        "{}",
        "    working_hours: {hours: {mon-fri: '09:00-18:00'}, public_holidays: FR}\n",
    )
    off = Muting(intervals(provider.off, provider.timezone, TODAY))
    found = [
        off.contains(paris(text))
        for text in ("2027-07-13T08:59", "2027-07-13T09:00", "2027-07-13T17:59",
                     "2027-07-13T18:00", "2027-07-14T12:00", "2027-07-17T12:00")
    ]  # fmt: skip
    assert found == [True, False, False, True, True, True]


def test_shift_over_midnight_is_work_on_both_days(tmp_path: Path) -> None:
    _, provider = read(tmp_path, "{}", "    working_hours: {fri: '22:00-06:00'}\n")
    off = Muting(intervals(provider.off, provider.timezone, TODAY))
    assert not off.contains(paris("2027-07-16T23:00"))
    assert not off.contains(paris("2027-07-17T05:59"))
    assert off.contains(paris("2027-07-16T05:00"))
    assert off.contains(paris("2027-07-17T06:00"))


def test_thousands_of_events_are_asked_quickly(tmp_path: Path) -> None:
    head = CALENDAR.partition("BEGIN:VEVENT")[0]
    event = "BEGIN:VEVENT\nUID:1\nDTSTART:20270101T120000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY\n"
    (tmp_path / "x.ics").write_text(f"{head}{event}END:VEVENT\nEND:VCALENDAR")
    owner, _ = read(tmp_path, "{calendar: x.ics}")
    began = datetime.now(UTC)
    for n in range(2000):
        next_reachable(owner, paris("2027-07-14T12:00") + timedelta(minutes=n))
    assert datetime.now(UTC) - began < timedelta(seconds=10)
