// The CPU twin of the CUDA part: the same table, the same numbering, the same bits, on one core.
#pragma once

#include <cstdint>
#include <vector>

#include "mesh.hpp"

namespace mcubes {

// Classifies and counts when it is made (one pass over the volume), writes the mesh into memory of that size then.
class CpuMesher {
 public:
  // The volume must stay as it is until the last write.
  CpuMesher(const Volume& volume, float isovalue);

  Counts counts() const { return counts_; }

  // vertices[3 * counts().vertices], triangles[3 * counts().triangles]; Index is int32_t or int64_t.
  template <typename Index>
  void write(const Frame& frame, float* vertices, Index* triangles) const;

 private:
  Volume volume_;
  Layout layout_;
  std::vector<std::uint64_t> bits_;
  Counts counts_{0, 0};
};

}  // namespace mcubes
