// DLPack tensors to and from Python: what is lent to us, and the arrays that we hand out.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cuda.hpp"
#include "dlpack.h"
#include "mesh.hpp"

namespace mcubes {

namespace py = pybind11;

enum class Dtype { float32, int32, int64 };

std::string name_of(Dtype dtype);

// A compact C-order array that owns its memory. On CUDA everything that writes it has ended before Python sees it.
struct Array {
  std::shared_ptr<void> data;
  std::vector<std::int64_t> shape;
  Dtype dtype;
  dlpack::DLDevice device;

  std::size_t bytes() const;

  // New memory, not initialised, in host memory or on a stream's device; its address is never null.
  static Array on_host(std::vector<std::int64_t> shape, Dtype dtype);
  static Array on_device(std::vector<std::int64_t> shape, Dtype dtype, const cuda::Stream& stream);
};

// A capsule for DLPack consumers; "dltensor_versioned" if they know version 1, else "dltensor".
py::capsule lend(const Array& array, bool versioned);

// A tensor that a producer lends until this goes.
class Borrowed {
 public:
  // Takes it. `stream` is the CUDA stream that will read it, which the producer makes wait; none on the CPU.
  // TypeError where the object does not know DLPack; else what the producer raises.
  Borrowed(const py::object& producer, std::optional<std::uintptr_t> stream);
  ~Borrowed();
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  // The first element. BufferError unless float32 aligned to 4 bytes; TypeError for another dtype.
  const float* float32() const;
  std::vector<std::int64_t> shape() const;
  std::vector<std::int64_t> strides() const;  // in elements
  // As a volume; TypeError unless float32 of rank 3.
  Volume volume() const;

 private:
  const dlpack::DLTensor* tensor_ = nullptr;
  dlpack::DLManagedTensor* managed_ = nullptr;
  dlpack::DLManagedTensorVersioned* versioned_ = nullptr;
};

// Where an object lies. TypeError where it does not know DLPack.
dlpack::DLDevice device_of(const py::object& producer);

}  // namespace mcubes
