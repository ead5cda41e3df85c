#include "work.cuh"

template __global__ void work<16>(float *, int);
template __global__ void work<17>(float *, int);
template __global__ void work<18>(float *, int);
template __global__ void work<19>(float *, int);
template __global__ void work<20>(float *, int);
template __global__ void work<21>(float *, int);
template __global__ void work<22>(float *, int);
template __global__ void work<23>(float *, int);
