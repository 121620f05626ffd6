"""One site: its state, its times, its certificate, its incidents and its budget."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as d

from boards.incidents import LENGTH, OPENED, REPAIR
from boards.kit import (
    BAD,
    CALM,
    GOOD,
    NOTICE,
    OTHER,
    STATES,
    UNKNOWN,
    AnyPanel,
    Column,
    Events,
    Query,
    big,
    board,
    chain,
    choose,
    coloured,
    lines,
    place,
    rows,
    states,
)

EXPORTER = "http://127.0.0.1:9714"
"""Where the browser finds the exporter's pages, with EXPORTER_PORT as it is by default."""

PHASES = {
    "resolve": "#7F7F7F",
    "connect": "#56B4E9",
    "tls": "#0072B2",
    "processing": "#E69F00",
    "transfer": "#009E73",
}
"""The phases of HTTP; other kinds of sites have some of these and others of their own."""


def build() -> dashboard.Dashboard:
    """The dashboard of the site that the variable chooses."""
    on = board("site", "Site", "All that is known of one site.", since="24h", refresh="30s")
    page = (
        dashboard.DashboardLink("Status and evidence")
        .type(d.DashboardLinkType.LINK)
        .icon("doc")
        .tooltip("What the exporter saw")
        .url("${exporter}/site/${site:percentencode}")
        .target_blank(True)
    )
    itself = (
        dashboard.DashboardLink("The site itself")
        .type(d.DashboardLinkType.LINK)
        .icon("external link")
        .tooltip("Open the address that is probed")
        .url("${instance:raw}")
        .target_blank(True)
    )
    incidents = Events(
        "Incidents",
        'max by (reason) (incident:open:timestamp_seconds{site="$site"}) > bool 0',
        "Down: {{reason}}",
        BAD,
    )
    quiet = Events(
        "Quiet time",
        '(max by (owner) (owner:state{owner="$site_owner"}) % 2) == 1',
        "Quiet time of {{owner}}",
        CALM,
        step="5m",
    )
    of_site = 'label_values(site:info{site="$site"}, '
    on = (
        on.variables(
            [
                *chain(one_site=True),
                choose("instance", "Address", f"{of_site}instance)", many=False, hide=True),
                choose("site_owner", "Its owner", f"{of_site}owner)", many=False, hide=True),
                dashboard.ConstantVariable("exporter").label("Exporter").value(EXPORTER),
            ]
        )
        .link(page)
        .link(itself)
        .annotation(incidents)
        .annotation(quiet)
    )
    return place(
        on,
        (4, [(6, _state()), (6, _response()), (6, _status()), (6, _version())]),
        (4, [(6, _availability()), (6, _budget()), (6, _certificate()), (6, _domain())]),
        (7, [(14, _timeline()), (10, _codes())]),
        (9, [(24, _phases())]),
        (9, [(12, _budget_over_time()), (12, _burn())]),
        (9, [(15, _incidents()), (9, _speaks())]),
    )


def _state() -> AnyPanel:
    return big(
        "Now",
        "Down while an incident is open; unknown when the exporter or our connection is cut off.",
        Query(
            """
            0 * max(incident:open:timestamp_seconds{site="$site"})
            or on () (max(site:probe_success:min{site="$site"}) + 1)
            or on () vector(3)
            """
        ),
        empty="Not known",
        words={**STATES, 1: ("Failing", NOTICE), 3: ("Not known", UNKNOWN)},
    )


def _response() -> AnyPanel:
    return big(
        "Response time",
        "The median of the last 5 minutes, where at least half of the probes were fine.",
        Query('max(site:probe_duration_seconds:median5m{site="$site"})'),
        empty="No answer",
        unit="s",
        decimals=2,
    )


def _status() -> AnyPanel:
    return big(
        "Status code",
        "Of the last answer over HTTP.",
        Query('max(probe_http_status_code{site="$site"})'),
        empty="Not HTTP",
        unit="none",
        steps=((None, BAD), (100, GOOD), (400, NOTICE), (500, BAD)),
        words={0: ("No answer", BAD)},
    )


def _version() -> AnyPanel:
    return big(
        "HTTP version",
        "Of the last answer.",
        Query('max(probe_http_version{site="$site"})'),
        empty="Not HTTP",
        unit="none",
        words={0: ("No answer", BAD)},
    )


def _availability() -> AnyPanel:
    return big(
        "Availability, 30 days",
        "The part of the known time that the site answered.",
        Query('max(site:availability:ratio{window="30d",site="$site"})'),
        empty="Not yet known",
        unit="percentunit",
        decimals=3,
        steps=((None, BAD), (0.99, NOTICE), (0.999, GOOD)),
    )


def _budget() -> AnyPanel:
    return big(
        "Error budget left",
        "Of the failures that the objective allows in 30 days; below 0% it is missed.",
        Query('max(site:error_budget:ratio{site="$site"})'),
        empty="No objective in sites.yml",
        unit="percentunit",
        decimals=0,
        steps=((None, BAD), (0, NOTICE), (0.25, GOOD)),
    )


