"""The sites of one configuration, with what is worked out of them once."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from dolcevita.config import Site
from dolcevita.exporter import batches, exposition
from dolcevita.exporter.batches import Batch, Part, shard_of


class Roster:
    """Sites by name and by batch, and as text; the exporter is reached at `external_url`."""

    def __init__(
        self, sites: Sequence[Site], external_url: str, places: Mapping[str, str] = {}
    ) -> None:
        self.sites = sites
        self.places = places
        self.external_url = external_url
        self.by_name = {site.name: site for site in sites}
        self._labels: dict[str, str] = {}
        self._shards = lru_cache(maxsize=64)(self._sharded)
        self.of = lru_cache(maxsize=16)(self._of)
        """The sites of a part."""
        self.metrics = lru_cache(maxsize=16)(self._metrics)
        """What the configuration says of each site of a part, as metrics."""
        self.discovery = lru_cache(maxsize=16)(self._discovery)
        """The batches of a part, as JSON; asked for at an address, every other second."""

    def members(self, batch: Batch) -> Sequence[Site]:
        """The sites that are in the batch."""
        shards = self._shards(batch.every, batch.timeout, batch.count, batch.part)
        return shards.get(batch.shard, ())

    def labels(self, site: Site) -> str:
        """The labels of the site's series as text."""
        text = self._labels.get(site.name)
        if text is None:
            text = self._labels[site.name] = exposition.as_text(exposition.site_labels(site))
        return text

    def _of(self, part: Part) -> Sequence[Site]:
        return [site for site in self.sites if part.has(site)]

    def _metrics(self, part: Part) -> str:
        return exposition.site_metrics(self.of(part), self.external_url)

    def _discovery(self, address: str, part: Part) -> str:
        return json.dumps(batches.discovery(self.sites, address, self.places, part))

    def _sharded(
        self, every: float, timeout: float, count: int, part: Part
    ) -> dict[int, list[Site]]:
        shards: dict[int, list[Site]] = {}
        for site in self.of(part):
            if (site.every, site.timeout) == (every, timeout):
                shards.setdefault(shard_of(site, count), []).append(site)
        return shards
