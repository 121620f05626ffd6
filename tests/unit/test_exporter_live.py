"""The configuration follows its files, and a bad edit changes nothing."""

import asyncio
import os

import pytest

from dolcevita.config import ConfigError
from dolcevita.exporter.live import Live
from sites import files
from waiting import until
from webserver import run

ONE = "sites: [http://one.example]\n"
TWO = "sites: [http://one.example, http://two.example]\n"


async def seen(happened, what):
    await asyncio.to_thread(until, happened, what)


def following(live, scenario):
    async def whole():
        follower = asyncio.create_task(live.follow())
        try:
            await scenario()
            assert not follower.done()
        finally:
            follower.cancel()

    run(whole())


def test_without_a_first_good_configuration_there_is_none(tmp_path):
    with pytest.raises(ConfigError):
        Live(*files(tmp_path, "sites: []\n"))


def test_an_edit_is_followed(tmp_path):
    live = Live(*files(tmp_path, ONE))
    loaded = live.loaded_at

    async def scenario():
        live.sites.write_text(TWO)
        await seen(lambda: len(live.config.sites) == 2, "the second site")

    following(live, scenario)
    assert live.successful
    assert live.loaded_at > loaded


def test_a_file_that_is_replaced_is_followed(tmp_path):
    live = Live(*files(tmp_path, ONE))

    async def scenario():
        # Same size and time: as an editor or a configuration manager may leave it.
        new = tmp_path / "new"
        new.write_text(ONE.replace("one", "two"))
        stat = live.sites.stat()
        os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        new.replace(live.sites)
        await seen(lambda: live.config.sites[0].name == "two.example", "the new file")

    following(live, scenario)


def test_a_bad_edit_keeps_the_last_good_one_and_says_why(tmp_path, caplog):
    live = Live(*files(tmp_path, ONE))
    loaded = live.loaded_at

    async def scenario():
        live.sites.write_text("sites:\n  - htp://one.example\n")
        await seen(lambda: not live.successful, "the refusal")
        assert [site.name for site in live.config.sites] == ["one.example"]
        assert "sites.yml:2: " in caplog.text
        assert live.loaded_at == loaded
        live.sites.write_text(TWO)
        await seen(lambda: live.successful, "the repair")
        assert len(live.config.sites) == 2

    following(live, scenario)


def test_a_file_that_vanishes_is_a_bad_edit(tmp_path):
    live = Live(*files(tmp_path, ONE))

    async def scenario():
        live.people.unlink()
        await seen(lambda: not live.successful, "the refusal")
        assert live.config.owners
        files(tmp_path, TWO)
        await seen(lambda: live.successful, "the repair")

    following(live, scenario)


EVENT = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:1
DTSTART:20000101T000000Z
DTEND:20900101T000000Z
END:VEVENT
END:VCALENDAR
"""


def test_a_calendar_is_followed_even_when_it_was_not_there_at_first(tmp_path):
    live = Live(*files(tmp_path, ONE))
    [owner] = live.config.owners
    assert owner.quiet.busy == ()
    calendars = tmp_path / "calendars"

    async def scenario():
        text = live.people.read_text()
        live.people.write_text(text.replace('"19:00-09:00"', '"19:00-09:00", calendar: calendars'))
        await seen(lambda: not live.successful, "the refusal")
        calendars.mkdir()
        await seen(lambda: live.successful, "the folder")
        (calendars / "private.ics").write_text(EVENT)
        await seen(lambda: live.config.owners[0].quiet.busy, "the event")

    following(live, scenario)
