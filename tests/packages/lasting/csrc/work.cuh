// Kernels that are long when unrolled: cicc takes seconds for them, and so does ptxas.
template <int First> __global__ void work(float *values, int stride)
{
    constexpr int count = 48;
    float v[count];
#pragma unroll
    for (int i = 0; i < count; ++i)
        v[i] = values[i * stride + threadIdx.x];
#pragma unroll
    for (int round = 0; round < 24; ++round)
#pragma unroll
        for (int i = 0; i < count; ++i)
            v[i] = v[(i * 7 + round + First) % count] * v[(i * 5 + 3 * round) % count] + (round % 3 ? v[i] : __sinf(v[i]));
#pragma unroll
    for (int i = 0; i < count; ++i)
        values[i * stride + threadIdx.x] = v[i];
}
