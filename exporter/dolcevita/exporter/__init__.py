"""The exporter: Prometheus asks, it probes the sites and answers."""
