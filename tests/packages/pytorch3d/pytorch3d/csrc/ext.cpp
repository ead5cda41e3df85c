#include <Python.h>

#ifdef WITH_CUDA
int launch_scale(float* values, long count, float by);

static PyObject* scale(PyObject*, PyObject* arguments) {
  unsigned long long values;
  long count;
  float by;
  if (!PyArg_ParseTuple(arguments, "Klf", &values, &count, &by)) return nullptr;
  return PyLong_FromLong(launch_scale(reinterpret_cast<float*>(values), count, by));
}

static PyObject* knn_check_version(PyObject*, PyObject* arguments) {
  long version, dimensions, neighbours;
  if (!PyArg_ParseTuple(arguments, "lll", &version, &dimensions, &neighbours)) return nullptr;
  return PyBool_FromLong(version == 0);
}
#endif

static PyMethodDef methods[] = {
#ifdef WITH_CUDA
    {"scale", scale, METH_VARARGS, "Multiply what lies at an address; returns a CUDA error code."},
    {"knn_check_version", knn_check_version, METH_VARARGS, "Whether a kernel version takes such points."},
#endif
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&definition); }
