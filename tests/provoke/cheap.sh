### out-of-memory
printf '#include <iostream>\n#include <map>\n#include <regex>\n' > big.cpp
(ulimit -v 90000; g++ -c big.cpp)

### out-of-memory killed
end_compiler KILL

### killed
cat > build.sh <<'S'
echo "[1/3] compiling"
bash -c 'kill -9 $$'
echo "build step returned $?"
S
bash build.sh

### killed python
"$PY" -c "import subprocess; subprocess.run(['bash', '-c', 'kill -9 \$\$'], check=True)"

### killed make
printf 'x.o:\n\tkill -9 $$$$\n' > Makefile
make

### cannot-fork
as_nobody bash -c 'ulimit -u 0; /bin/ls / & wait' &
sleep 1; kill $!

### cannot-fork memory
strace -f -o /dev/null -e inject=clone,clone3,vfork,fork:error=ENOMEM dash -c '/bin/ls /; true'

### cannot-fork python
as_nobody /usr/bin/python3 -c "
import resource, subprocess
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
subprocess.run(['ls'])"

### timeout
timeout -v 0.1 sleep 5

### disk-full
hello
on_disk size=4k "head -c 4096 /dev/zero > disk/full; g++ -c -o disk/x.o hello.cpp"

### disk-full python
on_disk size=4k "$PY -c \"open('disk/x', 'wb', 0).write(bytes(9999)); open('disk/y', 'wb', 0).write(bytes(9999))\""

### read-only-file-system
hello
on_disk ro,size=4k "g++ -c -o disk/x.o hello.cpp"

### noexec
echo 'int f(void) { return 1; }' > x.c
gcc -shared -fPIC -o x.so x.c
on_disk noexec,size=1m "cp x.so disk; $PY -c 'import ctypes; ctypes.CDLL(\"./disk/x.so\")'"

### noexec-program
unshare -m bash -c "mount -t tmpfs -o noexec none /var/tmp && mkdir /var/tmp/pip-build && printf '#!/bin/sh\necho checking\n' > /var/tmp/pip-build/configure && chmod 755 /var/tmp/pip-build/configure && dash -c /var/tmp/pip-build/configure"

### permission-denied
as_nobody /usr/bin/python3 -c "
import pathlib
pathlib.Path('/usr/local/lib/python3.11/dist-packages/example').mkdir()"

### too-many-open-files
as_nobody /usr/bin/python3 -c "
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))
[open('/dev/null') for _ in range(20)]"

### argument-list-too-long
bash -c 'g++ -shared -o x.so $(printf "/build/a/long/path/of/an/object/file/number%s.o " $(seq 60000))'

### file-name-too-long
hello
g++ -c -o "$(printf 'a%.0s' {1..300}).o" hello.cpp

### glibc-too-old
echo 'GLIBC_2.99 { global: newer; };' > map
echo 'void newer(void) {}' | gcc -shared -fPIC -o libm.so.6 -x c - -Wl,--version-script=map -Wl,-soname,libm.so.6
echo 'void newer(void); void PyInit_x(void) { newer(); }' | import_object x ./libm.so.6

### glibcxx-too-old
echo 'GLIBCXX_3.4.99 { global: newer; };' > map
echo 'void newer(void) {}' | gcc -shared -fPIC -o libstdc++.so.6 -x c - -Wl,--version-script=map -Wl,-soname,libstdc++.so.6
echo 'void newer(void); void PyInit_x(void) { newer(); }' | import_object x ./libstdc++.so.6

### nvcc-not-found
PATH=/usr/bin:/bin
dash -c 'nvcc --version'

### nvcc-not-found python
cat > setup.py <<'S'
import subprocess
subprocess.check_output(["/usr/local/no-cuda/bin/nvcc", "-V"])
S
"$PY" setup.py

### cuda-home-none
cat > setup.py <<'S'
import os
CUDA_HOME = os.environ.get("CUDA_HOME")
nvcc = os.path.join(CUDA_HOME, "bin", "nvcc")
S
"$PY" setup.py bdist_wheel

### missing-cuda-header
echo '#include <cusparse.h>' > x.cpp
g++ -c x.cpp

### missing-cudnn
echo '#include <cudnn.h>' > x.cpp
g++ -c x.cpp

### missing-nvtx
project . <<'S'
cmake_minimum_required(VERSION 3.18)
project(example CXX)
add_library(torch::nvtoolsext INTERFACE IMPORTED)
set_property(TARGET torch::nvtoolsext PROPERTY INTERFACE_LINK_LIBRARIES CUDA::nvToolsExt)
file(WRITE x.cpp "int x;")
add_library(example SHARED x.cpp)
target_link_libraries(example PRIVATE torch::nvtoolsext)
S
cmake -DCMAKE_CXX_COMPILER_WORKS=1 -S . -B b

### missing-nvtx linker
hello
g++ hello.cpp -lnvToolsExt

### unsupported-host-compiler
# nvcc asks the host compiler by this header.
echo '#include <crt/host_config.h>' > x.cpp
g++ -U__GNUC__ -D__GNUC__=99 -D__NVCC__ -D__CUDACC__ -I /usr/local/cuda/include -fsyntax-only x.cpp

