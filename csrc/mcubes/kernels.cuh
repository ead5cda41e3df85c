// The kernels. What they share: the volume's inside bits, 32 grid points to a word, rows along z padded to whole words
// (mesh.hpp: Layout); and groups of 32 consecutive words, a warp to a group and a lane to a word. Words, and so groups,
// are in C order: the numbering of the mesh is the order of (group, lane, bit).
//
// All kernels: one-dimensional grid of any size, blocks of kBlock threads (whole warps); grid-stride over their items;
// 64-bit indices.
#pragma once

#include <cstdint>

#include "mesh.hpp"
#include "table.hpp"

namespace mcubes::cuda {

constexpr int kBlock = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kStepWords = 8;  // words that a warp classifies at once: loads in flight

using Word = std::uint32_t;

// The crossed edges of a word's points, and what the words before it in the group hold.
struct alignas(16) Crossings {
  Word along[3];                     // of the points of the word, those whose edge along x, y, z is crossed
  std::uint16_t vertices_before;     // at most 31 * 96
  std::uint16_t triangles_before;    // at most 31 * 160
};

__device__ const Table device_table = table;

__device__ inline std::int64_t first_warp() {
  return (static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x) / kWarp;
}

__device__ inline std::int64_t all_warps() { return static_cast<std::int64_t>(gridDim.x) * (kBlock / kWarp); }

// Quotient and remainder of numbers that are not negative; unsigned division is the shorter code.
__device__ inline void divide(std::int64_t value, std::int64_t by, std::int64_t& quotient, std::int64_t& remainder) {
  quotient = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) / static_cast<std::uint64_t>(by));
  remainder = value - quotient * by;
}

// Where a word lies: points (x, y, 32 * w) to (x, y, 32 * w + 31).
struct Place {
  std::int64_t x, y, w;

  __device__ Place(const Layout& layout, std::int64_t word) {
    std::int64_t row;
    divide(word, layout.row_words, row, w);
    divide(row, layout.ny, x, y);
  }
};

// The points of a word that have another one after them in z.
__device__ inline Word followed(const Layout& layout, std::int64_t w) {
  const std::int64_t count = layout.nz - 1 - w * kWarp;
  return count >= kWarp ? kAllLanes : (Word{1} << count) - 1;
}

// The bits of a word moved by one point: bit k is that of the point after k.
__device__ inline Word after(const Word* __restrict__ bits, const Layout& layout, std::int64_t word, std::int64_t w) {
  return bits[word] >> 1 | (w + 1 < layout.row_words ? bits[word + 1] << (kWarp - 1) : 0);
}

// The cells whose lowest corners are the points of one word.
struct Cells {
  Word corner[8];  // bit k: whether that corner of cell k is inside
  Word active;     // the cells that the surface passes through

  __device__ Cells(const Word* __restrict__ bits, const Layout& layout, std::int64_t word, const Place& place)
      : active(0) {
    if (place.x + 1 >= layout.nx || place.y + 1 >= layout.ny) return;
    Word all = kAllLanes, any = 0;
#pragma unroll
    for (int c = 0; c < 8; c += 2) {
      const std::int64_t other = word + ((c >> 2) * layout.ny + (c >> 1 & 1)) * layout.row_words;
      corner[c] = bits[other];
      corner[c + 1] = after(bits, layout, other, place.w);
      any |= corner[c] | corner[c + 1];
      all &= corner[c] & corner[c + 1];
    }
    active = any & ~all & followed(layout, place.w);
  }

  __device__ const Case& at(int k) const {
    unsigned number = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) number |= (corner[c] >> k & 1) << c;
    return device_table.cases[number];
  }
};

// bits[layout.words] = inside bits of the volume, read once; bits beyond nz are 0. A warp takes kStepWords words of a row.
__global__ void __launch_bounds__(kBlock)
    classify(const Volume volume, const float isovalue, const Layout layout, Word* __restrict__ bits) {
  const int lane = threadIdx.x % kWarp;
  const std::int64_t row_steps = (layout.row_words + kStepWords - 1) / kStepWords;
  const std::int64_t steps = layout.nx * layout.ny * row_steps;
  const std::int64_t jump = kWarp * volume.stride[2];
  for (std::int64_t step = first_warp(); step < steps; step += all_warps()) {
    std::int64_t row, part, x, y;
    divide(step, row_steps, row, part);
    divide(row, layout.ny, x, y);
    const std::int64_t w = part * kStepWords, z = w * kWarp + lane;
    const float* __restrict__ next = volume.row(x, y) + z * volume.stride[2];
    const int left = static_cast<int>(min(layout.nz - z, std::int64_t{kStepWords * kWarp}));
    float value[kStepWords];
#pragma unroll
    for (int k = 0; k < kStepWords; ++k, next += jump) value[k] = k * kWarp < left ? *next : isovalue;  // not inside
    Word mine = 0;
#pragma unroll
    for (int k = 0; k < kStepWords; ++k) {
      const Word word = __ballot_sync(kAllLanes, inside(value[k], isovalue));
      if (lane == k) mine = word;
    }
    if (lane < kStepWords && w + lane < layout.row_words) bits[row * layout.row_words + w + lane] = mine;
  }
}

