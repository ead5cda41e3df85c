"""Says what its modules were compiled for."""

import torch  # noqa: F401  (brings libcudart)

from serialcuda._cpu import built_for  # noqa: F401
