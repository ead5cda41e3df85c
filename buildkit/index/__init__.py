"""The package index over the store: what pip and uv install from."""