### no-cxx-compiler
hello
PATH=/nowhere /bin/dash -c 'g++ -c hello.cpp'

### no-cxx-compiler cmake
hello
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CXX)\n' > CMakeLists.txt
mkdir bin; ln -s /usr/bin/make /usr/bin/cmake bin
PATH=$PWD/bin cmake -S . -B b

### cxx-standard-library
echo '#include <cstdint>' > x.cpp
g++ -std=c++98 -c x.cpp

### unknown-cxx-standard
hello
g++ -std=c++29 -c hello.cpp

### lerp-clash
printf '#include <math.h>\nfloat lerp(float a, float b, float t) { return a + t * (b - a); }\n' > x.cpp
g++ -std=c++20 -c x.cpp

### lerp-clash ambiguous
printf '#include <cmath>\nusing namespace std;\nfloat lerp(float a, float b, float t);\nfloat f(float a) { return lerp(a, a, a); }\n' > x.cpp
g++ -std=c++20 -c x.cpp

### missing-std-include
printf 'struct Header { std::uint32_t size; };\nuint64_t f();\n' > x.cpp
g++ -c x.cpp

### missing-std-include fstream
printf '#include <iosfwd>\nvoid f() { std::ofstream file("x"); }\n' > x.cpp
g++ -c x.cpp

### torch-headers-removed
echo '#include <THC/THC.h>' > x.cpp
g++ -c x.cpp

### python-headers
echo '#include <Python.h>' > module.cpp
g++ -c module.cpp

### missing-submodule
echo '#include <glm/glm.hpp>' > x.cpp
g++ -c x.cpp

### empty-submodule
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example NONE)\nadd_subdirectory(third_party/example)\n' > CMakeLists.txt
mkdir -p third_party/example
cmake -S . -B b

### missing-system-header
echo '#include <Eigen/Dense>' > x.cpp
g++ -c x.cpp

### missing-header
echo '#include "generated/version.h"' > x.cpp
g++ -c x.cpp

### compiler-crashed
end_compiler SEGV

### old-abi-at-link
printf '#include <string>\nnamespace c10 { void fail(const char*, std::string); }\nint main() { c10::fail("", ""); }\n' > x.cpp
g++ x.cpp

### torch-not-linked
printf 'namespace c10 { namespace cuda { int current_device(); void set_device(int); } }\nint main() { c10::cuda::set_device(c10::cuda::current_device()); }\n' > x.cpp
g++ x.cpp

### library-not-named
echo 'int g() { return 1; }' | gcc -shared -fPIC -o libinner.so -x c -
echo 'int g(); int f() { return g(); }' | gcc -shared -fPIC -o libouter.so -x c - -x none -L. -linner
echo 'int f(); int g(); int main() { return f() + g(); }' | gcc -x c - -x none -L. -Wl,-rpath-link=. -louter

### header-of-python-package
echo '#include <pybind11/pybind11.h>' > x.cpp
g++ -c x.cpp

### header-of-python-package numpy
echo '#include <numpy/arrayobject.h>' > x.cpp
g++ -c x.cpp

### build-module-missing generator
printf 'import jinja2\n' > generate.py
printf 'rule gen\n  command = %s -I generate.py\nbuild kernels.cu: gen\n' "$PY" > build.ninja
ninja

### missing-library
hello
g++ hello.cpp -lopenblas-example

### missing-cuda-library
hello
g++ hello.cpp -lcuda

### relocation-overflow
printf 'char a[3000000000u], b[3000000000u];\nint main() { return a[1] + b[1]; }\n' > x.c
gcc -mcmodel=small -O1 x.c

### not-position-independent
echo 'int x = 1; int f() { return x; }' > x.c
gcc -fno-pic -mcmodel=small -c x.c
ar rc libx.a x.o
gcc -shared -o y.so -Wl,--whole-archive libx.a

### torch-missing
/usr/bin/python3 -I -c 'import torch'

### torch-cmake-not-found
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example NONE)\nfind_package(Torch REQUIRED)\n' > CMakeLists.txt
cmake -S . -B b

### undefined-torch-symbol
echo 'void _ZN3c105ErrorC2ENS_14SourceLocationESs(void); void PyInit_x(void) { _ZN3c105ErrorC2ENS_14SourceLocationESs(); }' | import_object x

### undefined-cuda-symbol
echo 'void __nvJitLinkComplete_12_4(void); void PyInit_x(void) { __nvJitLinkComplete_12_4(); }' | import_object x

### undefined-symbol
echo 'void example_forward(void); void PyInit_x(void) { example_forward(); }' | import_object x

### missing-cudart
echo 'int f(void) { return 1; }' | gcc -shared -fPIC -o libcudart.so.11.0 -x c - -Wl,-soname,libcudart.so.11.0
echo 'int f(void); int PyInit_x(void) { return f(); }' | gcc -shared -fPIC -o x.so -x c - -x none ./libcudart.so.11.0
rm libcudart.so.11.0
"$PY" -c "import sys; sys.path.insert(0, '.'); import x"

