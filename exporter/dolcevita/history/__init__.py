"""What Prometheus remembers, for the status page and the report."""

from dolcevita.history.incidents import Incident, incidents
from dolcevita.history.prometheus import NoAnswer, Prometheus, Ruling, Series, quoted

__all__ = ["Incident", "NoAnswer", "Prometheus", "Ruling", "Series", "incidents", "quoted"]
