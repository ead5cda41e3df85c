#include <Python.h>

#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

const char* where();

static PyObject* built_for(PyObject*, PyObject*) { return PyUnicode_FromString(where()); }

static PyMethodDef methods[] = {
    {"built_for", built_for, METH_NOARGS, "What this module was compiled for."},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, TEXT(MODULE), nullptr, -1, methods,
                                 nullptr,               nullptr,      nullptr, nullptr};

PyMODINIT_FUNC JOIN(PyInit_, MODULE)() { return PyModule_Create(&definition); }
