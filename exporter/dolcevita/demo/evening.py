"""One run of the demo: its project, its story, its page and its transcript."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dolcevita.demo import project
from dolcevita.demo.director import START, Quiet, Server, play
from dolcevita.demo.page import Page, serving
from dolcevita.demo.story import NotTrue, Story
from dolcevita.demo.terminal import Transcript
from dolcevita.demo.texts import Teller, texts
from dolcevita.stack import checks
from dolcevita.stack.settings import read_settings

COMPONENTS = ("exporter", "courier", "prometheus", "alertmanager", "grafana")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants: nobody at the buttons, the terminal's language."""

    auto: bool
    language: str


class Evening:
    """A project made anew under the folder `data`, from the one in `source`.

    `shop` and `phones` are URLs as the stack reaches them; `ports` are the components', the
    shop's and the page's.
    """

    def __init__(
        self,
        wishes: Wishes,
        data: Path,
        source: Path,
        ports: Mapping[str, int],
        shop: str,
        phones: str,
    ) -> None:
        self.wishes = wishes
        self.ports = ports
        # The evening before is not this one's history.
        for name in ("prometheus", "alertmanager", "logs"):
            shutil.rmtree(data / name, ignore_errors=True)
        folder = data / "project"
        self.quiet = Quiet(lambda until: project.write_people(folder, phones, until))
        project.write(folder, source, shop, ports["shop"])
        self.quiet.last(START)
        variables = {f"{name.upper()}_PORT": str(ports[name]) for name in COMPONENTS}
        self.settings = read_settings(folder, {"DOLCEVITA_DATA": str(data), **variables})
        self.config, self.compiled = checks.compiled_alertmanager(self.settings)
        self.story = Story()
        self.teller = Teller(self.story, self.config, self.settings.templates)
        self.stop = asyncio.Event()

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """On the page and on the terminal, while the context lasts. Raises UserError."""
        auto, said = self.wishes.auto, texts(self.wishes.language)
        names = ("exporter", "prometheus", "alertmanager", "shop")
        links = {name: f"http://127.0.0.1:{self.ports[name]}/" for name in names}
        transcript = Transcript(self.story, self.teller, self.wishes.language, auto)
        async with serving(Page(self.story, self.teller, links, auto), self.ports["page"]):
            transcript.say(said["t_page"].format(url=f"http://127.0.0.1:{self.ports['page']}/"))
            self.story.tell("starting")
            following = asyncio.create_task(transcript.follow())
            try:
                yield
            finally:
                following.cancel()
                transcript.close()
        if auto and self.story.stage not in ("over", "failed"):
            raise NotTrue(said["t_stopped"])

    async def played(self, ready: asyncio.Event, server: Server) -> None:
        """From when the stack is ready to the end. Raises NotTrue."""
        await ready.wait()
        try:
            await play(self.story, server, self.quiet, self.wishes.auto)
        except NotTrue as error:
            self.stop.set()
            said = texts(self.wishes.language)
            logs = said["t_logs"].format(path=self.settings.data / "logs")
            raise NotTrue(f"{said['stage_failed'].format(why=error)} {logs}") from None
        except BaseException:
            self.stop.set()
            raise
        if self.wishes.auto:
            self.stop.set()
