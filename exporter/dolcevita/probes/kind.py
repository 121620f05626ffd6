"""The one shape that every prober has."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dolcevita.config import Duration, Strict
from dolcevita.probes.result import Result


class Expectations(Strict):
    """What every kind can expect. `under` (seconds) fails no probe: slower is SiteSlow."""

    under: Duration | None = None


Options = TypeVar("Options", bound=Strict)
Expect = TypeVar("Expect", bound=Expectations)


@dataclass(frozen=True)
class Target(Generic[Options, Expect]):
    """What to probe: a URL, how to ask (`options`) and what must come back (`expect`)."""

    url: str
    options: Options
    expect: Expect


@dataclass(frozen=True, slots=True)
class Kind:
    """A prober and what the rest needs to know of it.

    `options` and `expect` are the models of the site's `<name>:` and `expect:` in sites.yml.
    `probe` makes one attempt and returns within its budget in seconds; connecting takes at most
    half of it, so that a lost packet leaves time for a second attempt. It raises nothing.
    `help` has the HELP text of every metric it returns.

    `fault` says what is wrong with a URL before it is ever probed, as the end of a sentence that
    begins with "found URL, which"; '' for nothing.

    `missing` says in the same way what this machine lacks to probe any of its sites. Only who is
    about to probe asks that: others read the same sites.yml elsewhere.

    `again` is False where a second attempt at once would only tell the same. `settle` waits, at
    most that many seconds, for what a prober looks up beside the scrapes: for one who asks by
    hand. `close` ends what a prober keeps running on the event loop between probes.
    """

    name: str
    schemes: tuple[str, ...]
    options: type[Strict]
    expect: type[Expectations]
    probe: Callable[[Target[Any, Any], float], Awaitable[Result]]
    help: Mapping[str, str]
    fault: Callable[[str], str] = lambda url: ""
    missing: Callable[[], str] = lambda: ""
    again: bool = True
    settle: Callable[[Target[Any, Any], float], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]] | None = None
