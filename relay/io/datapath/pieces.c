/* The native twin of pieces.py: the same names, the same contract (tests/processes/test_pieces.py runs both).
 *
 * It compares and moves bytes and knows nothing of what they mean. Every index is checked against its buffer.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#define MAX_ALIGN 4
#define MAX_STRIDE 65536

/* Pieces of a buffer: each begins `stride` bytes behind the one before it. */
typedef struct {
  Py_buffer data;
  Py_ssize_t start, stop, stride, length;
} Pieces;

static int read_pieces(Pieces *pieces, PyObject *const *args, int flags) {
  pieces->start = PyLong_AsSsize_t(args[1]);
  pieces->stop = PyLong_AsSsize_t(args[2]);
  pieces->stride = PyLong_AsSsize_t(args[3]);
  pieces->length = PyLong_AsSsize_t(args[4]);
  if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &pieces->data, flags) < 0) return -1;
  if (pieces->start < 0 || pieces->stop < pieces->start || pieces->stop > pieces->data.len || pieces->length < 1 ||
      pieces->stride < pieces->length || pieces->stride > MAX_STRIDE) {
    PyBuffer_Release(&pieces->data);
    PyErr_SetString(PyExc_ValueError, "no pieces lie there");
    return -1;
  }
  return 0;
}

static PyObject *alike(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
  Pieces pieces;
  if (count != 5) {
    PyErr_SetString(PyExc_TypeError, "alike(data, start, stop, stride, length)");
    return NULL;
  }
  if (read_pieces(&pieces, args, PyBUF_SIMPLE) < 0) return NULL;
  const char *first = (const char *)pieces.data.buf + pieces.start, *end = (const char *)pieces.data.buf + pieces.stop;
  int same = 1;
  for (const char *piece = first; same && end - piece > 0; piece += pieces.stride)
    same = end - piece >= pieces.length && memcmp(piece, first, (size_t)pieces.length) == 0;
  PyBuffer_Release(&pieces.data);
  return PyBool_FromLong(same);
}

static PyObject *compact(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
  Pieces pieces;
  if (count != 5) {
    PyErr_SetString(PyExc_TypeError, "compact(data, start, stop, stride, length)");
    return NULL;
  }
  if (read_pieces(&pieces, args, PyBUF_WRITABLE) < 0) return NULL;
  char *bytes = pieces.data.buf;
  Py_ssize_t to = pieces.start;
  for (Py_ssize_t from = pieces.start; from < pieces.stop; from += pieces.stride) {
    Py_ssize_t length = pieces.stop - from < pieces.length ? pieces.stop - from : pieces.length;
    memmove(bytes + to, bytes + from, (size_t)length);
    to += length;
  }
  PyBuffer_Release(&pieces.data);
  return PyLong_FromSsize_t(to);
}

/* Bytes written, or -1 if the parts do not fit each other. */
static Py_ssize_t interleave_into(const Py_buffer *out, const Py_buffer *heads, const Py_buffer *data, Py_ssize_t start,
                                  Py_ssize_t stop, Py_ssize_t size, Py_ssize_t align) {
  if (start < 0 || stop <= start || stop > data->len || size < 1 || size > MAX_STRIDE || align < 1 || align > MAX_ALIGN) return -1;
  Py_ssize_t count = (stop - start - 1) / size + 1, head = heads->len / count, written = 0;
  if (head * count != heads->len) return -1;
  for (Py_ssize_t at = 0; at < count; at++, start += size) {
    Py_ssize_t length = stop - start < size ? stop - start : size, padding = (align - length % align) % align;
    if (out->len - written < head + length + padding) return -1;
    char *message = (char *)out->buf + written;
    memcpy(message, (const char *)heads->buf + at * head, (size_t)head);
    memmove(message + head, (const char *)data->buf + start, (size_t)length);
    memset(message + head + length, 0, (size_t)padding);
    written += head + length + padding;
  }
  return written;
}

static PyObject *interleave(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
  if (count != 7) {
    PyErr_SetString(PyExc_TypeError, "interleave(out, heads, data, start, stop, size, align)");
    return NULL;
  }
  Py_ssize_t start = PyLong_AsSsize_t(args[3]), stop = PyLong_AsSsize_t(args[4]), size = PyLong_AsSsize_t(args[5]),
             align = PyLong_AsSsize_t(args[6]), written;
  Py_buffer out, heads, data;
  if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &out, PyBUF_WRITABLE) < 0) return NULL;
  if (PyObject_GetBuffer(args[1], &heads, PyBUF_SIMPLE) < 0) {
    PyBuffer_Release(&out);
    return NULL;
  }
  if (PyObject_GetBuffer(args[2], &data, PyBUF_SIMPLE) < 0) {
    PyBuffer_Release(&out);
    PyBuffer_Release(&heads);
    return NULL;
  }
  written = interleave_into(&out, &heads, &data, start, stop, size, align);
  PyBuffer_Release(&out);
  PyBuffer_Release(&heads);
  PyBuffer_Release(&data);
  if (written < 0) {
    PyErr_SetString(PyExc_ValueError, "heads and pieces do not fit");
    return NULL;
  }
  return PyLong_FromSsize_t(written);
}

static PyMethodDef functions[] = {
    {"alike", (PyCFunction)(void (*)(void))alike, METH_FASTCALL, "Whether pieces are the same."},
    {"compact", (PyCFunction)(void (*)(void))compact, METH_FASTCALL, "Move pieces together."},
    {"interleave", (PyCFunction)(void (*)(void))interleave, METH_FASTCALL, "Put a head in front of each piece."},
    {NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "pieces", .m_doc = "The native twin of pieces.py.", .m_size = -1,
    .m_methods = functions};

PyMODINIT_FUNC PyInit_pieces(void) { return PyModule_Create(&definition); }
