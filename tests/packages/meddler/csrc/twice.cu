__global__ void twice(float* values, long count) {
  long index = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (index < count) values[index] *= 2.0f;
}

extern "C" void meddler_twice(float* values, long count) { twice<<<(count + 255) / 256, 256>>>(values, count); }
