#pragma once

// The trap: defined and instantiated in one file, launched from another. Since CUDA 13 each file has its own.
template <typename T>
__global__ void scale(T* values, long count, T by);
