#include "scale.cuh"

template <typename T>
__global__ void scale(T* values, long count, T by) {
  const long step = static_cast<long>(gridDim.x) * blockDim.x;
  for (long index = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x; index < count; index += step)
    values[index] *= by;
}

template __global__ void scale<float>(float* values, long count, float by);
