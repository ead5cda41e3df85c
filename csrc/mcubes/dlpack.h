// The part of the DLPack ABI that is used here: versions 0.x (DLManagedTensor) and 1.x (DLManagedTensorVersioned).
// Names and layout are those of dmlc/dlpack include/dlpack/dlpack.h; they are in a namespace so that another copy of
// that header does not clash.
#pragma once

#include <cstdint>

namespace mcubes::dlpack {

inline constexpr std::int32_t kDLCPU = 1;
inline constexpr std::int32_t kDLCUDA = 2;

inline constexpr std::uint8_t kDLInt = 0;
inline constexpr std::uint8_t kDLFloat = 2;

inline constexpr std::uint32_t kMajorVersion = 1;
inline constexpr std::uint32_t kMinorVersion = 0;

struct DLDevice {
  std::int32_t device_type;
  std::int32_t device_id;
};

struct DLDataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

// A strided array. `strides` counts elements, and null means C order; `byte_offset` is added to `data`.
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

// In a capsule named "dltensor"; whoever takes it renames it to "used_dltensor" and calls the deleter once.
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};

struct DLPackVersion {
  std::uint32_t major;
  std::uint32_t minor;
};

// In a capsule named "dltensor_versioned", taken as "used_dltensor_versioned".
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  std::uint64_t flags;
  DLTensor dl_tensor;
};

}  // namespace mcubes::dlpack
