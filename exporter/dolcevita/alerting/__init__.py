"""People into Alertmanager's terms: receivers, routes and time intervals."""
