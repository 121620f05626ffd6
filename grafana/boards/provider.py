"""Provider: what an owner brings to the yearly talk about the contract."""

from grafana_foundation_sdk.builders import dashboard

from boards.incidents import LENGTH, MONTHLY, OPENED, OVERDUE, REPAIR
from boards.kit import (
    BAD,
    GOOD,
    NOTICE,
    SITE,
    AnyPanel,
    Column,
    Query,
    bars,
    big,
    board,
    chain,
    lines,
    place,
    rows,
)


def build() -> dashboard.Dashboard:
    """The dashboard, over a quarter at first."""
    on = board(
        "provider", "Provider", "How the provider repairs what breaks.", since="90d", refresh="5m"
    )
    return place(
        on.variables([*chain()]),
        (5, [(5, _pages()), (5, _median()), (5, _ninetieth()), (5, _overdue()), (4, _open())]),
        (8, [(14, _months()), (10, _reasons())]),
        (8, [(24, _days())]),
        (10, [(10, _hosts()), (14, _offenders())]),
        (8, [(24, _overdue_ones())]),
    )


def _pages() -> AnyPanel:
    return big(
        "Incidents",
        "Each was a page to the provider; the sites of one host that fall together are one page.",
        Query(f"count({OPENED}) or vector(0)"),
        empty="None",
    )


def _median() -> AnyPanel:
    return big(
        "Half were repaired within",
        "The median time from the first failure until the site answered again.",
        Query(f"quantile(0.5, {REPAIR})"),
        empty="None was repaired",
        unit="s",
        decimals=1,
    )


def _ninetieth() -> AnyPanel:
    return big(
        "Nine in ten within",
        "The 90th percentile of the time to repair.",
        Query(f"quantile(0.9, {REPAIR})"),
        empty="None was repaired",
        unit="s",
        decimals=1,
    )


def _overdue() -> AnyPanel:
    return big(
        "Overdue",
        "Took longer than `overdue_after` of people.yml, as it is now.",
        Query(f"count({OVERDUE}) or vector(0)"),
        empty="None",
        steps=((None, GOOD), (1, NOTICE)),
    )


def _open() -> AnyPanel:
    return big(
        "Open now",
        "Not yet repaired.",
        Query("count(incident:open:timestamp_seconds{FILTER}) or vector(0)"),
        empty="None",
        steps=((None, GOOD), (1, BAD)),
    )


def _months() -> AnyPanel:
    return rows(
        "By month",
        "By the month, in UTC, in which each incident began.",
        Column("Month", "month"),
        Column("Incidents", expr=f"count by (month) ({MONTHLY})", unit="short"),
        Column("Half within", expr=f"quantile by (month) (0.5, {MONTHLY})", unit="s", decimals=1),
        Column(
            "Nine in ten within", expr=f"quantile by (month) (0.9, {MONTHLY})", unit="s", decimals=1
        ),
        Column("Down in all", expr=f"sum by (month) ({MONTHLY})", unit="s", decimals=1),
        empty="No incident in this time.",
        sort="Month",
    )


def _reasons() -> AnyPanel:
    return bars(
        "By reason",
        "Why the first probe of each incident failed.",
        Query(f"sort_desc(count by (reason) ({OPENED}))", "{{reason}}"),
        empty="No incident in this time.",
    )


def _days() -> AnyPanel:
    return lines(
        "Incidents a day",
        "By provider; days in UTC.",
        # Backwards, so that a bar stands where its day begins, and today has one.
        Query(
            """
            sum by (provider) (
              count_over_time(incident:opened:timestamp_seconds{FILTER}[1d] offset -1d)
            )
            """,
            "{{provider}}",
        ),
        empty="No incident in this time.",
        unit="short",
        decimals=0,
        bars=True,
        step="1d",
    )


def _hosts() -> AnyPanel:
    return rows(
        "By host",
        "Which server to talk about.",
        Column("Host", "host"),
        Column("Incidents", expr=f"count by (host) ({OPENED})", unit="short"),
        Column("Half within", expr=f"quantile by (host) (0.5, {LENGTH})", unit="s", decimals=1),
        Column("Down in all", expr=f"sum by (host) ({LENGTH})", unit="s", decimals=1),
        empty="No incident in this time.",
        sort="Incidents",
    )


def _offenders() -> AnyPanel:
    return rows(
        "Repeat offenders",
        "The sites that were down most often: each was repaired, its cause was not.",
        SITE,
        Column("Host", "host"),
        Column("Incidents", expr=f"topk(15, count by (site, host) ({OPENED}) > 1)", unit="short"),
        Column(
            "Down in all",
            expr=f"""
            sum by (site, host) ({LENGTH})
            and on (site) topk(15, count by (site) ({OPENED}) > 1)
            """,
            unit="s",
            decimals=1,
        ),
        empty="No site was down twice in this time.",
        sort="Incidents",
    )


def _overdue_ones() -> AnyPanel:
    by = "max by (site, since, reason, host, provider)"
    return rows(
        "Overdue incidents",
        "Each that took longer than `overdue_after` of people.yml, as it is now.",
        SITE,
        Column("Host", "host"),
        Column("Provider", "provider"),
        Column("Reason", "reason"),
        Column(
            "Began",
            expr=f"{by} (1000 * ({OPENED} and on (site, since) {OVERDUE}))",
            unit="dateTimeAsIso",
        ),
        Column("Lasted", expr=f"{by} ({OVERDUE})", unit="s", decimals=1, steps=((None, NOTICE),)),
        empty="None was overdue.",
        sort="Began",
        hidden=("since",),
    )
