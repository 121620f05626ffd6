"""Keeps Alertmanager's configuration current, brings Apprise messages, stands guard."""
