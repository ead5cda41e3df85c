// The CUDA part as the binding sees it: no CUDA header is needed. Without a toolkit these functions are those of
// no_cuda.cpp, which refuse. Every failing CUDA call throws std::runtime_error with file, line, name and message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "mesh.hpp"

namespace mcubes::cuda {

// Whether the module was compiled with CUDA.
extern const bool compiled;

// The compute capabilities that the kernels were compiled for, "8.6;12.0"; "" without CUDA.
std::string targets();

// How many devices there are; 0 without CUDA, driver or GPU.
int device_count() noexcept;

// A stream of its own, for one call.
class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int device() const { return device_; }
  std::uintptr_t handle() const { return handle_; }

 private:
  int device_;
  std::uintptr_t handle_ = 0;
};

// Memory on the stream's device, not initialised, for use on that stream, and on any after it was waited for. It is
// returned when the last owner goes, after all that is queued on the device then.
std::shared_ptr<void> memory(std::size_t bytes, const Stream& stream);

// These return when the copy is complete.
void copy_to_host(void* host, const void* on_device, std::size_t bytes, const Stream& stream);
void copy_to_device(void* on_device, const void* host, std::size_t bytes, const Stream& stream);

// Classifies and counts when it is made (one pass over the volume), writes the mesh into memory of that size then.
class Mesher {
 public:
  // The volume lies on the stream's device; stream and volume must outlive this.
  Mesher(const Volume& volume, float isovalue, const Stream& stream);
  // Returns only when the device is done with the volume, also after an error.
  ~Mesher();
  Mesher(const Mesher&) = delete;
  Mesher& operator=(const Mesher&) = delete;

  Counts counts() const;

  // vertices[3 * counts().vertices], triangles[3 * counts().triangles], on the device; Index is int32_t or int64_t.
  // The mesh is complete when this returns.
  template <typename Index>
  void write(const Frame& frame, float* vertices, Index* triangles) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mcubes::cuda
