"""An upgrade: newer images on the data of older ones, in the middle of an incident."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pytest
import requests
import yaml

import images
from engine import Engine
from hosts import Host
from scene import START_DELAY, Scene
from town import SETTLE, Town, town
from waiting import until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("compose"),
]

NEWER_FLAGS = ("--dispatch.start-delay",)
"""Of docker-compose.yml, that the older Alertmanager does not know."""

TOLD = "count(last_over_time(incident:told:duration_seconds[1h]))"


class Earlier(Town):
    """A town as it was before its upgrade: older Prometheus and Alertmanager."""

    def start(self, *services: str) -> None:
        self.environment |= images.build_older(self.environment)
        compose = yaml.safe_load((self.folder / "docker-compose.yml").read_text())
        command = compose["services"]["alertmanager"]["command"]
        older = [flag for flag in command if not flag.startswith(NEWER_FLAGS)]
        self.override = self.folder / "docker-compose.override.yml"
        self.override.write_text(yaml.safe_dump({"services": {"alertmanager": {"command": older}}}))
        super().start(*services)

    def upgrade(self) -> None:
        """As docs/docker.md says, but for the images, which are here already."""
        self.environment |= images.IMAGES
        self.override.unlink()
        self.compose("up", "--detach", "--no-build")

    def versions(self) -> list[str]:
        """Of Prometheus and of Alertmanager, none while one does not answer."""
        try:
            return [
                requests.get(self.url(*asked), timeout=5).text.partition(f'"{key}":"')[2][:6]
                for *asked, key in (
                    ("prometheus", "/api/v1/status/buildinfo", "version"),
                    ("alertmanager", "/api/v2/status", "version"),
                )
            ]
        except requests.RequestException:
            return []

    def silences(self) -> set[str]:
        found = requests.get(self.url("alertmanager", "/api/v2/silences"), timeout=5).json()
        return {silence["comment"] for silence in found if silence["status"]["state"] == "active"}


def _nobody(scene: Scene) -> None:
    """A scene that the test itself directs."""


def test_newer_versions_keep_history_silences_and_what_was_told(
    own_engine: Engine, tmp_path: Path
) -> None:
    def scenes(host: Callable[[str], Host]) -> list[Scene]:
        return [Scene(name, host(name), _nobody) for name in ("over", "open")]

    with town(tmp_path, own_engine, scenes, Earlier) as place:
        assert isinstance(place, Earlier)
        over, still_open = place.scenes["over"], place.scenes["open"]
        over.down()
        place.page(over)
        over.up()
        place.good_news(over)
        place.recovery(over)
        still_open.down()
        place.page(still_open)
        silence = {
            "matchers": [{"name": "site", "value": "none", "isRegex": False}],
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "createdBy": "marie",
            "comment": "new kitchen",
        }
        url = place.url("alertmanager", "/api/v2/silences")
        requests.post(url, json=silence, timeout=5).raise_for_status()
        before, older = place.number(TOLD), place.versions()

        place.upgrade()
        until(lambda: len(place.versions()) == 2, "both to answer", within=120)
        newer = place.versions()
        print(f"Prometheus {older[0]} to {newer[0]}, Alertmanager {older[1]} to {newer[1]}")
        assert all(new != old for new, old in zip(newer, older, strict=True))
        place.seen_up(1)
        assert place.number(TOLD) == before > 0
        assert "new kitchen" in place.silences()
        sleep(START_DELAY)
        place.nobody_is_told(still_open)
        still_open.up()
        place.good_news(still_open)
        place.recovery(still_open)
        sleep(SETTLE)
        for scene in (over, still_open):
            place.each_incident_is_told_once(scene)
