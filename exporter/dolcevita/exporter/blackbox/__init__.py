"""blackbox_exporter's configuration file, `/probe?target=` and metrics, over our probers."""
