"""The dashboards as code. `python -m boards` writes them as Grafana's JSON."""
