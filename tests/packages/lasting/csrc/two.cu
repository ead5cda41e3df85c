#include "work.cuh"

template __global__ void work<8>(float *, int);
template __global__ void work<9>(float *, int);
template __global__ void work<10>(float *, int);
template __global__ void work<11>(float *, int);
template __global__ void work<12>(float *, int);
template __global__ void work<13>(float *, int);
template __global__ void work<14>(float *, int);
template __global__ void work<15>(float *, int);
