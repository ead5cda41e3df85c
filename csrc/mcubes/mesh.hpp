// What the CPU twin and the CUDA part share: the volume, where an edge is crossed, how large a mesh's indices are.
// Everything numerical is here once, so that both give the same bits (both are compiled without fused multiply-add).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

#ifdef __CUDACC__
#define MCUBES_BOTH __host__ __device__
#else
#define MCUBES_BOTH
#endif

namespace mcubes {

// A dense volume [nx, ny, nz] of float32. Strides count elements; zero and negative ones are allowed.
struct Volume {
  const float* data;
  std::int64_t size[3];
  std::int64_t stride[3];

  MCUBES_BOTH const float* row(std::int64_t x, std::int64_t y) const { return data + x * stride[0] + y * stride[1]; }
  MCUBES_BOTH float at(std::int64_t x, std::int64_t y, std::int64_t z) const { return row(x, y)[z * stride[2]]; }
};

// Where the surface is looked for, and where grid point (0, 0, 0) and its neighbours lie.
struct Frame {
  float isovalue;  // finite
  double spacing[3];
  double origin[3];

  // A coordinate, rounded once. `index` is a grid index plus a crossing, in grid units.
  MCUBES_BOTH float place(int axis, double index) const {
    return static_cast<float>(origin[axis] + spacing[axis] * index);
  }
};

struct Counts {
  std::int64_t vertices;
  std::int64_t triangles;
};

// Inside is what is less than the isovalue; NaN is not, so it counts as +infinity.
MCUBES_BOTH inline bool inside(float value, float isovalue) { return value < isovalue; }

// How far from a to b, in [0, 1], the isovalue is crossed; exactly one of a and b is inside. Where one is infinite (or
// NaN) this is the limit, the finite end; where both are, the middle. In double the difference of two floats neither
// overflows nor vanishes, and rounding keeps |isovalue - a| <= |b - a|: no clamping is needed.
MCUBES_BOTH inline double crossing(float a, float b, float isovalue) {
  const double whole = static_cast<double>(b) - static_cast<double>(a);
  const bool a_finite = a - a == 0.0f, b_finite = b - b == 0.0f;
  if (a_finite && b_finite) return (static_cast<double>(isovalue) - static_cast<double>(a)) / whole;
  if (a_finite != b_finite) return a_finite ? 0.0 : 1.0;
  return 0.5;
}

// Whether the largest index of this many vertices is more than an int32 holds.
inline bool needs_int64(std::int64_t vertices) {
  return vertices - 1 > static_cast<std::int64_t>(std::numeric_limits<std::int32_t>::max());
}

// The inside bits of a volume: each row along z is padded to whole words of `bits` grid points.
struct Layout {
  std::int64_t nx, ny, nz;
  std::int64_t row_words;  // words in a row
  std::int64_t words;      // in all

  // Throws std::length_error where 64 bits would not count the points, vertices or triangles.
  Layout(const std::int64_t (&size)[3], int bits)
      : nx(size[0]), ny(size[1]), nz(size[2]), row_words((nz + bits - 1) / bits), words(0) {
    constexpr std::int64_t most_points = std::int64_t{1} << 60;  // then 5 triangles a point are still below 2^63
    std::int64_t rows = 0, points = 0;
    if (__builtin_mul_overflow(nx, ny, &rows) || __builtin_mul_overflow(row_words, rows, &words) ||
        __builtin_mul_overflow(words, bits, &points) || points > most_points)
      throw std::length_error("the volume has more than 2^60 grid points");
  }

  // Whether there is a cell at all.
  bool has_cells() const { return nx > 1 && ny > 1 && nz > 1; }
};

}  // namespace mcubes
