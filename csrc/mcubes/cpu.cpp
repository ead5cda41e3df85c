// Marching cubes on one core. Three steps: inside bits of the whole volume, 64 grid points to a word; counts, from the
// bits; the mesh, slice by slice. All but the first look at a word at a time and pass over those without a crossing.
#include "cpu.hpp"

#include <algorithm>
#include <cstring>

#include "table.hpp"

namespace mcubes {
namespace {

using Word = std::uint64_t;
constexpr int kBits = 64;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pack() puts the first byte into the lowest bit");

// Eight bytes of 0 or 1 into the eight lowest bits: the multiplication moves byte k to bit 56 + k.
Word pack(const std::uint8_t* flags) {
  Word bytes;
  std::memcpy(&bytes, flags, sizeof bytes);
  return (bytes * 0x0102040810204080u) >> 56;
}

// The inside bits of up to 64 points. `step` is a type where it is 1, so that the compiler vectorises the comparison.
template <typename Step>
Word classify(const float* values, Step step, std::int64_t count, float isovalue) {
  std::uint8_t flags[kBits] = {};
  if (count >= kBits) {
    for (int k = 0; k < kBits; ++k) flags[k] = inside(values[k * step], isovalue);
  } else {
    for (int k = 0; k < count; ++k) flags[k] = inside(values[k * step], isovalue);
  }
  Word word = 0;
  for (int byte = 0; byte < 8; ++byte) word |= pack(flags + 8 * byte) << (8 * byte);
  return word;
}

struct One {};
constexpr std::int64_t operator*(std::int64_t k, One) { return k; }

void classify_row(const float* row, std::int64_t stride, std::int64_t count, float isovalue, Word* words) {
  for (std::int64_t z = 0; z < count; z += kBits) {
    *words++ = stride == 1 ? classify(row + z, One{}, count - z, isovalue)
                           : classify(row + z * stride, stride, count - z, isovalue);
  }
}

// The bits of a row, one row of Layout::row_words words.
struct Row {
  const Word* words;
  std::int64_t row_words;

  Word at(std::int64_t w) const { return words[w]; }
  // The same moved by one point: bit k is that of the point after k.
  Word after(std::int64_t w) const { return words[w] >> 1 | (w + 1 < row_words ? words[w + 1] << (kBits - 1) : 0); }
};

struct Bits {
  const Layout& layout;
  const Word* words;

  Row row(std::int64_t x, std::int64_t y) const {
    return {words + (x * layout.ny + y) * layout.row_words, layout.row_words};
  }
  // The points of a word that have another one after them in z.
  Word followed(std::int64_t w) const {
    const std::int64_t count = layout.nz - 1 - w * kBits;
    return count >= kBits ? ~Word{0} : (Word{1} << count) - 1;
  }
};

// Of the points of one word, those whose edge along x, y and z is crossed.
struct Crossings {
  Word along[3];

  Word any() const { return along[0] | along[1] | along[2]; }
};

Crossings crossings(const Bits& bits, std::int64_t x, std::int64_t y, std::int64_t w) {
  const Row row = bits.row(x, y);
  const Word here = row.at(w);
  return {{x + 1 < bits.layout.nx ? here ^ bits.row(x + 1, y).at(w) : 0,
           y + 1 < bits.layout.ny ? here ^ bits.row(x, y + 1).at(w) : 0, (here ^ row.after(w)) & bits.followed(w)}};
}

// The cells whose lowest corners are the points of one word of row (x, y); x and y have a neighbour.
struct Cells {
  Word corner[8];  // bit k: whether that corner of cell k is inside
  Word active;     // the cells that the surface passes through

  Cells(const Bits& bits, std::int64_t x, std::int64_t y, std::int64_t w) {
    Word all = ~Word{0}, any = 0;
    for (int c = 0; c < 8; c += 2) {
      const Row row = bits.row(x + (c >> 2), y + (c >> 1 & 1));
      corner[c] = row.at(w);
      corner[c + 1] = row.after(w);
      any |= corner[c] | corner[c + 1];
      all &= corner[c] & corner[c + 1];
    }
    active = any & ~all & bits.followed(w);
  }

