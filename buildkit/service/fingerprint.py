"""What makes two requests the same request. Pure."""

from __future__ import annotations

import hashlib
import json

from buildkit.service.answers import BuildRequest


def fingerprint_of(request: BuildRequest, *, recipe_sha256: str, version: str) -> str:
    """A hash of all that was asked for but its priority; the recipe counts as it is now, and its default version."""
    asked = request.model_dump(mode="json", exclude={"priority", "recipe_toml"})
    asked |= {"targets": sorted(request.targets), "version": version, "recipe_sha256": recipe_sha256}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
