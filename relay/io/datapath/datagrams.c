/* The native twin of datagrams.py: the same names, the same contract (tests/processes/test_datagrams.py runs both).
 *
 * It moves bytes between sockets and buffers and knows nothing of STUN or TURN. Calls never block, so the interpreter's
 * lock is kept: to give it up and take it back costs as much as a short datagram.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define MAX_DATAGRAM 65536
#define MAX_SLOTS 1024
#define ANCILLARY_BYTES CMSG_SPACE(sizeof(int))
#define REMEMBERED 1024 /* addresses; a power of two */

typedef union {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} Address;

typedef struct {
  Address raw;
  PyObject *shown; /* the tuple that the socket module would give, or NULL */
} Remembered;

typedef struct {
  PyObject_HEAD
  PyObject *views; /* list of memoryview */
  Py_ssize_t headroom;
  Py_ssize_t slots;
  struct mmsghdr *messages;
  struct iovec *parts;
  Address *senders;
  char (*ancillary)[ANCILLARY_BYTES];
  Remembered *remembered;
} Inbox;

typedef struct {
  PyObject_HEAD
  PyObject *sock;
  Inbox *inbox;
  int descriptor;
} DatagramSocket;

/* Inbox */

static void Inbox_dealloc(Inbox *self) {
  if (self->remembered != NULL)
    for (int at = 0; at < REMEMBERED; at++) Py_XDECREF(self->remembered[at].shown);
  PyMem_Free(self->remembered);
  PyMem_Free(self->messages);
  PyMem_Free(self->parts);
  PyMem_Free(self->senders);
  PyMem_Free(self->ancillary);
  Py_XDECREF(self->views);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Inbox_init(Inbox *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"slots", "headroom", "tailroom", NULL};
  Py_ssize_t slots, headroom = 0, tailroom = 0;
  if (self->views != NULL) {
    PyErr_SetString(PyExc_RuntimeError, "an inbox is made once");
    return -1;
  }
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|nn", names, &slots, &headroom, &tailroom)) return -1;
  if (slots < 1 || slots > MAX_SLOTS || headroom < 0 || headroom > MAX_DATAGRAM || tailroom < 0 ||
      tailroom > MAX_DATAGRAM) {
    PyErr_SetString(PyExc_ValueError, "an inbox of impossible size");
    return -1;
  }
  self->slots = slots;
  self->headroom = headroom;
  self->messages = PyMem_Calloc(slots, sizeof(struct mmsghdr));
  self->parts = PyMem_Calloc(slots, sizeof(struct iovec));
  self->senders = PyMem_Calloc(slots, sizeof(Address));
  self->ancillary = PyMem_Calloc(slots, ANCILLARY_BYTES);
  self->remembered = PyMem_Calloc(REMEMBERED, sizeof(Remembered));
  self->views = PyList_New(slots);
  if (!self->messages || !self->parts || !self->senders || !self->ancillary || !self->remembered || !self->views) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t at = 0; at < slots; at++) {
    /* Not zeroed: pages that no datagram has reached are never touched. The view keeps the array's size. */
    PyObject *array = PyByteArray_FromStringAndSize(NULL, headroom + MAX_DATAGRAM + tailroom);
    if (array == NULL) return -1;
    PyObject *view = PyMemoryView_FromObject(array);
    Py_DECREF(array);
    if (view == NULL) return -1;
    PyList_SET_ITEM(self->views, at, view);
    char *window = (char *)PyMemoryView_GET_BUFFER(view)->buf + headroom;
    memset(window, 0, sizeof(uint32_t));
    self->parts[at] = (struct iovec){.iov_base = window, .iov_len = MAX_DATAGRAM};
    self->messages[at].msg_hdr = (struct msghdr){
        .msg_name = &self->senders[at], .msg_iov = &self->parts[at], .msg_iovlen = 1, .msg_control = self->ancillary[at]};
  }
  return 0;
}

/* The tuple that shows an address. Few clients and peers talk at a time, so each is mostly made once. */
static PyObject *show(Inbox *self, const Address *address) {
  uint32_t key;
  size_t length;
  if (address->any.sa_family == AF_INET) {
    key = address->v4.sin_addr.s_addr ^ address->v4.sin_port;
    length = offsetof(struct sockaddr_in, sin_zero);
  } else if (address->any.sa_family == AF_INET6) {
    uint32_t words[4];
    memcpy(words, &address->v6.sin6_addr, sizeof words);
    key = words[0] ^ words[1] ^ words[2] ^ words[3] ^ address->v6.sin6_port;
    length = sizeof(struct sockaddr_in6);
  } else {
    PyErr_SetString(PyExc_ValueError, "a datagram of another family");
    return NULL;
  }
  Remembered *known = &self->remembered[(key * 2654435761u) >> 22 & (REMEMBERED - 1)];
  if (known->shown != NULL && memcmp(&known->raw, address, length) == 0) return Py_NewRef(known->shown);

  char text[INET6_ADDRSTRLEN];
  PyObject *shown;
  if (address->any.sa_family == AF_INET) {
    inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
    shown = Py_BuildValue("(si)", text, ntohs(address->v4.sin_port));
  } else {
    inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
    shown = Py_BuildValue("(siII)", text, ntohs(address->v6.sin6_port), ntohl(address->v6.sin6_flowinfo),
                          address->v6.sin6_scope_id);
  }
  if (shown == NULL) return NULL;
  memset(&known->raw, 0, sizeof known->raw);
  memcpy(&known->raw, address, length);
  Py_XSETREF(known->shown, Py_NewRef(shown));
  return shown;
}

