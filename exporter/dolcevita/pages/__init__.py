"""The status page, its feeds and its badges."""
