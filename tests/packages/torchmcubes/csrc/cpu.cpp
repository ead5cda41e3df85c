#include "cells.h"
#include "functions.h"

int mcubes_cpu(Address values, long nz, long ny, long nx, float threshold, Address triangles, Address count) {
  const Volume volume{reinterpret_cast<const float*>(values), nz, ny, nx};
  Point* out = reinterpret_cast<Point*>(triangles);
  int found = 0;
  for (long cell = 0; cell < volume.cells(); ++cell) {
    const long x = cell % (nx - 1), y = cell / (nx - 1) % (ny - 1), z = cell / (nx - 1) / (ny - 1);
    const mcubes::Case& shape = mcubes::table.cases[case_of(volume, x, y, z, threshold)];
    for (int k = 0; k < 3 * shape.triangles; ++k)
      *out++ = crossing(volume, mcubes::table, shape.edges[k], x, y, z, threshold);
    found += shape.triangles;
  }
  *reinterpret_cast<int*>(count) = found;
  return 0;
}

int grid_interp_cpu(Address values, long channels, long nz, long ny, long nx, Address points, long count, Address out) {
  for (long index = 0; index < channels * count; ++index) {
    const long channel = index % channels;
    const Volume volume{reinterpret_cast<const float*>(values) + channel * nz * ny * nx, nz, ny, nx};
    const Point at = reinterpret_cast<const Point*>(points)[index / channels];
    reinterpret_cast<float*>(out)[index] = interpolated(volume, at);
  }
  return 0;
}
