#include "cells.h"
#include "functions.h"

__global__ void grid_interp_kernel(Volume first, long channels, const Point* points, long count, float* out) {
  const long step = long(gridDim.x) * blockDim.x;
  for (long index = long(blockIdx.x) * blockDim.x + threadIdx.x; index < channels * count; index += step) {
    Volume volume = first;
    volume.values += index % channels * volume.nz * volume.ny * volume.nx;
    out[index] = interpolated(volume, points[index / channels]);
  }
}

int grid_interp_cuda(Address values, long channels, long nz, long ny, long nx, Address points, long count, Address out) {
  if (channels * count == 0) return 0;
  const Volume first{reinterpret_cast<const float*>(values), nz, ny, nx};
  grid_interp_kernel<<<256, 128>>>(first, channels, reinterpret_cast<const Point*>(points), count,
                                   reinterpret_cast<float*>(out));
  return static_cast<int>(cudaGetLastError());
}
