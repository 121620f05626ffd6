"""The evening as a transcript: real time, the story's clock, what happens, what phones receive."""

from rich.console import Console
from rich.text import Text

from dolcevita.demo.story import BUTTONS, Event, Story
from dolcevita.demo.texts import Teller, texts

COLOURS = {"provider": "red", "owner": "yellow"}


class Transcript:
    """Shows each event of a story once."""

    def __init__(self, story: Story, teller: Teller, language: str, auto: bool) -> None:
        self.story = story
        self.teller = teller
        self.language = language
        self.auto = auto
        self.shown = 0
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)

    def say(self, line: str) -> None:
        self._console.print(line)

    async def follow(self) -> None:
        """Show events as they happen, forever."""
        async for number, event in self.story.follow():
            self._show(event)
            self.shown = number

    def close(self) -> None:
        """Show what is left."""
        for event in self.story.events[self.shown :]:
            self._show(event)

    def _show(self, event: Event) -> None:
        if event.stage == "failed":
            return  # It is the error that the command ends with.
        said = texts(self.language)
        minutes, seconds = divmod(int(event.at - self.story.events[0].at), 60)
        real, clock = f"{minutes}:{seconds:02}", self.story.clock.at(event.at)
        line = Text.assemble((f"{real:>5}  ", "dim"), (f"{clock:%d/%m %H:%M}  ", "bold"))
        if event.phone:
            line.append(said[f"phone_{event.phone}"] + ": ", COLOURS[event.phone])
            line.append(self.teller.message(event, self.language))
        else:
            line.append(self.teller.step(event, self.language))
        self._console.print(line)
        for ask, stage in BUTTONS.items():
            if not self.auto and not event.phone and event.stage == stage:
                self._console.print(Text(f"{'':20}{said[f't_{ask}']}", "italic"))
        if event.stage == "over" and not event.phone:
            self._console.print(f"\n{said['t_yours']}")
