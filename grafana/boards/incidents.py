"""Incidents as PromQL: the events that availability.yml writes, put together.

FILTER chooses the sites, $__range how far back. Events are single samples, so last_over_time
finds each once.
"""

OPENED = "last_over_time(incident:opened:timestamp_seconds{FILTER}[$__range])"
"""Since when each was down, with the labels of its site, `since` and `reason`."""

REPAIR = f"""
(
  max by (site, since) (
    last_over_time(incident:ended:timestamp_seconds{{outcome="recovered"}}[90d])
  )
  - on (site, since) group_right () {OPENED}
)
"""
"""Seconds until the site answered again; incidents that are over."""

LENGTH = f"""
({REPAIR} or on (site, since) (time() - incident:open:timestamp_seconds{{FILTER}}))
"""
"""Seconds so far; those that are still open too."""

OVERDUE = f"""
({LENGTH} > on (owner) group_left () max by (owner) (owner_overdue_after_seconds))
"""
"""Those that took longer than the `overdue_after` of their owner, as it is now."""

MONTHLY = f"""
(
  {LENGTH}
  * on (site, since) group_left (month)
    label_replace(
      count_values by (site, since) ("month", 100 * year({OPENED}) + month({OPENED})),
      "month", "$1-$2", "month", "(....)(..)"
    )
)
"""
"""Seconds, with the month in which each began, in UTC, as a label such as 2026-07."""