  const Case& at(int k) const {
    unsigned number = 0;
    for (unsigned c = 0; c < 8; ++c) number |= static_cast<unsigned>(corner[c] >> k & 1) << c;
    return table.cases[number];
  }
};

// Calls visit(k) for every bit k that is set, lowest first.
template <typename Visit>
void for_each_bit(Word word, Visit visit) {
  for (; word != 0; word &= word - 1) visit(__builtin_ctzll(word));
}

Counts count(const Bits& bits) {
  const Layout& layout = bits.layout;
  Counts counts{0, 0};
  for (std::int64_t x = 0; x < layout.nx; ++x) {
    for (std::int64_t y = 0; y < layout.ny; ++y) {
      const bool has_cells = x + 1 < layout.nx && y + 1 < layout.ny;
      for (std::int64_t w = 0; w < layout.row_words; ++w) {
        const Crossings crossed = crossings(bits, x, y, w);
        if (crossed.any() != 0)
          for (const Word word : crossed.along) counts.vertices += __builtin_popcountll(word);
        if (has_cells) {
          const Cells cells(bits, x, y, w);
          for_each_bit(cells.active, [&](int k) { counts.triangles += cells.at(k).triangles; });
        }
      }
    }
  }
  return counts;
}

// Writes the mesh. The vertices of two slices are remembered: a cell's edges belong to points of its own slice and of
// the next one.
template <typename Index>
class Writer {
 public:
  Writer(const Volume& volume, const Bits& bits, const Frame& frame, float* vertices, Index* triangles)
      : volume_(volume), bits_(bits), frame_(frame), vertex_(vertices), triangle_(triangles) {
    const auto points = static_cast<std::size_t>(bits.layout.ny * bits.layout.nz);
    for (auto& slice : numbers_) slice.resize(3 * points);
  }

  void write() {
    const Layout& layout = bits_.layout;
    write_vertices(0);
    for (std::int64_t x = 0; x + 1 < layout.nx; ++x) {
      write_vertices(x + 1);
      for (std::int64_t y = 0; y + 1 < layout.ny; ++y) write_triangles(x, y);
    }
  }

 private:
  // The numbers of the vertices on the x, y and z edges of a point; set only where the edge is crossed.
  Index* numbers(std::int64_t x, std::int64_t y, std::int64_t z) {
    return numbers_[x & 1].data() + 3 * (y * bits_.layout.nz + z);
  }

  void write_vertices(std::int64_t x) {
    for (std::int64_t y = 0; y < bits_.layout.ny; ++y) {
      for (std::int64_t w = 0; w < bits_.layout.row_words; ++w) {
        const Crossings crossed = crossings(bits_, x, y, w);
        for_each_bit(crossed.any(), [&](int k) {
          const std::int64_t point[3] = {x, y, w * kBits + k};
          for (int axis = 0; axis < 3; ++axis)
            if (crossed.along[axis] >> k & 1) write_vertex(point, axis);
        });
      }
    }
  }

  void write_vertex(const std::int64_t (&point)[3], int axis) {
    const float* value = volume_.row(point[0], point[1]) + point[2] * volume_.stride[2];
    const double t = crossing(value[0], value[volume_.stride[axis]], frame_.isovalue);
    for (int d = 0; d < 3; ++d)
      *vertex_++ = frame_.place(d, static_cast<double>(point[d]) + (d == axis ? t : 0.0));
    numbers(point[0], point[1], point[2])[axis] = next_++;
  }

  void write_triangles(std::int64_t x, std::int64_t y) {
    const Index* on_edge[12];  // of the cell at z = 0; three numbers further for the next
    for (int e = 0; e < 12; ++e) {
      const int owner = table.owner[e];
      on_edge[e] = numbers(x + (owner >> 2), y + (owner >> 1 & 1), owner & 1) + e / 4;
    }
    for (std::int64_t w = 0; w < bits_.layout.row_words; ++w) {
      const Cells cells(bits_, x, y, w);
      for_each_bit(cells.active, [&](int k) {
        const Case& found = cells.at(k);
        const std::int64_t z = w * kBits + k;
        for (int corner = 0; corner < 3 * found.triangles; ++corner)
          *triangle_++ = on_edge[found.edges[corner]][3 * z];
      });
    }
  }

  const Volume& volume_;
  const Bits& bits_;
  const Frame& frame_;
  float* vertex_;
  Index* triangle_;
  Index next_ = 0;
  std::vector<Index> numbers_[2];
};

}  // namespace

CpuMesher::CpuMesher(const Volume& volume, float isovalue) : volume_(volume), layout_(volume.size, kBits) {
  if (!layout_.has_cells()) return;
  bits_.resize(static_cast<std::size_t>(layout_.words));
  Word* words = bits_.data();
  for (std::int64_t x = 0; x < layout_.nx; ++x) {
    for (std::int64_t y = 0; y < layout_.ny; ++y, words += layout_.row_words)
      classify_row(volume.row(x, y), volume.stride[2], layout_.nz, isovalue, words);
  }
  counts_ = count(Bits{layout_, bits_.data()});
}

template <typename Index>
void CpuMesher::write(const Frame& frame, float* vertices, Index* triangles) const {
  if (counts_.vertices == 0) return;
  const Bits bits{layout_, bits_.data()};
  Writer<Index>(volume_, bits, frame, vertices, triangles).write();
}

template void CpuMesher::write(const Frame&, float*, std::int32_t*) const;
template void CpuMesher::write(const Frame&, float*, std::int64_t*) const;

}  // namespace mcubes
