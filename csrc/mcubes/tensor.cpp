#include "tensor.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace mcubes {

using namespace dlpack;

namespace {

constexpr char kName[] = "dltensor";
constexpr char kUsedName[] = "used_dltensor";
constexpr char kVersionedName[] = "dltensor_versioned";
constexpr char kUsedVersionedName[] = "used_dltensor_versioned";

std::size_t item_size(Dtype dtype) { return dtype == Dtype::int64 ? 8 : 4; }

DLDataType dl_dtype(Dtype dtype) {
  return {dtype == Dtype::float32 ? kDLFloat : kDLInt, static_cast<std::uint8_t>(8 * item_size(dtype)), 1};
}

// "float64", "uint8x4": as people write it.
std::string describe(const DLDataType& dtype) {
  static const char* const names[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  std::string name = dtype.code < 7 ? names[dtype.code] : "type code " + std::to_string(dtype.code) + " of bits ";
  name += std::to_string(dtype.bits);
  return dtype.lanes == 1 ? name : name + "x" + std::to_string(dtype.lanes);
}

// Keeps the array alive while a consumer has it; Managed is one of DLPack's two structs.
template <typename Managed>
struct Loan {
  Managed managed;
  Array array;
  std::vector<std::int64_t> strides;

  explicit Loan(const Array& source) : managed(), array(source), strides(source.shape.size(), 1) {
    for (std::size_t d = strides.size(); d-- > 1;) strides[d - 1] = strides[d] * array.shape[d];
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) { delete static_cast<Loan*>(self->manager_ctx); };
    managed.dl_tensor = {array.data.get(), array.device, static_cast<std::int32_t>(array.shape.size()),
                         dl_dtype(array.dtype), array.shape.data(), strides.data(), 0};
  }
};

// A capsule that nobody took is ours to delete.
template <typename Managed, const char* Name>
void destroy(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, Name) == 0) return;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Name));
  managed->deleter(managed);
}

template <typename Managed, const char* Name>
py::capsule capsule_of(std::unique_ptr<Loan<Managed>> loan) {
  PyObject* capsule = PyCapsule_New(&loan->managed, Name, &destroy<Managed, Name>);
  if (capsule == nullptr) throw py::error_already_set();
  loan.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

py::object ask(const py::object& producer, std::optional<std::uintptr_t> stream) {
  const py::object method = producer.attr("__dlpack__");
  py::dict arguments;
  if (stream) arguments["stream"] = *stream;
  try {
    return method(**arguments, py::arg("max_version") = py::make_tuple(kMajorVersion, kMinorVersion));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method(**arguments);  // a producer from before DLPack 1.0 does not know max_version
}

void require_dlpack(const py::object& producer) {
  if (!py::hasattr(producer, "__dlpack__") || !py::hasattr(producer, "__dlpack_device__"))
    throw py::type_error("an array with __dlpack__ is needed (NumPy, torch, CuPy), got " +
                         std::string(Py_TYPE(producer.ptr())->tp_name));
}

std::shared_ptr<void> host_memory(std::size_t bytes) {
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, std::free};
}

}  // namespace

std::string name_of(Dtype dtype) { return describe(dl_dtype(dtype)); }

std::size_t Array::bytes() const {
  std::size_t bytes = item_size(dtype);
  for (const std::int64_t length : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(length), &bytes)) throw std::bad_alloc();
  return bytes;
}

Array Array::on_host(std::vector<std::int64_t> shape, Dtype dtype) {
  Array array{nullptr, std::move(shape), dtype, {kDLCPU, 0}};
  array.data = host_memory(std::max<std::size_t>(array.bytes(), 1));
  return array;
}

Array Array::on_device(std::vector<std::int64_t> shape, Dtype dtype, const cuda::Stream& stream) {
  Array array{nullptr, std::move(shape), dtype, {kDLCUDA, stream.device()}};
  array.data = cuda::memory(std::max<std::size_t>(array.bytes(), 1), stream);
  return array;
}

py::capsule lend(const Array& array, bool versioned) {
  if (!versioned) return capsule_of<DLManagedTensor, kName>(std::make_unique<Loan<DLManagedTensor>>(array));
  auto loan = std::make_unique<Loan<DLManagedTensorVersioned>>(array);
  loan->managed.version = {kMajorVersion, kMinorVersion};
  return capsule_of<DLManagedTensorVersioned, kVersionedName>(std::move(loan));
}

DLDevice device_of(const py::object& producer) {
  require_dlpack(producer);
  const py::tuple device = producer.attr("__dlpack_device__")();
  return {py::int_(device[0]).cast<std::int32_t>(), py::int_(device[1]).cast<std::int32_t>()};
}

Borrowed::Borrowed(const py::object& producer, std::optional<std::uintptr_t> stream) {
  require_dlpack(producer);
  const py::object capsule = ask(producer, stream);
  if (PyCapsule_IsValid(capsule.ptr(), kVersionedName) != 0) {
    versioned_ = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), kVersionedName));
    PyCapsule_SetName(capsule.ptr(), kUsedVersionedName);
    tensor_ = &versioned_->dl_tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), kName) != 0) {
    managed_ = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kName));
    PyCapsule_SetName(capsule.ptr(), kUsedName);
    tensor_ = &managed_->dl_tensor;
  } else {
    throw py::type_error("__dlpack__ returned no DLPack capsule");
  }
}

Borrowed::~Borrowed() {
  if (versioned_ != nullptr && versioned_->deleter != nullptr) versioned_->deleter(versioned_);
  if (managed_ != nullptr && managed_->deleter != nullptr) managed_->deleter(managed_);
}

const float* Borrowed::float32() const {
  if (versioned_ != nullptr && versioned_->version.major != kMajorVersion)
    throw py::buffer_error("DLPack version " + std::to_string(versioned_->version.major) + " is not supported");
  const DLDataType& dtype = tensor_->dtype;
  if (dtype.code != kDLFloat || dtype.bits != 32 || dtype.lanes != 1)
    throw py::type_error("float32 is needed, got " + describe(dtype));
  const auto address = reinterpret_cast<std::uintptr_t>(tensor_->data) + tensor_->byte_offset;
  if (address % alignof(float) != 0) throw py::buffer_error("the array is not aligned to 4 bytes");
  return reinterpret_cast<const float*>(address);
}

std::vector<std::int64_t> Borrowed::shape() const { return {tensor_->shape, tensor_->shape + tensor_->ndim}; }

std::vector<std::int64_t> Borrowed::strides() const {
  if (tensor_->strides != nullptr) return {tensor_->strides, tensor_->strides + tensor_->ndim};
  std::vector<std::int64_t> strides(static_cast<std::size_t>(tensor_->ndim), 1);
  for (std::size_t d = strides.size(); d-- > 1;) strides[d - 1] = strides[d] * tensor_->shape[d];
  return strides;
}

Volume Borrowed::volume() const {
  const float* data = float32();
  if (tensor_->ndim != 3)
    throw py::type_error("a volume has rank 3, [nx, ny, nz]; this array has rank " + std::to_string(tensor_->ndim));
  const auto size = shape(), stride = strides();
  return {data, {size[0], size[1], size[2]}, {stride[0], stride[1], stride[2]}};
}

}  // namespace mcubes