### import-torch-first
echo 'int f(void) { return 1; }' | gcc -shared -fPIC -o libc10.so -x c - -Wl,-soname,libc10.so
echo 'int f(void); int PyInit_x(void) { return f(); }' | gcc -shared -fPIC -o x.so -x c - -x none ./libc10.so
rm libc10.so
"$PY" -c "import sys; sys.path.insert(0, '.'); import x"

### missing-shared-library
echo 'int f(void) { return 1; }' | gcc -shared -fPIC -o libGLexample.so.1 -x c - -Wl,-soname,libGLexample.so.1
echo 'int f(void); int PyInit_x(void) { return f(); }' | gcc -shared -fPIC -o x.so -x c - -x none ./libGLexample.so.1
rm libGLexample.so.1
"$PY" -c "import sys; sys.path.insert(0, '.'); import x"

### no-driver-library
"$PY" -c 'import ctypes; ctypes.CDLL("libcuda.so.1")'

### pkg-resources
echo 'from pkg_resources import packaging, parse_version' > setup.py
"$PY" -I -S setup.py egg_info

### wrong-architecture
head -c 4096 /bin/ls | sed 's/\x3e\x00/\xb7\x00/' > program
chmod +x program
./program

### module-not-installed
cat > train.py <<'S'
import os
import trimesh
S
"$PY" -I train.py

### rust-missing
dash -c 'cargo build --release'

### index-unreachable
git ls-remote http://127.0.0.1:9/example.git

### index-unreachable name
git clone https://index.invalid/example.git

### git-not-found
printf 'git clone https://github.com/example/example\n' > fetch.sh
PATH=/nowhere /bin/dash -x fetch.sh

### submodule-failed
git init -q part; git -C part -c user.name=x -c user.email=x@index.example commit -q --allow-empty -m part
git init -q whole
git -C whole -c protocol.file.allow=always submodule --quiet add "$PWD/part" part
git -C whole -c user.name=x -c user.email=x@index.example commit -q -m whole
rm -rf part
git clone -q --recursive whole copy

### commit-missing
git init -q source; git -C source -c user.name=x -c user.email=x@index.example commit -q --allow-empty -m one
git -C source checkout 879926d0ef58e6ce0ac2630fdecb5e53af7ed3ff

### commit-missing fetch
git init -q source; git -C source -c user.name=x -c user.email=x@index.example commit -q --allow-empty -m one
git init -q copy
git -C copy fetch "$PWD/source" 879926d0ef58e6ce0ac2630fdecb5e53af7ed3ff

### commit-missing branch
git init -q source; git -C source -c user.name=x -c user.email=x@index.example commit -q --allow-empty -m one
git clone -b v9.9 source copy

### repository-missing
git clone "$PWD/nothing" copy

### patch-failed
printf 'one\ntwo\nthree\n' > a.cpp
printf -- '--- a/a.cpp\n+++ b/a.cpp\n@@ -1,3 +1,3 @@\n eins\n-zwei\n+deux\n drei\n' > lerp.patch
git apply lerp.patch

### patch-failed patch
printf 'one\ntwo\nthree\n' > a.cpp
printf -- '--- a/a.cpp\n+++ b/a.cpp\n@@ -1,3 +1,3 @@\n eins\n-zwei\n+deux\n drei\n' > lerp.patch
patch -p1 --no-backup-if-mismatch < lerp.patch

### ninja-missing
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example CXX)\n' > CMakeLists.txt
mkdir bin; ln -s /usr/bin/cmake /usr/bin/g++ bin
PATH=$PWD/bin cmake -G Ninja -S . -B b

### cmake-missing
PATH=/nowhere /bin/dash -c 'cmake -S . -B build'

### cmake-too-old
printf 'cmake_minimum_required(VERSION 99.1)\nproject(example NONE)\n' > CMakeLists.txt
cmake -S . -B b

### cmake-package-missing
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example NONE)\nfind_package(pybind11 REQUIRED)\n' > CMakeLists.txt
cmake -S . -B b

### cuda-toolkit-not-found
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example NONE)\nfind_package(CUDAToolkit REQUIRED)\n' > CMakeLists.txt
mkdir bin; ln -s /usr/bin/cmake bin
unshare -m bash -c 'mount -t tmpfs none /usr/local && PATH=$PWD/bin /usr/bin/cmake -DCMAKE_MAKE_PROGRAM=/bin/true -S . -B b'

### stale-cmake-cache
printf 'cmake_minimum_required(VERSION 3.18)\nproject(example NONE)\n' > CMakeLists.txt
cmake -S . -B b > /dev/null; mkdir other; cp -r CMakeLists.txt b other
cmake -S other -B other/b

### host-tool-cannot-start
hello
GCC_EXEC_PREFIX=/nowhere/ g++ -B/nowhere -c hello.cpp

### library-damaged
hello
echo 'int f() { return 1; }' | gcc -shared -fPIC -o whole.so -x c -
head -c 2000 whole.so > libcudart.so
g++ hello.cpp ./libcudart.so
