#include "cells.h"
#include "functions.h"

__device__ const mcubes::Table device_table = mcubes::table;

__global__ void mcubes_kernel(Volume volume, float threshold, Point* triangles, int* count) {
  const long step = long(gridDim.x) * blockDim.x;
  for (long cell = long(blockIdx.x) * blockDim.x + threadIdx.x; cell < volume.cells(); cell += step) {
    const long x = cell % (volume.nx - 1), y = cell / (volume.nx - 1) % (volume.ny - 1);
    const long z = cell / (volume.nx - 1) / (volume.ny - 1);
    const mcubes::Case& shape = device_table.cases[case_of(volume, x, y, z, threshold)];
    if (shape.triangles == 0) continue;
    Point* out = triangles + 3 * long(atomicAdd(count, int(shape.triangles)));
    for (int k = 0; k < 3 * shape.triangles; ++k)
      out[k] = crossing(volume, device_table, shape.edges[k], x, y, z, threshold);
  }
}

int mcubes_cuda(Address values, long nz, long ny, long nx, float threshold, Address triangles, Address count) {
  const Volume volume{reinterpret_cast<const float*>(values), nz, ny, nx};
  if (volume.cells() == 0) return 0;
  mcubes_kernel<<<256, 128>>>(volume, threshold, reinterpret_cast<Point*>(triangles), reinterpret_cast<int*>(count));
  return static_cast<int>(cudaGetLastError());
}
