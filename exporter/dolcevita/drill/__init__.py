"""`dolcevita drill`: a marked incident on the live stack, followed from the exporter to people."""
