// Addresses travel as numbers, so that no unit has to read torch's headers.
#pragma once

#include <cstdint>

using Address = std::uintptr_t;

int mcubes_cpu(Address volume, long nz, long ny, long nx, float threshold, Address triangles, Address count);
int mcubes_cuda(Address volume, long nz, long ny, long nx, float threshold, Address triangles, Address count);
int grid_interp_cpu(Address volume, long channels, long nz, long ny, long nx, Address points, long count, Address out);
int grid_interp_cuda(Address volume, long channels, long nz, long ny, long nx, Address points, long count, Address out);
