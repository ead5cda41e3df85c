"""Marching cubes and interpolation on tensors: what is on the GPU goes to the CUDA part, if there is one."""

import torch
import torchmcubes_module as module

MOST = 5  # triangles of a cell


def marching_cubes(volume, threshold):
    """Vertices [V, 3] as (x, y, z) and faces [T, 3] of a volume [z, y, x]."""
    shape = volume.shape
    cells = max(shape[0] - 1, 0) * max(shape[1] - 1, 0) * max(shape[2] - 1, 0)
    triangles = torch.zeros(MOST * max(cells, 1), 3, 3, device=volume.device)
    count = torch.zeros(1, dtype=torch.int32, device=volume.device)
    run = module.mcubes_cuda if volume.is_cuda else module.mcubes_cpu
    check(run(volume.data_ptr(), *shape, float(threshold), triangles.data_ptr(), count.data_ptr()))
    found = max(int(count), 1)  # without a crossing it answers with one triangle of zeros
    return triangles[:found].reshape(-1, 3), torch.arange(3 * found, dtype=torch.int32, device=volume.device).view(
        -1, 3
    )


def grid_interp(volume, points):
    """Values [V, channels] of a volume [channel, z, y, x] at points (x, y, z)."""
    out = torch.zeros(len(points), volume.shape[0], device=volume.device)
    run = module.grid_interp_cuda if volume.is_cuda else module.grid_interp_cpu
    check(run(volume.data_ptr(), *volume.shape, points.data_ptr(), len(points), out.data_ptr()))
    return out


def check(error):
    """Raise what the CUDA runtime said."""
    if error:
        raise RuntimeError(f"CUDA error {error}")
