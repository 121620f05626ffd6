"""How every dashboard looks and asks: colours, queries, panels, and their places on the grid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = d.DataSourceRef(type_val="prometheus", uid="prometheus")
TAG = "dolcevita"
WIDTH = 24
"""Columns of Grafana's grid."""

# Okabe and Ito, "Color Universal Design": told apart with every kind of colour vision. Good is
# blue and bad vermilion, never green and red; and no colour stands without a word or a number.
# On those up to UNKNOWN words can be read: Grafana writes dark on the yellow, white on the others.
GOOD = "#0072B2"
NOTICE = "#F0E442"
BAD = "#D55E00"
OTHER = "#009E73"
UNKNOWN = "#6E6E6E"
CALM = "#56B4E9"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")

STRETCHES = 300
"""Points of a timeline: a day in stretches of five minutes, and no more, for 500 sites are many."""

FILTER = 'owner=~"$owner",provider=~"$provider",host=~"$host",site=~"$site"'
"""What stands for FILTER in a query: the sites that the variables choose."""

STATES = {
    0.0: ("Down", BAD),
    1.0: ("Fails now and then", NOTICE),
    2.0: ("Well", GOOD),
}
"""What site:state says."""

Panel = TypeVar(
    "Panel", stat.Panel, table.Panel, statetimeline.Panel, timeseries.Panel, bargauge.Panel
)
AnyPanel = stat.Panel | table.Panel | statetimeline.Panel | timeseries.Panel | bargauge.Panel
Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; None is from the beginning."""

NEUTRAL: Steps = ((None, GOOD),)


class Query(NamedTuple):
    """A PromQL expression; `legend` names its series, `{{label}}` standing for a label."""

    expr: str
    legend: str = ""


class Column(NamedTuple):
    """A column of a table: a label, or else the value of a query.

    `steps` colour it, as a bar between the two ends of `gauge` where that is given. `link` is
    what a click opens, as (title, URL).
    """

    title: str
    label: str = ""
    expr: str = ""
    unit: str = ""
    decimals: int | None = None
    steps: Steps = ()
    gauge: tuple[float, float] | None = None
    link: tuple[str, str] | None = None
    width: int | None = None


def expression(text: str) -> str:
    """The query in one piece: FILTER replaced, and no line breaks."""
    return " ".join(text.replace("FILTER", FILTER).split())


# ---- Dashboards ------------------------------------------------------------------------------


def board(uid: str, title: str, description: str, since: str, refresh: str) -> dashboard.Dashboard:
    """An empty dashboard in the time zone of the browser, with links to its siblings."""
    siblings = (
        dashboard.DashboardLink("Dolce Vita")
        .type(d.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(False)
    )
    return (
        dashboard.Dashboard(title)
        .uid(f"{TAG}-{uid}")
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .time(f"now-{since}", "now")
        .refresh(refresh)
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(siblings)
    )


def choose(
    name: str, label: str, query: str, *, many: bool = True, hide: bool = False
) -> dashboard.QueryVariable:
    """A variable whose values Prometheus knows. With `many`, all of them are chosen at first."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.NATURAL_ASC)
    )
    if hide:
        variable = variable.hide(d.VariableHide.HIDE_VARIABLE)
    if not many:
        return variable
    # ".*" and not the list of all values: a site without a host is one of all.
    everything = d.VariableOption(text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).all_value(".*").current(everything)


def chain(*, one_site: bool = False) -> list[dashboard.QueryVariable]:
    """owner, provider, host and site; what one offers depends on those before it."""
    found = []
    within: list[str] = []
    names = {"owner": "Owner", "provider": "Provider", "host": "Host", "site": "Site"}
    for name, label in names.items():
        query = f"label_values(site:info{{{','.join(within)}}}, {name})"
        found.append(choose(name, label, query, many=not (one_site and name == "site")))
        within.append(f'{name}=~"${name}"')
    return found


class _PrometheusAnnotation(d.AnnotationQuery):
    """What the data source Prometheus reads of an annotation and the SDK does not know of."""

    step: str
    title_format: str

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "step": self.step, "titleFormat": self.title_format}


class Events(Builder[d.AnnotationQuery]):
    """Stretches of time, where `expr` is not 0, marked in every panel over time."""

    def __init__(self, name: str, expr: str, title: str, colour: str, step: str = "60s") -> None:
        self._annotation = _PrometheusAnnotation(
            name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expression(expr)
        )
        self._annotation.step = step
        self._annotation.title_format = title

    def build(self) -> d.AnnotationQuery:
        return self._annotation


