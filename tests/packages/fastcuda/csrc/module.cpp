#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef WITH_CUDA
extern "C" int fastcuda_add_one(float* values, long count);

static PyObject* add_one_cuda(PyObject*, PyObject* argument) {
  Py_buffer view;
  if (PyObject_GetBuffer(argument, &view, PyBUF_WRITABLE) != 0) return nullptr;
  int error = fastcuda_add_one(static_cast<float*>(view.buf), static_cast<long>(view.len / sizeof(float)));
  PyBuffer_Release(&view);
  return PyLong_FromLong(error);
}
#endif

static PyMethodDef methods[] = {
#ifdef WITH_CUDA
    {"add_one_cuda", add_one_cuda, METH_O, "Add one to each float of a writable buffer; returns a CUDA error code."},
#endif
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
