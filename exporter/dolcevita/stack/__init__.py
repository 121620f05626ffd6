"""Starts the whole stack on this machine, native or in Docker, and keeps it running."""
