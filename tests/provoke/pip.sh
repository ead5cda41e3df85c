### externally-managed-environment
/usr/bin/python3 -m pip install --no-index example

### pinned-then-upgraded
wheel hub 0.17.3; wheel hub 1.0.1; wheel models 4.34.1 'Requires-Dist: hub<1.0,>=0.16'
venv
pip install -q --no-index --find-links . models
pip install --no-index --find-links . 'hub>=1.0'

### dependency-conflict
wheel one 1.0 'Requires-Dist: shared<2'; wheel two 1.0 'Requires-Dist: shared>=2'; wheel shared 1.5; wheel shared 2.5
venv
pip install --no-index --find-links . one two

### dependency-conflict uv
wheel one 1.0 'Requires-Dist: shared<2'; wheel two 1.0 'Requires-Dist: shared>=2'; wheel shared 1.5; wheel shared 2.5
venv
uv pip install --no-cache --python v/bin/python --no-index --find-links . one two

### no-matching-distribution
venv
pip install --no-index --find-links . 'example==3.1'

### no-matching-distribution uv
venv
uv pip install --no-cache --python v/bin/python --no-index --find-links . 'example==3.1'

### wrong-python
wheel example 1.0 'Requires-Python: <3.8,>=3.6'
venv
pip install --no-index ./example-1.0-py3-none-any.whl

### wheel-not-for-here
wheel example 1.0; mv example-1.0-py3-none-any.whl example-1.0-cp27-cp27m-win32.whl
venv
pip install --no-index ./example-1.0-cp27-cp27m-win32.whl

### backend-missing
package ''
venv
pip install --no-build-isolation ./p

### torch-missing-in-isolated-build
package 'from torch.utils.cpp_extension import BuildExtension'
venv
pip install ./p

### torch-missing-in-isolated-build uv
package 'from torch.utils.cpp_extension import BuildExtension'
venv
uv pip install --no-cache --python v/bin/python ./p

### build-module-missing
package 'import numpy'
venv
pip install ./p

### build-module-missing cython
package 'from Cython.Build import cythonize'
venv
pip install ./p

### unknown-0-0-0
mkdir -p p/example; touch p/example/__init__.py
printf '[build-system]\nrequires = ["setuptools==58.5.3", "wheel"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "example"\nversion = "1.2"\n' > p/pyproject.toml
venv
pip install ./p

### wheel-missing
package ''
venv
pip install -q setuptools==58.5.3
cd p; ../v/bin/python setup.py bdist_wheel

### setuptools-packaging-clash
package ''
venv
pip install -q setuptools==71.0.0 packaging==21.3 wheel
cd p; ../v/bin/python setup.py bdist_wheel

### pkg-resources setuptools82
package 'import pkg_resources'
venv
pip install ./p

### no-wheel-metadata
mkdir p
printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "example"\nversion = 1\n' > p/pyproject.toml
venv
pip install ./p

### cannot-uninstall
wheel example 2.0
venv
info=$(echo v/lib/python3*/site-packages)/example-1.0.dist-info; mkdir "$info"
printf 'Metadata-Version: 2.1\nName: example\nVersion: 1.0\n' > "$info/METADATA"
pip install --no-index --find-links . --upgrade example

### index-unreachable pip
venv
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
PIP_RETRIES=1 PIP_CONFIG_FILE=/dev/null pip install --index-url http://127.0.0.1:9/simple example

### index-unreachable uv
venv
uv pip install --no-config --no-cache --python v/bin/python --default-index http://127.0.0.1:9/simple example

### tls
certificate; serve 404 both.pem
venv
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
PIP_RETRIES=1 PIP_CONFIG_FILE=/dev/null pip install --index-url "https://127.0.0.1:$port/simple" example

### tls git
certificate; serve 404 both.pem
git clone "https://127.0.0.1:$port/example.git"

### tls uv
certificate; serve 404 both.pem
venv
uv pip install --no-config --no-cache --python v/bin/python --default-index "https://127.0.0.1:$port/simple" example

### proxy-or-login
serve 403
git clone "http://127.0.0.1:$port/example.git"

### proxy-or-login pip
serve 407
venv
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
PIP_RETRIES=1 PIP_CONFIG_FILE=/dev/null https_proxy="http://127.0.0.1:$port" pip install --index-url https://index.invalid/simple example

### hash-mismatch
wheel example 1.0
printf 'example==1.0 --hash=sha256:%064d\n' 1 > requirements.txt
venv
pip install --no-index --find-links . --require-hashes -r requirements.txt

### not-a-project
mkdir p
venv
pip install ./p

### git-not-found pip
venv
mkdir bin; ln -s /bin/sh bin
PATH=$PWD/bin pip install 'git+https://github.com/example/example'

### cmake-policy
venv; pip install -q 'cmake>=4,<5' ninja
printf 'cmake_minimum_required(VERSION 3.1)\nproject(example NONE)\n' > CMakeLists.txt
v/bin/cmake -S . -B b

### findcuda-removed
venv; pip install -q 'cmake>=4,<5' ninja
printf 'cmake_minimum_required(VERSION 3.27)\nproject(example NONE)\nfind_package(CUDA REQUIRED)\n' > CMakeLists.txt
v/bin/cmake -S . -B b

### distutils-gone
package 'from distutils.core import setup'
"$(ls -d "$(dirname "$BASE")"/../../3.12*/bin/python3.12 | head -1)" -I -S p/setup.py build

### no-cxx-compiler distutils
mkdir p; echo 'int x;' > p/module.c
printf 'from setuptools import setup, Extension\nsetup(name="example", ext_modules=[Extension("example", ["module.c"])])\n' > p/setup.py
venv; pip install -q setuptools
cd p; PATH=/nowhere ../v/bin/python setup.py build_ext

### numpy-abi
venv; pip install -q 'numpy>=2.1,<3'
pip install -q --no-deps --only-binary :all: 'bottleneck==1.3.8'
v/bin/python -c 'import bottleneck'
