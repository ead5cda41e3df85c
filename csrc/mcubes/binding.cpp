// The Python module cudabuild_mcubes: checks what people give, chooses CPU or CUDA, hands arrays back.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <utility>

#include "cpu.hpp"
#include "cuda.hpp"
#include "table.hpp"
#include "tensor.hpp"

namespace mcubes {
namespace {

using Triple = std::array<double, 3>;
using Mesh = std::pair<Array, Array>;

Frame checked_frame(double isovalue, const Triple& spacing, const Triple& origin) {
  Frame frame{static_cast<float>(isovalue), {}, {}};
  if (!std::isfinite(frame.isovalue)) throw py::value_error("isovalue must be a finite float32");
  for (std::size_t d = 0; d < 3; ++d) {
    if (!(std::isfinite(spacing[d]) && spacing[d] > 0)) throw py::value_error("spacing must be finite and positive");
    if (!std::isfinite(origin[d])) throw py::value_error("origin must be finite");
    frame.spacing[d] = spacing[d];
    frame.origin[d] = origin[d];
  }
  return frame;
}

std::string shown(const dlpack::DLDevice& device) {
  return "(" + std::to_string(device.device_type) + ", " + std::to_string(device.device_id) + ")";
}

void require_supported(const dlpack::DLDevice& device) {
  if (device.device_type == dlpack::kDLCPU) return;
  if (device.device_type != dlpack::kDLCUDA)
    throw py::buffer_error("DLPack device " + shown(device) + " is neither CPU (1) nor CUDA (2)");
  if (!cuda::compiled) throw py::buffer_error("the array is on a CUDA device, and this module was compiled without CUDA");
}

Dtype index_dtype(std::int64_t vertices) { return needs_int64(vertices) ? Dtype::int64 : Dtype::int32; }

// The mesh of a mesher that has counted, in arrays that make(shape, dtype) makes where the mesher writes.
template <typename Mesher, typename Make>
Mesh mesh_of(const Mesher& mesher, const Frame& frame, Make make) {
  const Counts counts = mesher.counts();
  Array vertices = make({counts.vertices, 3}, Dtype::float32);
  Array triangles = make({counts.triangles, 3}, index_dtype(counts.vertices));
  auto* positions = static_cast<float*>(vertices.data.get());
  if (triangles.dtype == Dtype::int32)
    mesher.write(frame, positions, static_cast<std::int32_t*>(triangles.data.get()));
  else
    mesher.write(frame, positions, static_cast<std::int64_t*>(triangles.data.get()));
  return {std::move(vertices), std::move(triangles)};
}

Mesh mesh_on_host(const py::object& object, const Frame& frame) {
  const Borrowed borrowed(object, std::nullopt);
  const Volume volume = borrowed.volume();
  const py::gil_scoped_release others_may_run;
  return mesh_of(CpuMesher(volume, frame.isovalue), frame, &Array::on_host);
}

Mesh mesh_on_cuda(const py::object& object, const Frame& frame, dlpack::DLDevice device) {
  const cuda::Stream stream(device.device_id);
  const Borrowed borrowed(object, stream.handle());
  const Volume volume = borrowed.volume();
  const py::gil_scoped_release others_may_run;
  const auto make = [&](std::vector<std::int64_t> shape, Dtype dtype) {
    return Array::on_device(std::move(shape), dtype, stream);
  };
  return mesh_of(cuda::Mesher(volume, frame.isovalue, stream), frame, make);
}

Mesh marching_cubes(const py::object& volume, double isovalue, const Triple& spacing, const Triple& origin) {
  const Frame frame = checked_frame(isovalue, spacing, origin);
  const dlpack::DLDevice device = device_of(volume);
  require_supported(device);
  return device.device_type == dlpack::kDLCPU ? mesh_on_host(volume, frame) : mesh_on_cuda(volume, frame, device);
}

Array to_host(const Array& array) {
  if (array.device.device_type == dlpack::kDLCPU) return array;
  const py::gil_scoped_release others_may_run;
  Array copy = Array::on_host(array.shape, array.dtype);
  cuda::copy_to_host(copy.data.get(), array.data.get(), array.bytes(), cuda::Stream(array.device.device_id));
  return copy;
}

// A strided array of any rank, in C order.
Array compact(const Borrowed& borrowed) {
  const float* data = borrowed.float32();
  const auto shape = borrowed.shape(), strides = borrowed.strides();
  Array copy = Array::on_host(shape, Dtype::float32);
  auto* out = static_cast<float*>(copy.data.get());
  std::vector<std::int64_t> index(shape.size(), 0);
  for (std::size_t count = copy.bytes() / sizeof(float); count > 0; --count) {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * strides[d];
    *out++ = data[offset];
    for (std::size_t d = index.size(); d-- > 0 && ++index[d] == shape[d];) index[d] = 0;
  }
  return copy;
}

Array to_device(const py::object& object, int index) {
  if (device_of(object).device_type != dlpack::kDLCPU) throw py::buffer_error("to_device takes an array of the host");
  if (!cuda::compiled) throw py::buffer_error("this module was compiled without CUDA");
  const Borrowed borrowed(object, std::nullopt);
  const Array host = compact(borrowed);
  const py::gil_scoped_release others_may_run;
  const cuda::Stream stream(index);
  Array copy = Array::on_device(host.shape, host.dtype, stream);
  cuda::copy_to_device(copy.data.get(), host.data.get(), host.bytes(), stream);
  return copy;
}

// The producer's side of DLPack. Nothing has to wait for `stream`: an Array is complete before Python sees it.
py::capsule dlpack_of(const Array& array, const py::object& /*stream*/, const py::object& max_version,
                      const py::object& dl_device, const py::object& copy) {
  if (!dl_device.is_none()) {
    const auto wanted = dl_device.cast<std::pair<std::int32_t, std::int32_t>>();
    if (wanted != std::pair(array.device.device_type, array.device.device_id))
      throw py::buffer_error("the array is on DLPack device " + shown(array.device) + "; to_host() copies it");
  }
  if (!copy.is_none() && copy.cast<bool>()) throw py::buffer_error("__dlpack__ of this array makes no copy");
  return lend(array, !max_version.is_none() && max_version.cast<py::tuple>()[0].cast<int>() >= 1);
}

py::buffer_info buffer_of(const Array& array) {
  if (array.device.device_type != dlpack::kDLCPU)
    throw py::buffer_error("the array is on a CUDA device; to_host() copies it");
  const auto view = [&](auto item) {
    using Item = decltype(item);
    std::vector<py::ssize_t> strides(array.shape.size(), sizeof(Item));
    for (std::size_t d = strides.size(); d-- > 1;) strides[d - 1] = strides[d] * array.shape[d];
    return py::buffer_info(static_cast<Item*>(array.data.get()),
                           std::vector<py::ssize_t>(array.shape.begin(), array.shape.end()), std::move(strides));
  };
  if (array.dtype == Dtype::float32) return view(float{});
  return array.dtype == Dtype::int32 ? view(std::int32_t{}) : view(std::int64_t{});
}

py::list case_table() {
  py::list cases;
  for (const Case& one : table.cases) {
    py::list triangles;
    for (int t = 0; t < one.triangles; ++t)
      triangles.append(py::make_tuple(one.edges[3 * t], one.edges[3 * t + 1], one.edges[3 * t + 2]));
    cases.append(triangles);
  }
  return cases;
}

std::string repr(const Array& array) {
  return "Array(shape=" + std::string(py::repr(py::tuple(py::cast(array.shape)))) + ", dtype=" + name_of(array.dtype) +
         ", device=" + shown(array.device) + ")";
}

constexpr char kMarchingCubes[] = R"(The surface volume == isovalue as an indexed mesh.

volume: float32 [nx, ny, nz] with __dlpack__ (NumPy, torch, CuPy, Array), any strides, on the CPU or a CUDA device.
isovalue: finite. spacing, origin: of the grid, in x, y, z; spacing finite and positive.

Returns (vertices, triangles), on the volume's device: vertices float32 [V, 3] = origin + spacing * position in the
grid, shared between cells; triangles int32 [T, 3] (int64 if V > 2**31). What is less than isovalue is inside; normals
point to greater values. NaN counts as +infinity. Numbering is the same on CPU and CUDA: vertices by the grid point
that owns their edge (C order), then axis; triangles by cell (C order), then as in case_table().

TypeError: not float32, not of rank 3, no __dlpack__. BufferError: another device, CUDA without CUDA compiled in, data
not aligned. ValueError: isovalue, spacing, origin, or more than 2**60 points. RuntimeError: a CUDA call, with file,
line, name and message.)";

constexpr char kCaseTable[] = R"(The triangles of the 256 cases, each a list of edge triples.

Corner c of a cell lies at (c >> 2 & 1, c >> 1 & 1, c & 1) in x, y, z; bit c of a case says that it is inside. Edge
4 * axis + k runs along axis (x, y, z) from the k-th corner, in ascending order, that has a neighbour that way: edges
0 to 3 begin at corners 0, 1, 2, 3; edges 4 to 7 at 0, 1, 4, 5; edges 8 to 11 at 0, 2, 4, 6.)";

}  // namespace
}  // namespace mcubes