def _certificate() -> AnyPanel:
    return big(
        "Certificate",
        "Until the first certificate of the chain expires.",
        Query('max(site:certificate:days{site="$site"})'),
        empty="None",
        unit="suffix:days left",
        decimals=0,
        steps=((None, BAD), (7, NOTICE), (21, GOOD)),
    )


def _domain() -> AnyPanel:
    return big(
        "Domain",
        "Until the registration runs out, for sites of the kind domain://.",
        Query('max(site:domain:days{site="$site"})'),
        empty="Not watched here",
        unit="suffix:days left",
        decimals=0,
        steps=((None, BAD), (14, NOTICE), (45, GOOD)),
    )


def _timeline() -> AnyPanel:
    return states(
        "How it fared, and why not",
        "The first row is the state; below it is a row for each reason for which probes failed.",
        Query('max(min_over_time(site:state{site="$site"}[$__interval]))', "State"),
        Query(
            """
            max by (reason) (max_over_time(probe_failure_info{site="$site"}[$__interval])) - 1
            """,
            "{{reason}}",
        ),
        empty="Nothing is known of this site in this time.",
        words=STATES,
    )


def _phases() -> AnyPanel:
    panel = lines(
        "Where the time goes",
        "The phases of a probe one above the other, on average. The dashed line is `under:` of "
        "sites.yml.",
        Query('max(max_over_time(site_slow_seconds{site="$site"}[$__interval]))', "Limit"),
        Query(
            """
            avg by (phase) (
              avg_over_time(
                {__name__=~"probe_[a-z]+_duration_seconds",phase!="",site="$site"}[$__interval]
              )
            )
            """,
            "{{phase}}",
        ),
        empty="No probe has got as far as an answer in this time.",
        unit="s",
        stacked=True,
        dashed=("Limit",),
    )
    return coloured(panel, PHASES)


def _codes() -> AnyPanel:
    return states(
        "Status codes",
        "The highest of each stretch; 0 is no answer at all.",
        Query('max(max_over_time(probe_http_status_code{site="$site"}[$__interval]))', "Status"),
        empty="This site does not speak HTTP.",
        words={0: ("No answer", BAD)},
        ranges=(
            (100, 299, "", GOOD),
            (300, 399, "", OTHER),
            (400, 499, "", NOTICE),
            (500, 599, "", BAD),
        ),
        step="1m",
        show_value=True,
    )


def _budget_over_time() -> AnyPanel:
    return lines(
        "Error budget left",
        "What is left of the budget of 30 days, over time.",
        Query('max(site:error_budget:ratio{site="$site"})', "Budget left"),
        empty="No objective in sites.yml",
        unit="percentunit",
        floor=None,
    )


def _burn() -> AnyPanel:
    return lines(
        "How fast the budget burns",
        "At 1 the budget of 30 days lasts for 30 days. Above 14.4 within an hour, or 6 within six, "
        "somebody is paged.",
        *(
            Query(f'max(site:error_budget:burn_rate{{window="{window}",site="$site"}})', legend)
            for window, legend in (("1h", "1 hour"), ("6h", "6 hours"), ("3d", "3 days"))
        ),
        empty="No objective in sites.yml",
        unit="none",
        decimals=1,
    )


def _incidents() -> AnyPanel:
    of_site = 'site="$site"'
    opened = OPENED.replace("FILTER", of_site).replace("$__range", "90d")
    length = LENGTH.replace("FILTER", of_site).replace("$__range", "90d")
    repair = REPAIR.replace("FILTER", of_site).replace("$__range", "90d")
    told = f"last_over_time(incident:held:duration_seconds{{{of_site}}}[90d])"
    by = "max by (since, reason)"
    return rows(
        "Incidents of the last 90 days",
        "`Told after` is how long the good news waited for its owner.",
        Column("Reason", "reason"),
        Column("Began", expr=f"{by} (1000 * {opened})", unit="dateTimeAsIso"),
        Column("Lasted", expr=f"{by} ({length})", unit="s", decimals=1),
        Column("Repaired in", expr=f"{by} ({repair})", unit="s", decimals=1),
        Column("Told after", expr=f"{by} ({told})", unit="s", decimals=1),
        empty="No incident in 90 days.",
        sort="Began",
        hidden=("since",),
    )


def _speaks() -> AnyPanel:
    return rows(
        "What it speaks, and who signed",
        "TLS and the certificate of the last answer; the registrar for sites of the kind domain://.",
        Column("TLS", "version"),
        Column("Cipher", "cipher"),
        Column("Issuer", "issuer"),
        Column("Registrar", "registrar"),
        Column(
            "Known",
            expr="""
            max by (site, version, cipher, issuer) (
              probe_tls_version_info{site="$site"}
              * on (site, place) group_left (cipher)
                max by (site, place, cipher) (probe_tls_cipher_info)
              * on (site, place) group_left (issuer)
                max by (site, place, issuer) (probe_ssl_last_chain_info)
            )
            or max by (site, registrar) (probe_domain_info{site="$site"})
            """,
        ),
        empty="Neither TLS nor a registration.",
        sort="TLS",
        hidden=("site", "Value"),
    )
