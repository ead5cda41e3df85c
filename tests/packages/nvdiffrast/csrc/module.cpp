#include <Python.h>

int rasterize_cover(float* image, long pixels);

static PyObject* cover(PyObject*, PyObject* arguments) {
  unsigned long long image;
  long pixels;
  if (!PyArg_ParseTuple(arguments, "Kl", &image, &pixels)) return nullptr;
  return PyLong_FromLong(rasterize_cover(reinterpret_cast<float*>(image), pixels));
}

static PyMethodDef methods[] = {
    {"cover", cover, METH_VARARGS, "Set all pixels at an address; returns a CUDA error code."},
    {nullptr, nullptr, 0, nullptr},
};

static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>("What a rasteriser remembers.")}, {0, nullptr}};
static PyType_Spec spec = {"_nvdiffrast_c.RasterizeCRStateWrapper", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, slots};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_nvdiffrast_c", nullptr, -1, methods,
                                 nullptr,               nullptr,         nullptr, nullptr};

PyMODINIT_FUNC PyInit__nvdiffrast_c() {
  PyObject* module = PyModule_Create(&definition);
  if (module == nullptr) return nullptr;
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr || PyModule_AddObject(module, "RasterizeCRStateWrapper", type) != 0) return nullptr;
  return module;
}
