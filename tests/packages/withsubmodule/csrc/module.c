#include <Python.h>

#include "answer.h"

static PyObject* answer(PyObject* self, PyObject* arguments) { return PyLong_FromLong(ANSWER); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, "42."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "withsubmodule", NULL, -1, methods};
PyMODINIT_FUNC PyInit_withsubmodule(void) { return PyModule_Create(&module); }