static PyMemberDef Inbox_members[] = {
    {"views", T_OBJECT_EX, offsetof(Inbox, views), READONLY, "the buffers, one for each slot"},
    {"headroom", T_PYSSIZET, offsetof(Inbox, headroom), READONLY, "where a datagram begins"},
    {NULL}};

static PyTypeObject InboxType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.io.datapath.datagrams.Inbox",
    .tp_doc = "Buffers that many sockets receive into, one after the other.",
    .tp_basicsize = sizeof(Inbox),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Inbox_init,
    .tp_dealloc = (destructor)Inbox_dealloc,
    .tp_members = Inbox_members,
};

/* DatagramSocket */

static void DatagramSocket_dealloc(DatagramSocket *self) {
  Py_XDECREF(self->sock);
  Py_XDECREF(self->inbox);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static int DatagramSocket_init(DatagramSocket *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"sock", "inbox", NULL};
  PyObject *sock, *inbox;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!", names, &sock, &InboxType, &inbox)) return -1;
  int descriptor = PyObject_AsFileDescriptor(sock);
  if (descriptor < 0) return -1;
  self->descriptor = descriptor;
  Py_XSETREF(self->sock, Py_NewRef(sock));
  Py_XSETREF(self->inbox, (Inbox *)Py_NewRef(inbox));
  return 0;
}

static PyObject *DatagramSocket_join(DatagramSocket *self, PyObject *Py_UNUSED(none)) {
  int on = 1;
  return PyBool_FromLong(setsockopt(self->descriptor, SOL_UDP, UDP_GRO, &on, sizeof on) == 0);
}

static int segment_size(struct msghdr *message) {
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header))
    if (header->cmsg_level == SOL_UDP && header->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(header), sizeof size);
      return size;
    }
  return 0;
}

static PyObject *DatagramSocket_receive(DatagramSocket *self, PyObject *Py_UNUSED(none)) {
  Inbox *inbox = self->inbox;
  if (inbox == NULL) {
    PyErr_SetString(PyExc_ValueError, "a socket without an inbox");
    return NULL;
  }
  for (Py_ssize_t at = 0; at < inbox->slots; at++) {
    inbox->messages[at].msg_hdr.msg_namelen = sizeof(Address);
    inbox->messages[at].msg_hdr.msg_controllen = ANCILLARY_BYTES;
  }
  int count = -1;
  /* An error of an earlier datagram is read with the call, and what is ready behind it comes with the next. */
  for (int attempt = 0; count < 0 && attempt < inbox->slots; attempt++) {
    count = recvmmsg(self->descriptor, inbox->messages, inbox->slots, MSG_DONTWAIT, NULL);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EBADF)) break;
  }
  PyObject *received = PyList_New(count > 0 ? count : 0);
  if (received == NULL) return NULL;
  for (int at = 0; at < count; at++) {
    struct mmsghdr *message = &inbox->messages[at];
    uint32_t first;
    memcpy(&first, inbox->parts[at].iov_base, sizeof first);
    PyObject *datagram = PyTuple_New(4), *sender = show(inbox, &inbox->senders[at]);
    PyObject *size = PyLong_FromLong(message->msg_len);
    PyObject *segment = PyLong_FromLong(message->msg_hdr.msg_controllen ? segment_size(&message->msg_hdr) : 0);
    PyObject *head = PyLong_FromUnsignedLong(ntohl(first));
    if (!datagram || !sender || !size || !segment || !head) {
      Py_XDECREF(datagram);
      Py_XDECREF(sender);
      Py_XDECREF(size);
      Py_XDECREF(segment);
      Py_XDECREF(head);
      Py_DECREF(received);
      return NULL;
    }
    PyTuple_SET_ITEM(datagram, 0, size);
    PyTuple_SET_ITEM(datagram, 1, segment);
    PyTuple_SET_ITEM(datagram, 2, sender);
    PyTuple_SET_ITEM(datagram, 3, head);
    PyList_SET_ITEM(received, at, datagram);
  }
  return received;
}

