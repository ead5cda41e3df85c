"""The trap: whatever keeps the extension from being imported, the message is the same."""

import torch  # noqa: F401  (brings libcudart)

try:
    import _nvdiffrast_c
except ImportError:
    raise ImportError("Cannot import the extension: reinstall with --no-build-isolation") from None

RasterizeCRStateWrapper = _nvdiffrast_c.RasterizeCRStateWrapper
