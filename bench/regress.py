"""Has a probe become dearer? Its CPU beside that of a plain prober, in one process.

The plain one is a loop of pycurl that expects nothing and writes a metric for each thing that
libcurl tells: of C and Python as a probe is, so that a busy machine slows both alike.

python -m bench.regress            prints the ratios
python -m bench.regress --record   and keeps them as those to compare with
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pycurl
import uvloop
from prometheus_client import CollectorRegistry

from bench import exporters, targets
from dolcevita.config import Site, load
from dolcevita.exporter import exposition
from dolcevita.exporter.app import keep_garbage_rare
from dolcevita.exporter.roster import Roster
from dolcevita.exporter.scrape import Prober
from dolcevita.probes import KINDS, PLANNED, close
from dolcevita.probes.curl import ca_bundle

RECORD = Path(__file__).with_name("recorded.json")
WORSE = 1.25
"""Times the recorded ratio at which a probe counts as dearer."""

TOLD = {
    "code": pycurl.RESPONSE_CODE,
    "version": pycurl.INFO_HTTP_VERSION,
    "length": pycurl.CONTENT_LENGTH_DOWNLOAD_T,
    "connected": pycurl.CONNECT_TIME_T,
    "secured": pycurl.APPCONNECT_TIME_T,
    "answered": pycurl.STARTTRANSFER_TIME_T,
    "ended": pycurl.TOTAL_TIME_T,
    "header": pycurl.HEADER_SIZE,
    "request": pycurl.REQUEST_SIZE,
    "speed": pycurl.SPEED_DOWNLOAD,
}
"""What libcurl knows of a transfer."""

AT_ONCE = 32
ROUNDS = 100
"""Many and short: the least of them is one that nothing else disturbed."""


def measured() -> dict[str, float]:
    """By scheme, the least CPU of a probe with its metrics as text, to the least of a plain one.

    Each side is measured again and again in turns: what else runs can only make one dearer, so
    the least is what it costs.
    """
    with tempfile.TemporaryDirectory() as scratch, targets.serving(Path(scratch)) as served:
        os.environ["SSL_CERT_FILE"] = str(served.ca_file)
        ca_bundle.cache_clear()
        keep_garbage_rare()
        found = {}
        for scheme in ("http", "https"):
            sites = exporters.files(Path(scratch), exporters.names(served, scheme, AT_ONCE))
            config = load(*sites, KINDS, PLANNED)
            found[scheme] = uvloop.run(_ratio(config.sites))
        return found


async def _ratio(sites: Sequence[Site]) -> float:
    prober, roster = Prober(CollectorRegistry()), Roster(sites, "http://localhost")
    multi = pycurl.AsyncCurlMulti()

    async def ours() -> None:
        results = await prober.sites(sites, 9.5)
        assert all(result.success for _, result in results), results[0]
        exposition.probe_metrics((roster.labels(site), result) for site, result in results)

    async def plain() -> None:
        plains = [_Plain(site.url) for site in sites]
        await asyncio.gather(*(multi.perform(one.handle) for one in plains))
        text = "".join(one.metrics() for one in plains)
        assert text.count('code"} 200.0') == len(plains), text

    await _cpu(ours)
    await _cpu(plain)
    spent = [(await _cpu(ours), await _cpu(plain)) for _ in range(ROUNDS)]
    await multi.aclose()
    await close()
    return min(own for own, _ in spent) / min(other for _, other in spent)


async def _cpu(work: Callable[[], Awaitable[None]]) -> float:
    before = time.process_time()
    await work()
    return time.process_time() - before


class _Plain:
    """A probe by pycurl alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.handle = pycurl.Curl()
        self.lines: list[bytes] = []
        options = (
            (pycurl.URL, url),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FORBID_REUSE, 1),
            (pycurl.SSL_SESSIONID_CACHE, 0),
            (pycurl.CAINFO, ca_bundle()),
            (pycurl.HEADERFUNCTION, self.lines.append),
            (pycurl.WRITEFUNCTION, len),
        )
        for option, value in options:
            self.handle.setopt(option, value)
        self.handle.unsetopt(pycurl.CAPATH)

    def metrics(self) -> str:
        """What it found as text; nothing can be asked of it afterwards."""
        found = {name: float(self.handle.getinfo(info)) for name, info in TOLD.items()}
        for line in self.lines:
            name, _, value = line.decode().partition(":")
            found[name.strip().lower()] = float(len(value.strip()))
        self.handle.close()
        labels = f'site="{self.url}",instance="{self.url}"'
        return "".join(
            f'probe_plain{{{labels},told="{name}"}} {value!r}\n' for name, value in found.items()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    record = parser.parse_args().record
    found = {scheme: round(ratio, 2) for scheme, ratio in measured().items()}
    if record:
        RECORD.write_text(json.dumps(found) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
