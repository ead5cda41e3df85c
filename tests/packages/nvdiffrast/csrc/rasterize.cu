#include <cuda_runtime.h>

__global__ void cover(float* image, long pixels) {
  const long step = static_cast<long>(gridDim.x) * blockDim.x;
  for (long pixel = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x; pixel < pixels; pixel += step)
    image[pixel] = 1.0f;
}

int rasterize_cover(float* image, long pixels) {
  if (pixels > 0) cover<<<64, 128>>>(image, pixels);
  return static_cast<int>(cudaGetLastError());
}
