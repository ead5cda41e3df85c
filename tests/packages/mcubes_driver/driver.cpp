// The CPU twin without Python, for sanitizers: reads volumes from standard input, writes their meshes to standard output.
//
// A request: size[3], stride[3], offset of the first element, count of values, bytes of an index (int64 each); isovalue,
// spacing[3], origin[3] (double each); the values (float32). An answer: vertices, triangles (int64 each), then both arrays.
// The values lie in a block of exactly their size, so that AddressSanitizer sees whatever is read beside it.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "cpu.hpp"

namespace {

template <typename Item>
bool read(Item* items, std::size_t count) {
  return std::fread(items, sizeof(Item), count, stdin) == count;
}

template <typename Item>
void write(const Item* items, std::size_t count) {
  if (count != 0 && std::fwrite(items, sizeof(Item), count, stdout) != count) std::exit(3);
}

template <typename Index>
void answer(const mcubes::CpuMesher& mesher, const mcubes::Frame& frame) {
  const mcubes::Counts counts = mesher.counts();
  const auto positions = static_cast<std::size_t>(3 * counts.vertices);
  const auto corners = static_cast<std::size_t>(3 * counts.triangles);
  const std::unique_ptr<float[]> vertices(new float[positions]);
  const std::unique_ptr<Index[]> triangles(new Index[corners]);
  mesher.write(frame, vertices.get(), triangles.get());
  const std::int64_t head[2] = {counts.vertices, counts.triangles};
  write(head, 2);
  write(vertices.get(), positions);
  write(triangles.get(), corners);
  std::fflush(stdout);
}

}  // namespace

int main() {
  std::int64_t head[9];
  double numbers[7];
  while (read(head, 9) && read(numbers, 7)) {
    const auto count = static_cast<std::size_t>(head[7]);
    const std::unique_ptr<float[]> values(new float[count]);
    if (!read(values.get(), count)) return 2;
    const mcubes::Volume volume{values.get() + head[6], {head[0], head[1], head[2]}, {head[3], head[4], head[5]}};
    const mcubes::Frame frame{static_cast<float>(numbers[0]),
                              {numbers[1], numbers[2], numbers[3]},
                              {numbers[4], numbers[5], numbers[6]}};
    const mcubes::CpuMesher mesher(volume, frame.isovalue);
    if (head[8] == 4)
      answer<std::int32_t>(mesher, frame);
    else
      answer<std::int64_t>(mesher, frame);
  }
  return 0;
}
