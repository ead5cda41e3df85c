#include "work.cuh"

template __global__ void work<0>(float *, int);
template __global__ void work<1>(float *, int);
template __global__ void work<2>(float *, int);
template __global__ void work<3>(float *, int);
template __global__ void work<4>(float *, int);
template __global__ void work<5>(float *, int);
template __global__ void work<6>(float *, int);
template __global__ void work<7>(float *, int);
