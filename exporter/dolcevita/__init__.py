"""Dolce Vita: the monitoring stack that lets an independent enjoy dinner."""
