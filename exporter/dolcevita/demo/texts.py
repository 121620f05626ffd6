"""What is told of the evening, in English or French; the messages are the courier's own texts."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from dolcevita.config import Config, Person
from dolcevita.courier.notify import Deliveries
from dolcevita.demo.story import Event, Story

LANGUAGES = ("en", "fr")


@cache
def texts(language: str) -> Mapping[str, str]:
    """The texts of one of LANGUAGES."""
    path = Path(__file__).with_name(f"{language}.yml")
    loaded: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def of_environment(environ: Mapping[str, str]) -> str:
    """The language of a terminal ("Locale", POSIX: the first of these that is set)."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((environ[name] for name in names if environ.get(name)), "")
    return "fr" if chosen.lower().startswith("fr") else "en"


class Teller:
    """Puts the events of a story into words."""

    def __init__(self, story: Story, config: Config, templates: Path) -> None:
        self.story = story
        self._people: Mapping[str, Person] = {
            "provider": config.providers[0],
            "owner": config.owners[0],
        }
        self._messages = Deliveries(templates, CollectorRegistry())

    def step(self, event: Event, language: str) -> str:
        """What a stage is, in a sentence or two."""
        return texts(language)[f"stage_{event.stage}"].format(**event.values)

    def message(self, event: Event, language: str) -> str:
        """What a phone shows: what the courier would send it as an SMS."""
        assert event.phone
        person = replace(self._people[event.phone], language=language)
        alerts = self.story.alerts_of(event)
        return self._messages.render(person, event.phone, alerts, short=True)
