"""What the cache holds beside wheels: torch environments, toolkits, unfinished downloads and builds."""

from __future__ import annotations

from buildkit.build.places import Places


def cache_contents(places: Places) -> list[dict[str, str]]:
    """One row a thing: its kind, name and path. Hidden (unfinished) folders are left out."""
    kinds = (
        ("torch", places.torch), ("toolkit", places.toolkits), ("environment", places.environments),
        ("download", places.downloads), ("build", places.builds),
    )  # fmt: skip
    return [
        {"kind": kind, "name": path.name, "path": str(path)}
        for kind, folder in kinds
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]
