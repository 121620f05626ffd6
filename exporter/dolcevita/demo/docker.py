"""The demo's stack in Docker, with the shop and the phones' mailbox as two containers more."""

import asyncio
import json
import signal
from contextlib import suppress
from pathlib import Path

from dolcevita.config import UserError
from dolcevita.demo.director import Server
from dolcevita.demo.evening import Evening
from dolcevita.stack.docker import Stack

SHOP = "http://shop:8080/"
PHONES = "http://phones:8081/phone"
"""As the containers reach them: see docker-compose.demo.yml."""

PROJECT = "dolcevita-demo"
SERVICES = ("exporter", "courier", "alertmanager", "prometheus", "phones", "shop")
DOWN = ("down", "--volumes", "--remove-orphans", "--timeout=5")


class Compose:
    """Compose on the demo's project, whatever others there are; what it says goes to `log`."""

    def __init__(self, stack: Stack, log: Path) -> None:
        self._command = (*stack.compose, "--project-name", PROJECT)
        # Where others reach the user's own stack is not where this one is.
        self._environment = {**stack.environment, "DOLCEVITA_EXTERNAL_URL": ""}
        self._log = log

    async def start(self, *words: str, stdout: int | None = None) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(*self._command, *words),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                # Ctrl-C is for the demo, which takes the containers down.
                start_new_session=True,
            )

    async def run(self, *words: str) -> None:
        """To its end. Raises UserError with its last words."""
        process = await self.start(*words)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if code:
            lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it says nothing")
            raise UserError(f"docker compose {words[0]}: {last.strip()} (see {self._log})")


async def run(evening: Evening, stack: Stack) -> None:
    """The whole evening. Raises UserError, NotTrue among them; no container is left."""
    logs = evening.settings.data / "logs"
    logs.mkdir(exist_ok=True)
    compose = Compose(stack, logs / "compose.log")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, evening.stop.set)
    async with evening.shown():
        working = asyncio.create_task(_work(evening, compose))
        stopped = asyncio.create_task(evening.stop.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, stopped):
                task.cancel()
            outcomes = await asyncio.gather(working, stopped, return_exceptions=True)
            await compose.run(*DOWN)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


async def _work(evening: Evening, compose: Compose) -> None:
    # Of a demo that was killed.
    await compose.run(*DOWN)
    await compose.run("up", "--detach", "--wait", "--no-build", *SERVICES)
    ready = asyncio.Event()
    ready.set()
    server = Server(
        lambda: compose.run("kill", "shop"),
        lambda: compose.run("start", "shop"),
        evening.settings.url("prometheus"),
        evening.settings.url("alertmanager"),
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_read_mail(evening, compose))
        tasks.create_task(evening.played(ready, server))


async def _read_mail(evening: Evening, compose: Compose) -> None:
    """Deliver what the mailbox prints."""
    process = await compose.start(
        *("logs", "--follow", "--no-color", "--no-log-prefix", "phones"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    try:
        async for line in process.stdout:
            mail = json.loads(line)
            evening.story.deliver(mail["phone"], mail["payload"])
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
