"""Peace: what the owner was spared."""

from grafana_foundation_sdk.builders import dashboard

from boards.incidents import OVERDUE, REPAIR
from boards.kit import (
    CALM,
    GOOD,
    NOTICE,
    SITE,
    UNKNOWN,
    AnyPanel,
    Column,
    Query,
    big,
    board,
    chain,
    lines,
    place,
    rows,
    states,
)

HELD = "(last_over_time(incident:held:duration_seconds{FILTER}[$__range]) > 300)"
"""Good news that waited; in five minutes any recovery is told whose owner is reachable."""


def build() -> dashboard.Dashboard:
    """The dashboard, over a month at first."""
    on = board("peace", "Peace", "What the owner was spared.", since="30d", refresh="5m")
    return place(
        on.variables([*chain()]),
        (5, [(8, _solved()), (8, _held()), (8, _messages())]),
        (5, [(8, _nights()), (8, _days()), (8, _hours())]),
        (8, [(24, _timeline())]),
        (8, [(10, _next()), (14, _spared())]),
        (9, [(24, _held_ones())]),
    )


def _solved() -> AnyPanel:
    return big(
        "Solved without you",
        "Incidents that the provider repaired in the time agreed.",
        Query(f"count({REPAIR} unless on (site, since) {OVERDUE}) or vector(0)"),
        empty="None",
    )


def _held() -> AnyPanel:
    return big(
        "Good news held back",
        "Repairs in quiet time that were told after it.",
        Query(f"count({HELD}) or vector(0)"),
        empty="None",
    )


def _messages() -> AnyPanel:
    return big(
        "Messages it took to tell",
        "All that waited comes in one message.",
        Query(
            """
            count(
              count by (owner, digest) (
                last_over_time(incident:told:duration_seconds{FILTER}[$__range])
              )
            ) or vector(0)
            """
        ),
        empty="None",
    )


def _nights() -> AnyPanel:
    return big(
        "Nights in peace",
        "Nights with quiet time at three in the morning, on the clock of each owner.",
        Query('sum(count_over_time(owner:in_peace{part="night",owner=~"$owner"}[$__range]))'),
        empty="No quiet night",
    )


def _days() -> AnyPanel:
    return big(
        "Days off in peace",
        "Days with quiet time at noon, on the clock of each owner.",
        Query('sum(count_over_time(owner:in_peace{part="day",owner=~"$owner"}[$__range]))'),
        empty="No quiet day",
    )


def _hours() -> AnyPanel:
    return big(
        "Trouble in quiet time",
        "How long a site was down while its owner was left in peace.",
        Query('300 * sum(sum_over_time((owner:state{owner=~"$owner"} == bool 3)[$__range:5m]))'),
        empty="None",
        unit="s",
        decimals=1,
    )


def _timeline() -> AnyPanel:
    return states(
        "Quiet time and trouble",
        "A row an owner, in stretches of five minutes or more.",
        Query(
            'max by (owner) (max_over_time(owner:state{owner=~"$owner"}[$__interval]))', "{{owner}}"
        ),
        empty="Nothing is known of this time.",
        words={
            0: ("Reachable", UNKNOWN),
            1: ("Quiet", CALM),
            2: ("Reachable, a site down", NOTICE),
            3: ("Quiet, a site down: spared", GOOD),
        },
    )


def _next() -> AnyPanel:
    return rows(
        "Next quiet time",
        "When the next stretch begins, or the present one ends.",
        Column("Owner", "owner"),
        Column(
            "Quiet from",
            expr='max by (owner) (1000 * owner_next_quiet_timestamp_seconds{owner=~"$owner"})',
            unit="dateTimeAsIso",
        ),
        Column(
            "Quiet until",
            expr='max by (owner) (1000 * owner_next_reachable_timestamp_seconds{owner=~"$owner"})',
            unit="dateTimeAsIso",
        ),
        empty="No quiet time in people.yml.",
        sort="Owner",
        descending=False,
    )


def _spared() -> AnyPanel:
    return lines(
        "Trouble that nobody woke you for",
        "Time of each day, in UTC, in which a site was down in quiet time, by owner.",
        # Backwards, so that a bar stands where its day begins, and today has one.
        Query(
            """
            300 * sum by (owner) (
              sum_over_time((owner:state{owner=~"$owner"} == bool 3)[1d:5m] offset -1d)
            )
            """,
            "{{owner}}",
        ),
        empty="None in this time.",
        unit="s",
        bars=True,
        step="1d",
    )


def _held_ones() -> AnyPanel:
    by = "max by (site, since, owner, reason)"
    return rows(
        "What was held back",
        "Each repair that was told after quiet time.",
        SITE,
        Column("Owner", "owner"),
        Column("Reason", "reason"),
        Column(
            "Repaired in", expr=f"{by} ({REPAIR} and on (site, since) {HELD})", unit="s", decimals=1
        ),
        Column("Told after", expr=f"{by} ({HELD})", unit="s", decimals=1),
        empty="Nothing had to wait in this time.",
        sort="Told after",
        hidden=("since",),
    )
