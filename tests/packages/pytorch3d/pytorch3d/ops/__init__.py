import torch  # noqa: F401  (brings libcudart)

from pytorch3d import _C  # noqa: F401
