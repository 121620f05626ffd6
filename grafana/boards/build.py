"""From the code of the dashboards to the text of Grafana's files, in each language."""

import json
from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from boards import overview, peace, provider, site, stack, translate

BOARDS = {
    "overview": overview.build,
    "site": site.build,
    "provider": provider.build,
    "peace": peace.build,
    "stack": stack.build,
}
LANGUAGES = ("en", "fr")


def models(language: str) -> dict[str, dict[str, Any]]:
    """Every dashboard by name, as Grafana's JSON model."""
    built = {
        name: json.loads(json.dumps(build().build(), cls=JSONEncoder))
        for name, build in BOARDS.items()
    }
    if language == "en":
        return built
    catalogue = translate.catalogue(language)
    return {name: translate.translated(model, catalogue) for name, model in built.items()}


def text(language: str) -> Mapping[str, str]:
    """The files by name, such as overview.json."""
    return {
        f"{name}.json": json.dumps(model, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        for name, model in models(language).items()
    }
