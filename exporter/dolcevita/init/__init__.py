"""`dolcevita init`: from a few answers to a sites.yml and a people.yml that work."""
