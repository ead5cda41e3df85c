### nvcc-not-found cmake
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CUDA)\n' > CMakeLists.txt
unshare -m bash -c 'mount -t tmpfs none /usr/local && cmake -S . -B b'

### cuda-home-unset
printf 'from setuptools import setup\nfrom torch.utils.cpp_extension import CUDAExtension, BuildExtension\nsetup(name="x", ext_modules=[CUDAExtension("x", ["x.cu"])], cmdclass={"build_ext": BuildExtension})\n' > setup.py
touch x.cu
unshare -m bash -c 'mount -t tmpfs none /usr/local && PYTHONPATH=$TORCH "$PY" setup.py build_ext'

### torch-cuda-mismatch
fake_toolkit 11.8 > /dev/null
printf 'from setuptools import setup\nfrom torch.utils.cpp_extension import CUDAExtension, BuildExtension\nsetup(name="x", ext_modules=[CUDAExtension("x", ["x.cu"])], cmdclass={"build_ext": BuildExtension})\n' > setup.py
touch x.cu
CUDA_HOME=$PWD/fake TORCH_CUDA_ARCH_LIST=8.6 PYTHONPATH=$TORCH "$PY" setup.py build_ext

### torch-of-isolated-build
fake_toolkit 12.4 > /dev/null
printf 'from setuptools import setup\nfrom torch.utils.cpp_extension import CUDAExtension, BuildExtension\nsetup(name="x", ext_modules=[CUDAExtension("x", ["x.cu"])], cmdclass={"build_ext": BuildExtension})\n' > setup.py
touch x.cu
mkdir -p pip-build-env-1a2b3c/overlay/lib; ln -s "$TORCH" pip-build-env-1a2b3c/overlay/lib/site-packages
CUDA_HOME=$PWD/fake TORCH_CUDA_ARCH_LIST=8.6 PYTHONPATH=$PWD/pip-build-env-1a2b3c/overlay/lib/site-packages "$PY" setup.py build_ext

### empty-arch-list
printf 'from setuptools import setup\nfrom torch.utils.cpp_extension import CUDAExtension, BuildExtension\nsetup(name="x", ext_modules=[CUDAExtension("x", ["x.cu"])], cmdclass={"build_ext": BuildExtension})\n' > setup.py
touch x.cu
CUDA_HOME=$CUDA PYTHONPATH=$TORCH "$PY" setup.py build_ext

### unknown-cuda-arch
printf 'from setuptools import setup\nfrom torch.utils.cpp_extension import CUDAExtension, BuildExtension\nsetup(name="x", ext_modules=[CUDAExtension("x", ["x.cu"])], cmdclass={"build_ext": BuildExtension})\n' > setup.py
touch x.cu
CUDA_HOME=$CUDA TORCH_CUDA_ARCH_LIST=sm_86 PYTHONPATH=$TORCH "$PY" setup.py build_ext

### torch-cpu-only
# What a torch without CUDA lacks is taken away from one that has it.
PYTHONPATH=$TORCH "$PY" -c '
import torch
del torch._C._cuda_getDeviceCount
torch.zeros(1).cuda()'

### no-driver-library torch
PYTHONPATH=$TORCH "$PY" -c '
import torch
torch.zeros(1).cuda()'

### cxx-standard-torch
echo '#include <torch/all.h>' > x.cpp
g++ -std=c++14 -fsyntax-only -fmax-errors=4 -I "$TORCH/torch/include" -I "$TORCH/torch/include/torch/csrc/api/include" x.cpp

### missing-cuda-header torch
echo '#include <ATen/cuda/CUDAContext.h>' > x.cpp
g++ -std=c++17 -M -I "$TORCH/torch/include" -I /usr/local/cuda/include x.cpp

### torch-type-removed
printf '#include <ATen/ATen.h>\n#include <ATen/Dispatch.h>\nvoid f(at::Tensor x) { at::ScalarType kind = x.type(); (void)kind; }\n' > x.cpp
g++ -std=c++20 -fsyntax-only -w -I "$TORCH/torch/include" x.cpp

### caffe2-no-cuda
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CXX)\nfind_package(Torch REQUIRED)\n' > CMakeLists.txt
unshare -m bash -c 'mount -t tmpfs none /usr/local && cmake -DCMAKE_PREFIX_PATH=$TORCH/torch/share/cmake -S . -B b'

