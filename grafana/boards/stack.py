"""Stack: is the monitor itself well?"""

from grafana_foundation_sdk.builders import dashboard

from boards.kit import (
    BAD,
    GOOD,
    NOTICE,
    AnyPanel,
    Column,
    Query,
    big,
    board,
    coloured,
    lines,
    place,
    rows,
)

GROUP = 'label_replace({}, "group", "$1", "rule_group", ".*;(.*)")'
"""Prometheus names a rule group by its file and, after a semicolon, its name."""

RELOADS = (
    '{__name__=~"(dolcevita|prometheus|alertmanager)_config_last_reload_successful"}',
    '{__name__=~"(dolcevita|prometheus|alertmanager)_config_last_reload_success_timestamp_seconds"}',
)


def build() -> dashboard.Dashboard:
    """The dashboard of the monitor's own parts."""
    on = board("stack", "Stack", "Is the monitor itself well?", since="6h", refresh="1m")
    return place(
        on,
        (5, [(11, _parts()), (8, _configuration()), (5, _disk_lasts())]),
        (9, [(8, _scrapes()), (8, _rules()), (8, _probes())]),
        (9, [(8, _sent()), (8, _failed()), (8, _reloads())]),
        (9, [(12, _disk()), (12, _series())]),
        (9, [(12, _memory()), (12, _versions())]),
    )


def _parts() -> AnyPanel:
    return big(
        "Parts",
        "Whether Prometheus reaches each part; `sites` are the scrapes that probe.",
        Query("min by (job) (up)", "{{job}}"),
        empty="Prometheus scrapes nothing",
        words={0: ("Down", BAD), 1: ("Up", GOOD)},
        name=True,
    )


def _configuration() -> AnyPanel:
    return big(
        "Configuration",
        "Refused: the last good one keeps running, and `dolcevita check` says what is wrong.",
        Query(f"min by (job) ({RELOADS[0]})", "{{job}}"),
        empty="Not known",
        words={0: ("Refused", BAD), 1: ("In use", GOOD)},
        name=True,
    )


def _disk_lasts() -> AnyPanel:
    decade = 10 * 365 * 86400
    return big(
        "Disk is full in",
        "At the pace of the last six hours.",
        Query(
            f"""
            min(
              clamp_max(
                dolcevita_data_free_bytes / clamp_min(-deriv(dolcevita_data_free_bytes[6h]), 1e-9),
                {decade}
              )
            )
            """
        ),
        empty="Not yet known",
        unit="s",
        decimals=0,
        steps=((None, BAD), (4 * 86400, NOTICE), (30 * 86400, GOOD)),
        words={decade: ("Not in ten years", GOOD)},
    )


def _scrapes() -> AnyPanel:
    return lines(
        "Scrapes",
        "The longest of each job. A scrape of `sites` takes as long as its slowest probe.",
        Query("max by (job) (max_over_time(scrape_duration_seconds[$__interval]))", "{{job}}"),
        empty="Prometheus scrapes nothing.",
        unit="s",
    )


def _rules() -> AnyPanel:
    last = "max_over_time(prometheus_rule_group_last_duration_seconds[$__interval])"
    return lines(
        "Rules",
        "How long an evaluation of each group took; `availability` is due every 5 seconds.",
        Query(f"max by (group) ({GROUP.format(last)})", "{{group}}"),
        empty="No rules are evaluated.",
        unit="s",
    )


def _probes() -> AnyPanel:
    panel = lines(
        "Probes",
        "Probes a second, by result.",
        Query("sum by (result) (rate(dolcevita_probes_total[$__rate_interval]))", "{{result}}"),
        empty="Nothing was probed.",
        unit="reqps",
        stacked=True,
    )
    return coloured(panel, {"success": GOOD, "failure": BAD})


def _sent() -> AnyPanel:
    return lines(
        "Notifications",
        "By kind of channel for Alertmanager, by channel for the courier.",
        Query(
            """
            sum by (integration) (increase(alertmanager_notifications_total[$__rate_interval])) > 0
            """,
            "{{integration}}",
        ),
        Query(
            "sum by (channel) (increase(courier_notifications_total[$__rate_interval]))",
            "{{channel}}",
        ),
        empty="Nothing was sent in this time.",
        unit="short",
        bars=True,
        step="5m",
    )


def _failed() -> AnyPanel:
    return lines(
        "Notifications that failed",
        "They are tried again. By kind of channel for Alertmanager, by channel for the courier.",
        Query(
            """
            sum by (integration) (
              increase(alertmanager_notifications_failed_total[$__rate_interval])
            )
            """,
            "{{integration}}",
        ),
        Query(
            "sum by (channel) (increase(courier_notifications_failed_total[$__rate_interval]))",
            "{{channel}}",
        ),
        empty="None failed in this time.",
        unit="short",
        bars=True,
        step="5m",
    )


def _reloads() -> AnyPanel:
    return lines(
        "Configuration reloads",
        "How often each part has taken a new configuration.",
        Query(f"max by (job) (changes({RELOADS[1]}[$__rate_interval]))", "{{job}}"),
        empty="No reload in this time.",
        unit="short",
        decimals=0,
        bars=True,
        step="5m",
    )


def _disk() -> AnyPanel:
    return lines(
        "Disk",
        "What is free, and what will be in four days at the pace of the last six hours.",
        Query("min(dolcevita_data_free_bytes)", "Free"),
        Query("min(predict_linear(dolcevita_data_free_bytes[6h], 4 * 86400))", "Free in four days"),
        Query("max(dolcevita_data_size_bytes)", "Size"),
        Query("max(prometheus_tsdb_storage_blocks_bytes)", "Taken by Prometheus"),
        empty="The exporter does not say.",
        unit="bytes",
        dashed=("Free in four days",),
    )


def _series() -> AnyPanel:
    return lines(
        "Series",
        "How many Prometheus holds in memory: twenty or so a site, and those of the rules.",
        Query("max(prometheus_tsdb_head_series)", "Series"),
        empty="Prometheus does not say.",
        unit="short",
    )


def _memory() -> AnyPanel:
    return lines(
        "Memory",
        "Resident memory of each part.",
        Query("max by (job) (process_resident_memory_bytes)", "{{job}}"),
        empty="No part says.",
        unit="bytes",
    )


def _versions() -> AnyPanel:
    return rows(
        "Versions",
        "What runs.",
        Column("Part", "job"),
        Column("Version", "version"),
        Column(
            "Running for",
            expr="""
            max by (job, version) (
              max by (job, version) (
                {__name__=~"(dolcevita|prometheus|alertmanager)_build_info"}
              )
              * on (job) group_left () (time() - max by (job) (process_start_time_seconds))
            )
            """,
            unit="s",
            decimals=1,
        ),
        empty="No part says.",
        sort="Part",
        descending=False,
    )