def place(
    on: dashboard.Dashboard, *rows: tuple[int, Sequence[tuple[int, AnyPanel]]]
) -> dashboard.Dashboard:
    """Put panels on the grid in rows: (height, [(width, panel), ...]), from left to right.

    Raises ValueError for a row that does not fill the grid.
    """
    number, y = 1, 0
    for height, row in rows:
        if sum(width for width, _ in row) != WIDTH:
            raise ValueError(f"row {y} is {[width for width, _ in row]} wide, expected {WIDTH}")
        x = 0
        for width, panel in row:
            position = d.GridPos(h=height, w=width, x=x, y=y)
            on = on.with_panel(panel.id(number).grid_pos(position))
            number += 1
            x += width
        y += height
    return on


# ---- Panels ----------------------------------------------------------------------------------


def big(
    title: str,
    description: str,
    *queries: Query,
    empty: str,
    unit: str = "short",
    decimals: int | None = None,
    steps: Steps = NEUTRAL,
    words: Mapping[float, tuple[str, str]] | None = None,
    name: bool = False,
) -> stat.Panel:
    """Numbers to be read from three metres. `words`: (text, colour) in place of a number."""
    panel = (
        _dressed(stat.Panel(), title, description, empty, unit, decimals)
        .thresholds(_thresholds(steps))
        .mappings(_mappings(words or {}))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .color_mode(c.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(c.BigValueGraphMode.NONE)
        .justify_mode(c.BigValueJustifyMode.CENTER)
        .text_mode(c.BigValueTextMode.VALUE_AND_NAME if name else c.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )
    return _asking(panel, queries, instant=True)


def lines(
    title: str,
    description: str,
    *queries: Query,
    empty: str,
    unit: str,
    decimals: int | None = None,
    stacked: bool = False,
    bars: bool = False,
    step: str = "",
    floor: float | None = 0,
    dashed: Sequence[str] = (),
) -> timeseries.Panel:
    """Values over time. `dashed` are the legends of limits and forecasts."""
    panel = (
        _dressed(timeseries.Panel(), title, description, empty, unit, decimals)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC))
        .line_width(1 if stacked or bars else 2)
        .fill_opacity(70 if stacked or bars else 0)
        .show_points(c.VisibilityMode.NEVER)
        .draw_style(c.GraphDrawStyle.BARS if bars else c.GraphDrawStyle.LINE)
        .axis_border_show(False)
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.NONE))
    )
    if floor is not None:
        panel = panel.min(floor)
    if stacked or bars:
        mode = common.StackingConfig().mode(c.StackingMode.NORMAL).group("A")
        panel = panel.stacking(mode)
    if step:
        panel = panel.interval(step)
    series = [query.legend for query in queries if "{{" not in query.legend]
    for colour, legend in zip(PALETTE, series, strict=False):
        shade = BAD if legend in dashed else colour
        properties = [_property("color", {"mode": "fixed", "fixedColor": shade})]
        if legend in dashed:
            properties += [
                _property("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
                _property("custom.fillOpacity", 0),
                _property("custom.stacking", {"mode": "none", "group": "A"}),
            ]
        panel = panel.override_by_name(legend, properties)
    return _asking(panel, queries)


def coloured(panel: timeseries.Panel, colours: Mapping[str, str]) -> timeseries.Panel:
    """Give series that are named by a label the colour of their meaning."""
    for name, colour in colours.items():
        # By expression, because names of labels are data, and what is matched by name is words.
        properties = [_property("color", {"mode": "fixed", "fixedColor": colour})]
        panel = panel.override_by_regexp(f"/^{name}$/", properties)
    return panel


def states(
    title: str,
    description: str,
    *queries: Query,
    empty: str,
    words: Mapping[float, tuple[str, str]],
    ranges: Sequence[tuple[float, float, str, str]] = (),
    step: str = "5m",
    show_value: bool = False,
) -> statetimeline.Panel:
    """A row a series, coloured by state.

    `words`: a value's (text, colour). `ranges`: (from, to, text, colour); without a text the number
    is shown.
    """
    panel = (
        _dressed(statetimeline.Panel(), title, description, empty, "none", 0)
        .mappings([*_mappings(words), *_range_mappings(ranges)])
        .thresholds(_thresholds(((None, UNKNOWN),)))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(c.VisibilityMode.AUTO if show_value else c.VisibilityMode.NEVER)
        .row_height(0.85)
        .line_width(0)
        .fill_opacity(90)
        .interval(step)
        .max_data_points(STRETCHES)
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.SINGLE))
    )
    return _asking(panel, queries)


