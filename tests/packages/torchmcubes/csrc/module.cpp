// By hand: pybind11's headers, which the build must find nevertheless, take longer to compile than all else here.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "functions.h"

template <int (*run)(Address, long, long, long, float, Address, Address)>
static PyObject* mcubes_by(PyObject*, PyObject* arguments) {
  unsigned long long volume, triangles, count;
  long nz, ny, nx;
  float threshold;
  if (!PyArg_ParseTuple(arguments, "KlllfKK", &volume, &nz, &ny, &nx, &threshold, &triangles, &count)) return nullptr;
  return PyLong_FromLong(run(volume, nz, ny, nx, threshold, triangles, count));
}

template <int (*run)(Address, long, long, long, long, Address, long, Address)>
static PyObject* grid_interp_by(PyObject*, PyObject* arguments) {
  unsigned long long volume, points, out;
  long channels, nz, ny, nx, count;
  if (!PyArg_ParseTuple(arguments, "KllllKlK", &volume, &channels, &nz, &ny, &nx, &points, &count, &out)) return nullptr;
  return PyLong_FromLong(run(volume, channels, nz, ny, nx, points, count, out));
}

static PyMethodDef methods[] = {
    {"mcubes_cpu", mcubes_by<mcubes_cpu>, METH_VARARGS, "Triangles and their number, at addresses."},
    {"grid_interp_cpu", grid_interp_by<grid_interp_cpu>, METH_VARARGS, "Values at points, at addresses."},
#ifdef WITH_CUDA
    {"mcubes_cuda", mcubes_by<mcubes_cuda>, METH_VARARGS, "The same on the GPU; returns a CUDA error code."},
    {"grid_interp_cuda", grid_interp_by<grid_interp_cuda>, METH_VARARGS, "The same on the GPU; returns an error code."},
#endif
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "torchmcubes_module", nullptr, -1, methods,
                                 nullptr,               nullptr,              nullptr, nullptr};

PyMODINIT_FUNC PyInit_torchmcubes_module() { return PyModule_Create(&definition); }