// counts[g] = vertices and triangles of group g, for the `groups` groups of bits[layout.words]; crossings[layout.words]
// is written for the words of groups that have any.
__global__ void __launch_bounds__(kBlock)
    count(const Word* __restrict__ bits, const Layout layout, const std::int64_t groups,
          Crossings* __restrict__ crossings, Counts* __restrict__ counts) {
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t group = first_warp(); group < groups; group += all_warps()) {
    const std::int64_t word = group * kWarp + lane;
    Crossings crossed{};
    unsigned mine = 0;  // vertices, and triangles from bit 16 on: both sums of a group fit
    if (word < layout.words) {
      const Place place(layout, word);
      const Word here = bits[word];
      if (place.x + 1 < layout.nx) crossed.along[0] = here ^ bits[word + layout.ny * layout.row_words];
      if (place.y + 1 < layout.ny) crossed.along[1] = here ^ bits[word + layout.row_words];
      crossed.along[2] = (here ^ after(bits, layout, word, place.w)) & followed(layout, place.w);
      mine = __popc(crossed.along[0]) + __popc(crossed.along[1]) + __popc(crossed.along[2]);
      const Cells cells(bits, layout, word, place);
      for (Word left = cells.active; left != 0; left &= left - 1)
        mine += static_cast<unsigned>(cells.at(__ffs(left) - 1).triangles) << 16;
    }
    unsigned sum = mine;
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const unsigned other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    const unsigned total = __shfl_sync(kAllLanes, sum, kWarp - 1);
    if (lane == 0) counts[group] = {total & 0xffff, total >> 16};
    if (total != 0 && word < layout.words) {
      const unsigned before = sum - mine;
      crossed.vertices_before = static_cast<std::uint16_t>(before & 0xffff);
      crossed.triangles_before = static_cast<std::uint16_t>(before >> 16);
      crossings[word] = crossed;
    }
  }
}

// vertices[3 * before[groups].vertices]: the crossings of all edges. before[g] is what the groups before g hold.
__global__ void __launch_bounds__(kBlock)
    write_vertices(const Volume volume, const Frame frame, const Layout layout, const std::int64_t groups,
                   const Crossings* __restrict__ crossings, const Counts* __restrict__ before,
                   float* __restrict__ vertices) {
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t group = first_warp(); group < groups; group += all_warps()) {
    const std::int64_t first = before[group].vertices;
    const std::int64_t word = group * kWarp + lane;
    if (first == before[group + 1].vertices || word >= layout.words) continue;
    const Crossings crossed = crossings[word];
    Word left = crossed.along[0] | crossed.along[1] | crossed.along[2];
    if (left == 0) continue;
    const Place place(layout, word);
    float* out = vertices + 3 * (first + crossed.vertices_before);
    for (; left != 0; left &= left - 1) {
      const int k = __ffs(left) - 1;
      const std::int64_t z = place.w * kWarp + k;
      const float* __restrict__ value = volume.row(place.x, place.y) + z * volume.stride[2];
      const float here = *value;
      const double point[3] = {static_cast<double>(place.x), static_cast<double>(place.y), static_cast<double>(z)};
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) {
        if ((crossed.along[axis] >> k & 1) == 0) continue;
        const double t = crossing(here, value[volume.stride[axis]], frame.isovalue);
#pragma unroll
        for (int d = 0; d < 3; ++d) *out++ = frame.place(d, point[d] + (d == axis ? t : 0.0));
      }
    }
  }
}

// triangles[3 * before[groups].triangles]: the numbers of their vertices, for all cells.
template <typename Index>
__global__ void __launch_bounds__(kBlock)
    write_triangles(const Word* __restrict__ bits, const Layout layout, const std::int64_t groups,
                    const Crossings* __restrict__ crossings, const Counts* __restrict__ before,
                    Index* __restrict__ triangles) {
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t group = first_warp(); group < groups; group += all_warps()) {
    const std::int64_t first = before[group].triangles;
    const std::int64_t word = group * kWarp + lane;
    if (first == before[group + 1].triangles || word >= layout.words) continue;
    const Place place(layout, word);
    const Cells cells(bits, layout, word, place);
    if (cells.active == 0) continue;
    Index* out = triangles + 3 * (first + crossings[word].triangles_before);
    for (Word left = cells.active; left != 0; left &= left - 1) {
      const int k = __ffs(left) - 1;
      const Case& found = cells.at(k);
      for (int corner = 0; corner < 3 * found.triangles; ++corner) {
        const int edge = found.edges[corner], owner = device_table.owner[edge], axis = edge / 4;
        const int moved = k + (owner & 1);  // the point that owns the edge, from the word's first one
        const std::int64_t owning = word + moved / kWarp +
                                    ((owner >> 2) * layout.ny + (owner >> 1 & 1)) * layout.row_words;
        const Crossings there = crossings[owning];
        const int bit = moved % kWarp;
        const Word below = (Word{1} << bit) - 1;
        // Vertices before it: of groups, of words, of points of the word, of the point.
        std::int64_t vertex = before[owning / kWarp].vertices + there.vertices_before;
        vertex += __popc(there.along[0] & below) + __popc(there.along[1] & below) + __popc(there.along[2] & below);
        if (axis > 0) vertex += there.along[0] >> bit & 1;
        if (axis > 1) vertex += there.along[1] >> bit & 1;
        *out++ = static_cast<Index>(vertex);
      }
    }
  }
}

}  // namespace mcubes::cuda
