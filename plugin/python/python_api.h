/* The only file that includes Python.h, which must come before every system header. */
#ifndef MQTTASGI_PYTHON_API_H
#define MQTTASGI_PYTHON_API_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#endif
