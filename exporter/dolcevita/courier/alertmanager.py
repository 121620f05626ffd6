"""The few calls of Alertmanager's API (version 2) that the courier makes."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from dolcevita.config import UserError

SECONDS = aiohttp.ClientTimeout(total=5)
RELOAD_SECONDS = aiohttp.ClientTimeout(total=30)
GUARD_ALERT = "PrometheusSilent"
STANDBY_ALERT = "AlertmanagerStandby"

Unreachable = (aiohttp.ClientError, TimeoutError, OSError)


class Refused(UserError):
    """The other side answered, and the answer is no; the text is its own words."""


@dataclass(frozen=True, slots=True)
class State:
    """When an Alertmanager's process started, whether it is one of a cluster, and if so, whether
    it is the first of those that are there: the one that was started before the others."""

    started: datetime
    in_cluster: bool
    first: bool


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """One Alertmanager at `url`. Every call raises one of Unreachable when it does not answer."""

    session: aiohttp.ClientSession
    url: str

    async def state(self) -> State:
        """What it says of itself."""
        async with self.session.get(self._at("/api/v2/status"), timeout=SECONDS) as answer:
            answer.raise_for_status()
            status = await answer.json()
        cluster = status["cluster"]
        others = [peer["name"] for peer in cluster.get("peers", ())]
        return State(
            started=datetime.fromisoformat(status["uptime"]),
            in_cluster=cluster["status"] != "disabled",
            first=cluster.get("name", "") <= min(others, default=""),
        )

    async def configuration(self) -> str:
        """The text that it runs on, with secrets as `<secret>`."""
        async with self.session.get(self._at("/api/v2/status"), timeout=SECONDS) as answer:
            answer.raise_for_status()
            return str((await answer.json())["config"]["original"])

    async def alerts(self, name: str = "") -> list[dict[str, Any]]:
        """The alerts called `name`, or all, that are firing, muted or not."""
        query = {"filter": f'alertname="{name}"'} if name else {}
        url = self._at("/api/v2/alerts")
        async with self.session.get(url, params=query, timeout=SECONDS) as answer:
            answer.raise_for_status()
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def groups(self, name: str) -> list[dict[str, Any]]:
        """The groups that have an alert called `name`, each for one receiver."""
        query = {"filter": f'alertname="{name}"'}
        url = self._at("/api/v2/alerts/groups")
        async with self.session.get(url, params=query, timeout=SECONDS) as answer:
            answer.raise_for_status()
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def post_alerts(self, *alerts: dict[str, Any]) -> None:
        url = self._at("/api/v2/alerts")
        async with self.session.post(url, json=alerts, timeout=SECONDS) as answer:
            answer.raise_for_status()

    async def hush(self, until: datetime, why: str) -> None:
        """Hold everything but the guard's own alert back until then."""
        silence = {
            "matchers": [
                {"name": "alertname", "value": ".+", "isRegex": True, "isEqual": True},
                {"name": "alertname", "value": GUARD_ALERT, "isRegex": False, "isEqual": False},
            ],
            "startsAt": datetime.now(UTC).isoformat(),
            "endsAt": until.isoformat(),
            "createdBy": "dolcevita courier",
            "comment": why,
        }
        url = self._at("/api/v2/silences")
        async with self.session.post(url, json=silence, timeout=SECONDS) as answer:
            answer.raise_for_status()

    async def silences(self) -> list[dict[str, Any]]:
        """Those that are in force or will be."""
        async with self.session.get(self._at("/api/v2/silences"), timeout=SECONDS) as answer:
            answer.raise_for_status()
            found: list[dict[str, Any]] = await answer.json()
            return [entry for entry in found if entry["status"]["state"] != "expired"]

    async def silence(self, entry: dict[str, Any]) -> None:
        """Begin a silence. Raises Refused with Alertmanager's words."""
        url = self._at("/api/v2/silences")
        async with self.session.post(url, json=entry, timeout=SECONDS) as answer:
            if answer.status != 200:
                raise Refused(" ".join((await answer.text()).split()))

    async def end_silence(self, identity: str) -> None:
        url = self._at(f"/api/v2/silence/{identity}")
        async with self.session.delete(url, timeout=SECONDS) as answer:
            answer.raise_for_status()

    async def runs_on(self, text: str) -> bool:
        """Whether its configuration is this text, told by the hash among its metrics."""
        found = re.search(r"^alertmanager_config_hash (\S+)", await self.metrics(), re.MULTILINE)
        return found is not None and float(found[1]) == _hash(text)

    async def metrics(self) -> str:
        async with self.session.get(self._at("/metrics"), timeout=SECONDS) as answer:
            answer.raise_for_status()
            return await answer.text()

    async def reload(self) -> None:
        """Let it read its configuration again. Raises Refused when it will not have it."""
        # A reload forms all groups anew while the alerts come in one by one: without a pause
        # Alertmanager before 0.30 can tell a group before it is whole, and an alert before the
        # one that inhibits it is known.
        pause = datetime.now(UTC) + timedelta(seconds=5)
        await self.hush(pause, "Configuration reload: groups form anew")
        await reload(self.session, self.url)

    def _at(self, path: str) -> str:
        return self.url.rstrip("/") + path


async def reload(session: aiohttp.ClientSession, url: str) -> None:
    """POST /-/reload to Alertmanager or Prometheus. Raises Refused with its words."""
    async with session.post(url.rstrip("/") + "/-/reload", timeout=RELOAD_SECONDS) as answer:
        if answer.status != 200:
            raise Refused(" ".join((await answer.text()).split()))


def _hash(text: str) -> float:
    """alertmanager_config_hash: the first 48 bits of the file's MD5, little endian."""
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return float(int.from_bytes(digest[:6], "little"))
