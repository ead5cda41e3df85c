"""cudabuild: builds CUDA/PyTorch extensions under a guard and hands over a wheel with proof."""

from __future__ import annotations

__version__ = "0.1.0"
