"""The links of the chain from a site to its people, and the exit code when one is broken."""

from enum import IntEnum

from dolcevita.config import UserError


class Link(IntEnum):
    """In the order in which an incident passes them. 1 is a mistake on the command line."""

    EXPORTER = 10
    PROMETHEUS = 11
    SCRAPE = 12
    RULES = 13
    ALERTMANAGER = 14
    ROUTE = 15
    HELD = 16
    COURIER = 17
    CHANNEL = 18
    OWNER = 19
    RECOVERY = 20
    MEMORY = 21


class Broken(UserError):
    """One link does not hold; the text names it and says what to do."""

    def __init__(self, link: Link, text: str) -> None:
        super().__init__(text)
        self.link = link
