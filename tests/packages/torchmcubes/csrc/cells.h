// One cell, one interpolated value: the same on both devices. table.hpp is the project's own, csrc/mcubes/table.hpp.
#pragma once

#include "lerp.h"
#include "table.hpp"

struct Volume {
  const float* values;
  long nz, ny, nx;

  EVERYWHERE float at(long x, long y, long z) const { return values[(z * ny + y) * nx + x]; }
  EVERYWHERE long cells() const { return nz > 1 && ny > 1 && nx > 1 ? (nz - 1) * (ny - 1) * (nx - 1) : 0; }
};

// Where the threshold is crossed on an edge of the cell at (x, y, z).
EVERYWHERE inline Point crossing(const Volume& volume, const mcubes::Table& table, int edge, long x, long y, long z,
                                 float threshold) {
  const int owner = table.owner[edge], axis = edge / 4;
  const long x0 = x + (owner >> 2 & 1), y0 = y + (owner >> 1 & 1), z0 = z + (owner & 1);
  const long x1 = x0 + (axis == 0), y1 = y0 + (axis == 1), z1 = z0 + (axis == 2);
  const float before = volume.at(x0, y0, z0), after = volume.at(x1, y1, z1);
  const Point from{float(x0), float(y0), float(z0)}, to{float(x1), float(y1), float(z1)};
  return lerp(from, to, (threshold - before) / (after - before));
}

EVERYWHERE inline int case_of(const Volume& volume, long x, long y, long z, float threshold) {
  int number = 0;
  for (int c = 0; c < 8; ++c)
    number |= (volume.at(x + (c >> 2 & 1), y + (c >> 1 & 1), z + (c & 1)) < threshold) << c;
  return number;
}

EVERYWHERE inline float interpolated(const Volume& volume, Point at) {
  const long x = long(at.x) < volume.nx - 1 ? long(at.x) : volume.nx - 2;
  const long y = long(at.y) < volume.ny - 1 ? long(at.y) : volume.ny - 2;
  const long z = long(at.z) < volume.nz - 1 ? long(at.z) : volume.nz - 2;
  float layers[2];
  for (int k = 0; k < 2; ++k) {
    const float near = lerp(volume.at(x, y, z + k), volume.at(x + 1, y, z + k), at.x - x);
    const float far = lerp(volume.at(x, y + 1, z + k), volume.at(x + 1, y + 1, z + k), at.x - x);
    layers[k] = lerp(near, far, at.y - y);
  }
  return lerp(layers[0], layers[1], at.z - z);
}