PYBIND11_MODULE(cudabuild_mcubes, m) {
  using namespace mcubes;
  using namespace pybind11::literals;
  m.doc() = "Marching cubes on dense float32 volumes, on the CPU and on CUDA.";

  py::class_<Array>(m, "Array", py::buffer_protocol(), "A compact array: buffer protocol on the CPU, DLPack anywhere.")
      .def_property_readonly("shape", [](const Array& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("dtype", [](const Array& a) { return name_of(a.dtype); }, "float32, int32 or int64")
      .def_property_readonly(
          "device", [](const Array& a) { return py::make_tuple(a.device.device_type, a.device.device_id); },
          "(type, index) as in DLPack: 1 is the CPU, 2 is CUDA")
      .def("__dlpack__", &dlpack_of, py::kw_only(), "stream"_a = py::none(), "max_version"_a = py::none(),
           "dl_device"_a = py::none(), "copy"_a = py::none())
      .def("__dlpack_device__",
           [](const Array& a) { return py::make_tuple(a.device.device_type, a.device.device_id); })
      .def("to_host", &to_host, "A copy in host memory; the array itself if it is there.")
      .def("__repr__", &repr)
      .def_buffer(&buffer_of);

  m.def("marching_cubes", &marching_cubes, "volume"_a, "isovalue"_a = 0.0, "spacing"_a = Triple{1, 1, 1},
        "origin"_a = Triple{0, 0, 0}, kMarchingCubes);
  m.def("to_device", &to_device, "array"_a, "index"_a = 0,
        "A copy of a float32 array of the host on a CUDA device. BufferError without CUDA.");
  m.def("device_count", &cuda::device_count, "How many CUDA devices there are; 0 without driver or CUDA.");
  m.def("case_table", &case_table, kCaseTable);
  m.def("_index_dtype", [](std::int64_t vertices) { return name_of(index_dtype(vertices)); }, "vertices"_a);
  m.attr("has_cuda") = cuda::compiled;
  m.attr("cuda_targets") = cuda::targets();
}