static PyObject *DatagramSocket_send(DatagramSocket *self, PyObject *const *args, Py_ssize_t count) {
  if (count != 4 || !PyBytes_CheckExact(args[3])) {
    PyErr_SetString(PyExc_TypeError, "send(data, start, stop, to)");
    return NULL;
  }
  Py_ssize_t start = PyLong_AsSsize_t(args[1]), stop = PyLong_AsSsize_t(args[2]);
  if ((start == -1 || stop == -1) && PyErr_Occurred()) return NULL;
  Py_buffer data;
  if (PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0) return NULL;
  if (start < 0 || stop < start || stop > data.len) {
    PyBuffer_Release(&data);
    PyErr_SetString(PyExc_ValueError, "nothing lies there");
    return NULL;
  }
  const struct sockaddr *to = (const struct sockaddr *)PyBytes_AS_STRING(args[3]);
  ssize_t sent = -1;
  for (int attempt = 0; sent < 0 && attempt < 2; attempt++) {
    sent = sendto(self->descriptor, (const char *)data.buf + start, (size_t)(stop - start), MSG_DONTWAIT | MSG_NOSIGNAL,
                  to, (socklen_t)PyBytes_GET_SIZE(args[3]));
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
  }
  if (sent < 0) PyErr_SetFromErrno(PyExc_OSError);
  PyBuffer_Release(&data);
  if (sent < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *DatagramSocket_close(DatagramSocket *self, PyObject *Py_UNUSED(none)) {
  self->descriptor = -1; /* its number may soon be another socket's */
  return PyObject_CallMethod(self->sock, "close", NULL);
}

static PyMethodDef DatagramSocket_methods[] = {
    {"join", (PyCFunction)DatagramSocket_join, METH_NOARGS, "Let the kernel join runs of datagrams (UDP_GRO)."},
    {"receive", (PyCFunction)DatagramSocket_receive, METH_NOARGS, "Take what waits."},
    {"send", (PyCFunction)(void (*)(void))DatagramSocket_send, METH_FASTCALL, "Send data[start:stop]."},
    {"close", (PyCFunction)DatagramSocket_close, METH_NOARGS, "Close the socket."},
    {NULL}};

static PyMemberDef DatagramSocket_members[] = {
    {"sock", T_OBJECT_EX, offsetof(DatagramSocket, sock), READONLY, "the socket module's object"}, {NULL}};

static PyTypeObject DatagramSocketType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "relay.io.datapath.datagrams.DatagramSocket",
    .tp_doc = "A bound UDP socket, not connected, that never blocks.",
    .tp_basicsize = sizeof(DatagramSocket),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)DatagramSocket_init,
    .tp_dealloc = (destructor)DatagramSocket_dealloc,
    .tp_methods = DatagramSocket_methods,
    .tp_members = DatagramSocket_members,
};

/* Module */

static PyObject *target(PyObject *Py_UNUSED(module), PyObject *shown) {
  const char *text;
  int port;
  unsigned flow = 0, scope = 0;
  Address address = {0};
  Py_ssize_t length;
  if (!PyTuple_Check(shown)) {
    PyErr_SetString(PyExc_TypeError, "an address is a tuple");
    return NULL;
  }
  if (!PyArg_ParseTuple(shown, "si|II", &text, &port, &flow, &scope)) return NULL;
  int is_v4 = PyTuple_GET_SIZE(shown) == 2;
  if (port < 0 || port > 65535 ||
      inet_pton(is_v4 ? AF_INET : AF_INET6, text,
                is_v4 ? (void *)&address.v4.sin_addr : (void *)&address.v6.sin6_addr) != 1) {
    PyErr_SetString(PyExc_ValueError, "no numeric IP address and port");
    return NULL;
  }
  if (is_v4) {
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons((uint16_t)port);
    length = sizeof address.v4;
  } else {
    address.v6.sin6_family = AF_INET6;
    address.v6.sin6_port = htons((uint16_t)port);
    address.v6.sin6_flowinfo = htonl(flow);
    address.v6.sin6_scope_id = scope;
    length = sizeof address.v6;
  }
  return PyBytes_FromStringAndSize((const char *)&address, length);
}

static PyMethodDef functions[] = {{"target", target, METH_O, "The form of an address that send takes."}, {NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "datagrams", .m_doc = "The native twin of datagrams.py.", .m_size = -1,
    .m_methods = functions};

PyMODINIT_FUNC PyInit_datagrams(void) {
  if (PyType_Ready(&InboxType) < 0 || PyType_Ready(&DatagramSocketType) < 0) return NULL;
  PyObject *module = PyModule_Create(&definition);
  if (module == NULL) return NULL;
  if (PyModule_AddObjectRef(module, "Inbox", (PyObject *)&InboxType) < 0 ||
      PyModule_AddObjectRef(module, "DatagramSocket", (PyObject *)&DatagramSocketType) < 0 ||
      PyModule_AddIntConstant(module, "MAX_DATAGRAM", MAX_DATAGRAM) < 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