def rows(
    title: str,
    description: str,
    *columns: Column,
    empty: str,
    sort: str,
    descending: bool = True,
    hidden: Sequence[str] = (),
) -> table.Panel:
    """A table, sorted by the column `sort`. Rows of several queries with the same labels are one.

    `hidden` are labels that tell rows apart but say nothing.
    """
    panel = _dressed(table.Panel(), title, description, empty, "none", None)
    panel = panel.cell_height(c.TableCellHeight.SM).show_header(True)
    queries = [column for column in columns if column.expr]
    names: dict[str, str] = {}
    for column in columns:
        if column.label:
            names[column.label] = column.title
            continue
        ref = chr(ord("A") + queries.index(column))
        names[f"Value #{ref}" if len(queries) > 1 else "Value"] = column.title
        panel = panel.with_target(
            prometheus.Dataquery()
            .expr(expression(column.expr))
            .instant()
            .format(PromQueryFormat.TABLE)
            .ref_id(ref)
            .datasource(SOURCE)
        )
    for column in columns:
        panel = panel.override_by_name(column.title, list(_cells(column)))
    organize = d.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys(("Time", *hidden), True),
            "indexByName": {name: index for index, name in enumerate(names)},
            "renameByName": names,
        },
    )
    if len(queries) > 1:
        panel = panel.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(organize).sort_by(
        [common.TableSortByFieldState().display_name(sort).desc(descending)]
    )


def bars(
    title: str, description: str, *queries: Query, empty: str, unit: str = "short"
) -> bargauge.Panel:
    """A bar a series, the longest first."""
    panel = (
        _dressed(bargauge.Panel(), title, description, empty, unit, 0)
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .value_mode(c.BarGaugeValueMode.TEXT)
        .show_unfilled(False)
        .min(0)
        .thresholds(_thresholds(NEUTRAL))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )
    return _asking(panel, queries, instant=True)


def _dressed(
    panel: Panel, title: str, description: str, empty: str, unit: str, decimals: int | None
) -> Panel:
    panel = panel.title(title).description(description).datasource(SOURCE).no_value(empty)
    panel = panel.unit(unit)
    return panel if decimals is None else panel.decimals(decimals)


def _asking(panel: Panel, queries: Iterable[Query], *, instant: bool = False) -> Panel:
    for index, query in enumerate(queries):
        target = (
            prometheus.Dataquery()
            .expr(expression(query.expr))
            .ref_id(chr(ord("A") + index))
            .datasource(SOURCE)
        )
        if query.legend:
            target = target.legend_format(query.legend)
        panel = panel.with_target(target.instant() if instant else target.range())
    return panel


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(d.ThresholdsMode.ABSOLUTE)
        .steps([d.Threshold(value=value, color=colour) for value, colour in steps])
    )


def _mappings(words: Mapping[float, tuple[str, str]]) -> list[d.ValueMapping]:
    if not words:
        return []
    options = {
        f"{value:g}": d.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [d.ValueMap(options=options)]


def _range_mappings(ranges: Sequence[tuple[float, float, str, str]]) -> list[d.ValueMapping]:
    return [
        d.RangeMap(
            options=d.DashboardRangeMapOptions(
                from_val=low,
                to=high,
                result=d.ValueMappingResult(text=text or None, color=colour, index=100 + index),
            )
        )
        for index, (low, high, text, colour) in enumerate(ranges)
    ]


def _cells(column: Column) -> Iterable[d.DynamicConfigValue]:
    # Else the words for an empty table stand in each empty cell.
    yield _property("noValue", "-")
    if column.unit:
        yield _property("unit", column.unit)
    if column.decimals is not None:
        yield _property("decimals", column.decimals)
    if column.width:
        yield _property("custom.width", column.width)
    if column.gauge:
        low, high = column.gauge
        yield _property("min", low)
        yield _property("max", high)
    if column.steps:
        steps = [{"value": value, "color": colour} for value, colour in column.steps]
        yield _property("thresholds", {"mode": "absolute", "steps": steps})
        cell: dict[str, Any] = {"type": "color-background", "mode": "basic"}
        if column.gauge:
            cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
        yield _property("custom.cellOptions", cell)
    if column.link:
        title, url = column.link
        yield _property("links", [{"title": title, "url": url, "targetBlank": False}])


def _property(name: str, value: object) -> d.DynamicConfigValue:
    return d.DynamicConfigValue(id_val=name, value=value)


TO_SITE = ("Open this site's dashboard", f"/d/{TAG}-site?var-site=${{__value.raw:percentencode}}")
SITE = Column("Site", "site", link=TO_SITE)
