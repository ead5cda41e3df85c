// The trap: since C++20 <math.h> brings std::lerp into the global namespace, and this is there already.
#pragma once

#include <math.h>

#ifdef __CUDACC__
#define EVERYWHERE __host__ __device__
#else
#define EVERYWHERE
#endif

EVERYWHERE inline float lerp(float a, float b, float t) { return a + t * (b - a); }

struct Point {
  float x, y, z;
};

EVERYWHERE inline Point lerp (Point a, Point b, float t) {
  return {lerp(a.x, b.x, t), lerp(a.y, b.y, t), lerp(a.z, b.z, t)};
}
