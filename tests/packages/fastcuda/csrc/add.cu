#include <cuda_runtime.h>

__global__ void add_one(float* values, long count) {
  long index = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (index < count) values[index] += 1.0f;
}

extern "C" int fastcuda_add_one(float* values, long count) {
  float* device = nullptr;
  cudaError_t error = cudaMalloc(&device, count * sizeof(float));
  if (error == cudaSuccess) error = cudaMemcpy(device, values, count * sizeof(float), cudaMemcpyHostToDevice);
  if (error == cudaSuccess) add_one<<<(count + 255) / 256, 256>>>(device, count);
  if (error == cudaSuccess) error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaMemcpy(values, device, count * sizeof(float), cudaMemcpyDeviceToHost);
  cudaFree(device);
  return static_cast<int>(error);
}
