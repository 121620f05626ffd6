"""A random day in the gate; `make month` has the months."""

from dataclasses import replace

from dolcevita.stack.packages import Programs
from months import PLACES, live_through, random_month

DAY = random_month(seed=20270714, days=1, incidents=30, sites=10, owners=6)


def test_rules_tell_of_a_random_day_what_was_worked_out_without_them(programs: Programs) -> None:
    assert any(incident.told for incident in DAY.incidents())
    assert any(incident.removed for incident in DAY.incidents())
    assert live_through(DAY, programs.promtool) == ""


def test_three_places_of_which_one_at_a_time_is_wrong_or_silent_come_to_the_same(
    programs: Programs,
) -> None:
    day = random_month(seed=9, days=1, incidents=10, sites=4, owners=2)
    assert any(incident.told for incident in day.incidents())
    assert live_through(replace(day, places=PLACES), programs.promtool) == ""


def test_incident_that_is_told_of_at_another_time_is_noticed(programs: Programs) -> None:
    day = random_month(seed=1, days=1, incidents=5, sites=10, owners=1)
    awake = replace(day, reachable={name: [1] * day.minutes for name in day.reachable})
    objection = live_through(day, programs.promtool, expected=awake.incidents())
    assert "missing: " in objection
