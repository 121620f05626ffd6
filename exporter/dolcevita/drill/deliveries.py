"""What Alertmanager has delivered, from the counters among its metrics."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

STARTED = "alertmanager_notifications_total"
REQUESTS = "alertmanager_notification_requests_total"
FAILED = "alertmanager_notification_requests_failed_total"


@dataclass(frozen=True, slots=True)
class Counts:
    """Deliveries begun, taken by the other side, and attempts that failed."""

    started: float
    taken: float
    failed: float


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters at one moment, by (metric, integration, receiver).

    The receiver is '' where Alertmanager does not name it: before 0.27, or without its feature
    receiver-name-in-metrics.
    """

    values: Mapping[tuple[str, str, str], float]

    def names_receivers(self) -> bool:
        return any(receiver for _, _, receiver in self.values)

    def since(self, before: "Counters", integration: str, receiver: str) -> Counts:
        """What happened by one kind of channel, to one receiver where that is known."""
        to = receiver if self.names_receivers() else ""

        def grown(metric: str) -> float:
            key = (metric, integration, to)
            return self.values.get(key, 0.0) - before.values.get(key, 0.0)

        return Counts(grown(STARTED), grown(REQUESTS) - grown(FAILED), grown(FAILED))


def parse(metrics: str) -> Counters:
    """The counters in the text of Alertmanager's /metrics."""
    # Of hundreds of lines, those few.
    lines = [line for line in metrics.splitlines() if line.startswith((STARTED, REQUESTS, FAILED))]
    values: dict[tuple[str, str, str], float] = defaultdict(float)
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            labels = sample.labels
            key = (sample.name, labels["integration"], labels.get("receiver_name", ""))
            values[key] += sample.value
    return Counters(values)


def channels(configuration: Mapping[str, Any], receiver: str, resolved: bool) -> dict[str, int]:
    """How many channels of each kind a receiver of Alertmanager's configuration has.

    With `resolved`, those which are told that an alert is over.
    """
    found: dict[str, int] = {}
    for entry in configuration.get("receivers") or ():
        if entry["name"] == receiver:
            for key, blocks in entry.items():
                if key.endswith("_configs"):
                    count = sum(1 for b in blocks if b.get("send_resolved") or not resolved)
                    if count:
                        found[key.removesuffix("_configs")] = count
    return found
