"""Overview, the wall: are all sites well?"""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as d

from boards.kit import (
    BAD,
    GOOD,
    NOTICE,
    SITE,
    STATES,
    AnyPanel,
    Column,
    Query,
    Steps,
    big,
    board,
    chain,
    place,
    rows,
    states,
)

AVAILABILITY: Steps = ((None, BAD), (0.99, NOTICE), (0.999, GOOD))
BUDGET: Steps = ((None, BAD), (0, NOTICE), (0.25, GOOD))
CERTIFICATE: Steps = ((None, BAD), (7, NOTICE), (21, GOOD))
DOMAIN: Steps = ((None, BAD), (14, NOTICE), (45, GOOD))
TIMES_USUAL: Steps = ((None, GOOD), (1.5, NOTICE), (2, BAD))


def build() -> dashboard.Dashboard:
    """The dashboard that Grafana opens with."""
    on = board("overview", "Overview", "Are all sites well?", since="24h", refresh="30s")
    return place(
        on.variables([*chain(), _shown()]),
        (5, [(9, _all_well()), (5, _watched()), (5, _failing()), (5, _slow())]),
        (6, [(24, _open())]),
        (14, [(24, _timeline())]),
        (11, [(14, _availability()), (10, _slowest())]),
        (10, [(12, _certificates()), (12, _domains())]),
    )


def _shown() -> dashboard.CustomVariable:
    """More than forty rows cannot be read, but whoever has a large screen may ask for them."""
    choices = ("20", "40", "100", "500")
    return (
        dashboard.CustomVariable("shown")
        .label("Sites in the timeline")
        .values(",".join(choices))
        .current(d.VariableOption(text="40", value="40"))
        .options([d.VariableOption(selected=n == "40", text=n, value=n) for n in choices])
    )


def _all_well() -> AnyPanel:
    return big(
        "Are all sites well?",
        "How many sites are down. Without the exporter, or with the monitor's own connection cut, "
        "nothing is known.",
        Query(
            """
            (vector(-2) unless on () (max(up{job="exporter"}) == 1))
            or on () (vector(-1) and on () (uplink:down == 1))
            or on () count(incident:open:timestamp_seconds{FILTER})
            or on () vector(0)
            """
        ),
        empty="Not known",
        unit="suffix:down",
        steps=((None, GOOD), (1, BAD)),
        words={
            -2: ("Nothing is watched", BAD),
            -1: ("Our connection is cut", NOTICE),
            0: ("All well", GOOD),
        },
    )


def _watched() -> AnyPanel:
    return big(
        "Sites watched",
        "Sites of sites.yml, without the sentinels.",
        Query("count(site:info{FILTER})"),
        empty="None",
    )


def _failing() -> AnyPanel:
    return big(
        "Failing just now",
        "Sites whose last probe failed. It takes a while of failing to be down.",
        Query("count(site:info{FILTER} and on (site) (site:probe_success:min == 0)) or vector(0)"),
        empty="None",
        steps=((None, GOOD), (1, NOTICE)),
    )


def _slow() -> AnyPanel:
    return big(
        "Slow now",
        "Sites that take longer than `under:` in sites.yml says.",
        Query('count(ALERTS{alertname="SiteSlow",alertstate="firing",FILTER}) or vector(0)'),
        empty="None",
        steps=((None, GOOD), (1, NOTICE)),
    )


def _open() -> AnyPanel:
    return rows(
        "Open incidents",
        "What is down now, why, and since when.",
        SITE,
        Column("Reason", "reason"),
        Column("Host", "host"),
        Column("Provider", "provider"),
        Column(
            "Down for",
            expr="""
            max by (site, host, provider, reason) (time() - incident:open:timestamp_seconds{FILTER})
            """,
            unit="s",
            decimals=1,
            steps=((None, BAD),),
        ),
        empty="No site is down.",
        sort="Down for",
    )


def _timeline() -> AnyPanel:
    return states(
        "How the sites fared",
        "In stretches of five minutes or more. Of more sites than are shown, those that were least "
        "available in the last 24 hours; gaps are unknown time.",
        Query(
            """
            max by (site) (
              min_over_time(site:state{FILTER}[$__interval])
              and on (site)
                bottomk($shown, site:availability:ratio{window="24h",FILTER} @ end())
            )
            """,
            "{{site}}",
        ),
        empty="Nothing is known of these sites in this time.",
        words=STATES,
    )


def _availability() -> AnyPanel:
    def over(window: str) -> Column:
        return Column(
            {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}[window],
            expr=f'max by (site) (site:availability:ratio{{window="{window}",FILTER}})',
            unit="percentunit",
            decimals=2,
            steps=AVAILABILITY,
        )

    return rows(
        "Availability against the objective",
        "The part of the known time that a site answered. What is left of the error budget of 30 "
        "days: below 0% the objective is missed.",
        SITE,
        over("24h"),
        over("7d"),
        over("30d"),
        over("90d"),
        Column(
            "Objective",
            expr="max by (site) (site_objective_ratio{FILTER})",
            unit="percentunit",
            decimals=2,
        ),
        Column(
            "Budget left",
            expr="max by (site) (site:error_budget:ratio{FILTER})",
            unit="percentunit",
            decimals=0,
            steps=BUDGET,
        ),
        empty="No availability yet: it comes with the first minutes.",
        sort="30 days",
        descending=False,
    )


def _slowest() -> AnyPanel:
    now = "topk(20, site:probe_duration_seconds:median5m and on (site) site:info{FILTER})"
    return rows(
        "Slowest sites now",
        "Half of the probes of the last 5 minutes took longer. Usual is the same hour of the last "
        "four weeks, known after two of them.",
        SITE,
        Column("Now", expr=f"max by (site) ({now})", unit="s", decimals=2),
        Column(
            "Usual",
            expr=f"max by (site) (site:probe_duration_seconds:usual and on (site) {now})",
            unit="s",
            decimals=2,
        ),
        Column(
            "Times usual",
            expr=f"max by (site) ({now} / on (site) site:probe_duration_seconds:usual)",
            unit="none",
            decimals=1,
            steps=TIMES_USUAL,
        ),
        Column(
            "Limit",
            expr=f"max by (site) (max by (site) (site_slow_seconds{{FILTER}}) and on (site) {now})",
            unit="s",
            decimals=2,
        ),
        empty="No site has answered in the last 5 minutes.",
        sort="Now",
    )


def _certificates() -> AnyPanel:
    return rows(
        "Certificates, those that end first",
        "Days until the first certificate of the chain expires.",
        SITE,
        Column(
            "Days left",
            expr="""
            max by (site) (bottomk(20, site:certificate:days and on (site) site:info{FILTER}))
            """,
            unit="none",
            decimals=0,
            steps=CERTIFICATE,
            gauge=(0, 90),
        ),
        empty="None of these sites has a certificate.",
        sort="Days left",
        descending=False,
    )


def _domains() -> AnyPanel:
    return rows(
        "Domains, those that end first",
        "Days until the registration runs out.",
        SITE,
        Column(
            "Days left",
            expr="max by (site) (bottomk(20, site:domain:days and on (site) site:info{FILTER}))",
            unit="none",
            decimals=0,
            steps=DOMAIN,
            gauge=(0, 365),
        ),
        empty="No domain is watched: add a site with the URL domain://example.com to sites.yml.",
        sort="Days left",
        descending=False,
    )
