// Every CUDA runtime call goes through one of these macros, and every launch is followed by CUDA_CHECK_LAUNCH().
#pragma once

#include <cuda_runtime_api.h>

#include <cassert>
#include <cstring>
#include <stdexcept>
#include <string>

namespace mcubes::cuda {

// "cuda.cu:42: cudaErrorMemoryAllocation: out of memory (cudaMalloc(&p, bytes))"
inline std::string describe(cudaError_t status, const char* call, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  return std::string(slash != nullptr ? slash + 1 : file) + ":" + std::to_string(line) + ": " +
         cudaGetErrorName(status) + ": " + cudaGetErrorString(status) + " (" + call + ")";
}

inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next launch check would report this error once more
  throw std::runtime_error(describe(status, call, file, line));
}

// For destructors: there is nobody to tell. At exit the driver may have gone before us.
inline void check_nothrow(cudaError_t status) noexcept {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  assert(status == cudaErrorCudartUnloading);
}

}  // namespace mcubes::cuda

#define CUDA_CHECK(call) ::mcubes::cuda::check((call), #call, __FILE__, __LINE__)
#define CUDA_CHECK_NOTHROW(call) ::mcubes::cuda::check_nothrow(call)
#define CUDA_CHECK_LAUNCH() ::mcubes::cuda::check(cudaGetLastError(), "launch", __FILE__, __LINE__)
