#include <Python.h>

extern "C" void meddler_twice(float* values, long count);

static PyObject* address(PyObject*, PyObject*) { return PyLong_FromVoidPtr(reinterpret_cast<void*>(meddler_twice)); }

static PyMethodDef methods[] = {
    {"address", address, METH_NOARGS, "Where the function that launches the kernel lies."},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "meddler", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit_meddler() { return PyModule_Create(&module); }
