"""Requires the torch that it is built with, as the real package does."""

import torch


class Provider:
    def dynamic_metadata(self, settings, project):
        major, minor = torch.__version__.split(".")[:2]
        return {"dependencies": [f"torch=={major}.{minor}.*"]}