### cuda-compiler-broken
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CUDA)\n' > CMakeLists.txt
printf '#!/bin/sh\nexit 1\n' > nvcc; chmod +x nvcc
cmake -DCMAKE_CUDA_COMPILER="$PWD/nvcc" -S . -B b

### no-cuda-architecture
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CUDA)\n' > CMakeLists.txt
cmake -DCMAKE_CUDA_COMPILER="$CUDA/bin/nvcc" -DCMAKE_CUDA_ARCHITECTURES= -S . -B b

### unsupported-gpu-architecture
kernel
"$CUDA/bin/nvcc" -gencode arch=compute_70,code=sm_70 -c kernel.cu

### unsupported-gpu-architecture value
kernel
"$CUDA/bin/nvcc" -arch=sm_35 -c kernel.cu

### ptxas-version
printf '.version 99.0\n.target sm_80\n.address_size 64\n' > kernel.ptx
"$CUDA/bin/ptxas" kernel.ptx

### unknown-nvcc-option
kernel
"$CUDA/bin/nvcc" --static-example-stub=false -c kernel.cu

### unknown-nvcc-option host
kernel
"$CUDA/bin/nvcc" -fopenmp -c kernel.cu

### unknown-nvcc-standard
kernel
"$CUDA/bin/nvcc" -std=c++29 -c kernel.cu

### compiler-crashed nvcc
kernel; view; rm view/nvvm/bin/cicc; printf '#!/bin/sh\nkill -11 $$\n' > view/nvvm/bin/cicc; chmod +x view/nvvm/bin/cicc
view/bin/nvcc -arch=sm_80 -c kernel.cu

### killed nvcc
kernel; view; rm view/nvvm/bin/cicc; printf '#!/bin/sh\nkill -9 $$\n' > view/nvvm/bin/cicc; chmod +x view/nvvm/bin/cicc
view/bin/nvcc -arch=sm_80 -c kernel.cu

### tool-cannot-start
kernel; view; rm view/bin/ptxas
PATH=/usr/bin:/bin view/bin/nvcc -arch=sm_80 -c kernel.cu

### unsupported-host-compiler nvcc
kernel
printf '#!/bin/sh\nexec g++ -U__GNUC__ -D__GNUC__=99 "$@"\n' > g++-99; chmod +x g++-99
"$CUDA/bin/nvcc" -ccbin "$PWD/g++-99" -arch=sm_80 -c kernel.cu

### host-compiler-out-of-range
printf '#include <crt/host_config.h>\n' > x.cpp
g++ -w -D__clang__ -D__clang_major__=99 -D__clang_minor__=1 -D__CUDACC__ -I"$CUDA/include" -c x.cpp

### thrust-includes
printf '#include <thrust/copy.h>\nvoid f() { thrust::device_vector<int> v(3); }\n' > x.cu
"$CUDA/bin/nvcc" -arch=sm_80 -c x.cu

### atomic-add-type
printf '__global__ void f(long double* x, bool* y) { atomicAdd(y, true); }\n' > x.cu
"$CUDA/bin/nvcc" -arch=sm_80 -c x.cu

### lerp-clash nvcc
printf '#include <cmath>\nfloat lerp(float a, float b, float t) { return a + t * (b - a); }\nfloat f(float a) { using namespace std; return lerp(a, a, a); }\n' > x.cu
"$CUDA/bin/nvcc" -std=c++20 -arch=sm_80 -c x.cu

### missing-std-include nvcc
printf '__global__ void f(float* x) { *x = FLT_MAX; }\n' > x.cu
"$CUDA/bin/nvcc" -arch=sm_80 -c x.cu

### missing-header nvcc
printf '#include "utils/pulse.cuh"\n' > x.cu
"$CUDA/bin/nvcc" -arch=sm_80 -c x.cu

### kernel-stub-hidden
printf 'template <typename T> __global__ void fill(T* x);\nvoid f(float* x) { fill<float><<<1, 1>>>(x); }\nint main() { f(nullptr); }\n' > use.cu
printf 'template <typename T> __global__ void fill(T* x) { *x = T(1); }\ntemplate __global__ void fill<float>(float*);\n' > define.cu
"$CUDA/bin/nvcc" -arch=sm_80 -o program use.cu define.cu

### driver-too-old
printf '#include <cstdio>\nint main() { int n; std::fprintf(stderr, "CUDA error: %%s\\n", cudaGetErrorString(cudaGetDeviceCount(&n))); }\n' > x.cu
"$CUDA/bin/nvcc" -arch=sm_80 -cudart static -o program x.cu && ./program
