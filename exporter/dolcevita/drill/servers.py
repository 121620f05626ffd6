"""The calls that a drill makes to the exporter and to Prometheus."""

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from dolcevita.config import UserError
from dolcevita.courier.alertmanager import Unreachable
from dolcevita.drill.links import Broken, Link

SECONDS = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter at `url`. Calls raise Broken when it does not answer."""

    session: aiohttp.ClientSession
    url: str

    async def begin(self, site: str, audience: str, seconds: float) -> int:
        """Mark the site, for so long at most; the answer names the drill.

        Raises UserError when there is one already, and for a site that it does not know.
        """
        body = {"site": site, "audience": audience, "seconds": seconds}
        status, answer = await self._ask("POST", "/-/drill", body)
        if status in (404, 409) and answer.startswith(("No site", "A drill")):
            raise UserError(f"the exporter on {self.url} says: {answer}")
        if status != 200:
            text = f"the exporter on {self.url} begins no drill (status {status}): update it"
            raise Broken(Link.EXPORTER, text)
        since: int = json.loads(answer)["since"]
        return since

    async def keep(self, since: int, seconds: float) -> None:
        """Let it go on for so long from now."""
        await self._ask("PUT", f"/-/drill/{since}", {"seconds": seconds})

    async def end(self, since: int) -> bool:
        """Whether it was under way until now."""
        status, _ = await self._ask("DELETE", f"/-/drill/{since}")
        return status == 200

    async def passed(self, since: int, site: str, every: float | None) -> None:
        """Have it told that the drill passed, and within how many seconds the next one is to."""
        body = {"site": site, "every": every}
        status, answer = await self._ask("POST", f"/-/drill/{since}/passed", body)
        if status != 200:
            raise Broken(Link.MEMORY, f"the exporter does not note that it passed: {answer}")

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and text."""
        url = self.url.rstrip("/") + path
        try:
            async with self.session.request(method, url, json=body, timeout=SECONDS) as answer:
                return answer.status, (await answer.text()).strip()
        except Unreachable as error:
            text = (
                f"the exporter on {self.url} does not answer ({_why(error)}): nothing is watched; "
                "start it"
            )
            raise Broken(Link.EXPORTER, text) from None


@dataclass(frozen=True, slots=True)
class Insight:
    """What Prometheus at `url` says of itself ("HTTP API", its documentation)."""

    session: aiohttp.ClientSession
    url: str

    async def rules(self) -> list[dict[str, Any]]:
        """The groups of rules."""
        found: list[dict[str, Any]] = (await self._ask("/api/v1/rules"))["groups"]
        return found

    async def targets(self, job: str) -> list[dict[str, Any]]:
        """What is scraped in one job."""
        found = (await self._ask("/api/v1/targets?state=active"))["activeTargets"]
        return [target for target in found if target["labels"].get("job") == job]

    async def alertmanagers(self) -> list[str]:
        """The URLs that alerts are sent to."""
        found = (await self._ask("/api/v1/alertmanagers"))["activeAlertmanagers"]
        return [entry["url"] for entry in found]

    async def _ask(self, path: str) -> Any:
        try:
            async with self.session.get(self.url.rstrip("/") + path, timeout=SECONDS) as answer:
                answer.raise_for_status()
                return (await answer.json())["data"]
        except Unreachable as error:
            raise no_prometheus(self.url, _why(error)) from None


def no_prometheus(url: str, why: str) -> Broken:
    return Broken(
        Link.PROMETHEUS,
        f"Prometheus on {url} does not answer ({why}): nothing is decided; start it",
    )


def no_alertmanager(url: str, error: BaseException) -> Broken:
    text = f"Alertmanager on {url} does not answer ({_why(error)}): nobody is told; start it"
    return Broken(Link.ALERTMANAGER, text)


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__
