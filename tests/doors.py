"""What the world may see of the exporter, whatever proxy is in front of it."""

TOKEN = "t" * 20
MARIE = f"/status/marie/{TOKEN}"
PUBLIC = {
    **dict.fromkeys(("/status.css", "/status.js", "/status.svg"), "open"),
    **{MARIE + path: "open" for path in ("", "/logo", "/brand.css", "/status.json", "/status.rss")},
    f"/status/marie/badge/{'0' * 32}/shop.svg": "open",
    MARIE + "/report/2020-01": "open",
    f"/ping/{TOKEN}": "open",
    **dict.fromkeys(("/", "/status.json", "/status.rss"), "password"),
    **dict.fromkeys(("/site.css", "/site/shop", "/sd", "/probe", "/metrics"), "shut"),
    "/badge/shop.svg": "shut",
    **dict.fromkeys(("/-/healthy", "/-/reload", "/recent", "/recent/1"), "shut"),
    **dict.fromkeys(("/-/drill", "/-/drill/1", "/-/drill/1/passed"), "shut"),
}
"""What the world is answered, for a path of each of the exporter's routes."""

TRICKS = (
    *("/%2e/metrics", "//metrics", "/metrics/", "/METRICS", "/status/../metrics"),
    *("/status/%2e%2e/metrics", "/status/..%2fmetrics", "/ping/..%5cmetrics", "/status//../../sd"),
    *("/metrics/../status/x", "/site/shop?/status/x", "/status/..;/probe?site=shop"),
)
