"""Measures what the stack costs, beside blackbox_exporter and at sizes where it begins to hurt."""
