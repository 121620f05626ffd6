"""The demo's stack as plain processes, and the shop as one more."""

import asyncio
import sys
from contextlib import chdir, suppress

from dolcevita.demo.director import Server
from dolcevita.demo.evening import Evening
from dolcevita.stack import native
from dolcevita.stack.journal import Journal
from dolcevita.stack.packages import Programs
from dolcevita.stack.supervisor import stop_with_parent, supervise

POLL = 0.05


class Shop:
    """The shop's process on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Until it answers."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dolcevita.demo.shop", f"127.0.0.1:{self._port}"),
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C is for the demo, which ends the shop last.
            start_new_session=True,
            preexec_fn=stop_with_parent(),
        )
        while self._process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return
            await asyncio.sleep(POLL)

    async def kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def run(evening: Evening, programs: Programs) -> None:
    """The whole evening. Raises UserError, NotTrue among them; nothing is left running."""
    settings = evening.settings
    components = [
        component
        for component in native.prepare(
            settings, evening.config, evening.compiled, lambda line: None, programs
        )
        if component.name != "grafana"
    ]
    names = [component.name for component in components]
    shop, ready = Shop(evening.ports["shop"]), asyncio.Event()
    server = Server(shop.kill, shop.start, settings.url("prometheus"), settings.url("alertmanager"))
    # The courier looks for Alertmanager's and Prometheus' files where it is started.
    with chdir(settings.folder), Journal(settings.data / "logs", names, None) as journal:
        async with evening.shown():
            try:
                await shop.start()
                await supervise(
                    components,
                    journal,
                    ready.set,
                    [evening.played(ready, server)],
                    evening.stop,
                )
            finally:
                await shop.kill()
