#include <Python.h>
#include <cuda.h>

int run_count(int* values);

static PyObject* driver_version(PyObject*, PyObject*) {
  int version = 0;
  cuDriverGetVersion(&version);
  return PyLong_FromLong(version);
}

static PyObject* run(PyObject*, PyObject* address) {
  return PyLong_FromLong(run_count(static_cast<int*>(PyLong_AsVoidPtr(address))));
}

static PyMethodDef methods[] = {
    {"driver_version", driver_version, METH_NOARGS, "What the driver says of itself."},
    {"run", run, METH_O, "Count at an address; returns a CUDA error code."},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "usesdriver", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_usesdriver() { return PyModule_Create(&module); }
