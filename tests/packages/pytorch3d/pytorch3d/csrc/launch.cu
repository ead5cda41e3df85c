#include "scale.cuh"

__global__ void touch(float* value) { *value += 1.0f; }

int launch_scale(float* values, long count, float by) {
  if (count > 0) {
    scale<float><<<64, 128>>>(values, count, by);
    touch<<<1, 1>>>(values);
  }
  return static_cast<int>(cudaGetLastError());
}
