"""What Prometheus remembers, for the status page and the report."""

from dolcevita.history.incidents import Incident, incidents
from dolcevita.history.prometheus import NoAnswer, Prometheus, Series, quoted

__all__ = ["Incident", "NoAnswer", "Prometheus", "Series", "incidents", "quoted"]
