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
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define MAX_DATAGRAM 65536
#define MAX_SEGMENT UINT16_MAX
#define MAX_SLOTS 1024
#define ANCILLARY_BYTES CMSG_SPACE(sizeof(int))
#define REMEMBERED_SETS 4096 /* a power of two */
#define WAYS 4               /* addresses in each set */
#define MAX_EVENTS 64        /* taken at once; what is left behind is reported again */
#define MAX_ALIGN 4

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
  Remembered (*remembered)[WAYS];
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
    for (int set = 0; set < REMEMBERED_SETS; set++)
      for (int way = 0; way < WAYS; way++) Py_XDECREF(self->remembered[set][way].shown);
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
  self->remembered = PyMem_Calloc(REMEMBERED_SETS, sizeof *self->remembered);
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
        .msg_name = &self->senders[at], .msg_namelen = sizeof(Address), .msg_iov = &self->parts[at], .msg_iovlen = 1,
        .msg_control = self->ancillary[at], .msg_controllen = ANCILLARY_BYTES};
  }
  return 0;
}

/* The tuple that shows an address. Of those that talk at a time each is made once; the one made last goes first. */
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
  Remembered *known = self->remembered[(key * 2654435761u) >> 16 & (REMEMBERED_SETS - 1)];
  for (int way = 0; way < WAYS && known[way].shown != NULL; way++)
    if (memcmp(&known[way].raw, address, length) == 0) return Py_NewRef(known[way].shown);

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
  Py_XDECREF(known[WAYS - 1].shown);
  memmove(known + 1, known, (WAYS - 1) * sizeof *known);
  memset(&known->raw, 0, sizeof known->raw);
  memcpy(&known->raw, address, length);
  known->shown = Py_NewRef(shown);
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
  int count = -1;
  /* An error of an earlier datagram is read with the call, and what is ready behind it comes with the next. */
  for (int attempt = 0; count < 0 && attempt < inbox->slots; attempt++) {
    count = recvmmsg(self->descriptor, inbox->messages, inbox->slots, MSG_DONTWAIT, NULL);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EBADF)) break;
  }
  PyObject *received = PyList_New(count > 0 ? count : 0);
  for (int at = 0; at < count; at++) {
    struct mmsghdr *message = &inbox->messages[at];
    int joined = message->msg_hdr.msg_controllen ? segment_size(&message->msg_hdr) : 0;
    message->msg_hdr.msg_namelen = sizeof(Address); /* for the next time; the kernel has written both */
    message->msg_hdr.msg_controllen = ANCILLARY_BYTES;
    if (received == NULL) continue;
    uint32_t first;
    memcpy(&first, inbox->parts[at].iov_base, sizeof first);
    PyObject *datagram = PyTuple_New(4), *sender = show(inbox, &inbox->senders[at]);
    PyObject *size = PyLong_FromLong(message->msg_len);
    PyObject *segment = PyLong_FromLong(joined);
    PyObject *head = PyLong_FromUnsignedLong(ntohl(first));
    if (!datagram || !sender || !size || !segment || !head) {
      Py_XDECREF(datagram);
      Py_XDECREF(sender);
      Py_XDECREF(size);
      Py_XDECREF(segment);
      Py_XDECREF(head);
      Py_CLEAR(received);
      continue;
    }
    PyTuple_SET_ITEM(datagram, 0, size);
    PyTuple_SET_ITEM(datagram, 1, segment);
    PyTuple_SET_ITEM(datagram, 2, sender);
    PyTuple_SET_ITEM(datagram, 3, head);
    PyList_SET_ITEM(received, at, datagram);
  }
  return received;
}

typedef struct {
  Py_buffer data;
  Py_ssize_t start, stop;
  PyObject *to;
} Part;

/* Reads data, start and stop; so many bytes must lie before the part and behind it, too. */
static int read_part(Part *part, PyObject *const *args, PyObject *to, Py_ssize_t before, Py_ssize_t behind, int flags) {
  part->start = PyLong_AsSsize_t(args[1]);
  part->stop = PyLong_AsSsize_t(args[2]);
  part->to = to;
  if (PyErr_Occurred()) return -1;
  if (!PyBytes_CheckExact(to)) {
    PyErr_SetString(PyExc_TypeError, "not a target");
    return -1;
  }
  if (PyObject_GetBuffer(args[0], &part->data, flags) < 0) return -1;
  if (part->start < before || part->stop < part->start || part->stop > part->data.len ||
      part->data.len - part->stop < behind) {
    PyBuffer_Release(&part->data);
    PyErr_SetString(PyExc_ValueError, "nothing lies there");
    return -1;
  }
  return 0;
}

/* Tried twice, because the ICMP error of an earlier datagram fails the next call. A segment size of 0: do not cut. */
static PyObject *send_part(DatagramSocket *self, Part *part, uint16_t segment) {
  const char *bytes = (const char *)part->data.buf + part->start;
  size_t size = (size_t)(part->stop - part->start);
  void *to = PyBytes_AS_STRING(part->to);
  socklen_t to_size = (socklen_t)PyBytes_GET_SIZE(part->to);
  struct iovec whole = {.iov_base = (void *)bytes, .iov_len = size};
  union {
    char bytes[CMSG_SPACE(sizeof segment)];
    struct cmsghdr align;
  } ancillary = {{0}};
  struct msghdr message = {.msg_name = to, .msg_namelen = to_size, .msg_iov = &whole, .msg_iovlen = 1,
                           .msg_control = ancillary.bytes, .msg_controllen = sizeof ancillary.bytes};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof segment);
  memcpy(CMSG_DATA(header), &segment, sizeof segment);
  ssize_t sent = -1;
  for (int attempt = 0; sent < 0 && attempt < 2; attempt++) {
    sent = segment == 0 ? sendto(self->descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, to, to_size)
                        : sendmsg(self->descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
  }
  if (sent < 0) PyErr_SetFromErrno(PyExc_OSError);
  PyBuffer_Release(&part->data);
  if (sent < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *DatagramSocket_send(DatagramSocket *self, PyObject *const *args, Py_ssize_t count) {
  Part part;
  if (count != 4) {
    PyErr_SetString(PyExc_TypeError, "send(data, start, stop, to)");
    return NULL;
  }
  if (read_part(&part, args, args[3], 0, 0, PyBUF_SIMPLE) < 0) return NULL;
  return send_part(self, &part, 0);
}

static PyObject *DatagramSocket_send_run(DatagramSocket *self, PyObject *const *args, Py_ssize_t count) {
  Part part;
  if (count != 5) {
    PyErr_SetString(PyExc_TypeError, "send_run(data, start, stop, size, to)");
    return NULL;
  }
  Py_ssize_t size = PyLong_AsSsize_t(args[3]);
  if (size == -1 && PyErr_Occurred()) return NULL;
  if (size < 1 || size > MAX_SEGMENT) {
    PyErr_SetString(PyExc_ValueError, "datagrams of impossible size");
    return NULL;
  }
  if (read_part(&part, args, args[4], 0, 0, PyBUF_SIMPLE) < 0) return NULL;
  return send_part(self, &part, (uint16_t)size);
}

static PyObject *DatagramSocket_send_behind(DatagramSocket *self, PyObject *const *args, Py_ssize_t count) {
  Part part;
  if (count != 6 || !(PyBytes_CheckExact(args[0]) || PyLong_CheckExact(args[0]))) {
    PyErr_SetString(PyExc_TypeError, "send_behind(head, data, start, stop, align, to)");
    return NULL;
  }
  uint32_t number = 0;
  const char *head = (const char *)&number;
  Py_ssize_t head_size = sizeof number, align = PyLong_AsSsize_t(args[4]);
  if (align == -1 && PyErr_Occurred()) return NULL;
  if (PyBytes_CheckExact(args[0])) {
    head = PyBytes_AS_STRING(args[0]);
    head_size = PyBytes_GET_SIZE(args[0]);
  } else {
    unsigned long value = PyLong_AsUnsignedLong(args[0]);
    if (PyErr_Occurred()) return NULL;
    if (value > UINT32_MAX) {
      PyErr_SetString(PyExc_OverflowError, "more than four bytes");
      return NULL;
    }
    number = htonl((uint32_t)value);
  }
  if (align < 1 || align > MAX_ALIGN) {
    PyErr_SetString(PyExc_ValueError, "nothing lies there");
    return NULL;
  }
  if (read_part(&part, args + 1, args[5], head_size, align - 1, PyBUF_WRITABLE) < 0) return NULL;
  char *bytes = part.data.buf;
  for (Py_ssize_t over = (part.stop - part.start) % align; over != 0 && over < align; over++) bytes[part.stop++] = 0;
  part.start -= head_size;
  memcpy(bytes + part.start, head, (size_t)head_size);
  return send_part(self, &part, 0);
}

static PyObject *DatagramSocket_close(DatagramSocket *self, PyObject *Py_UNUSED(none)) {
  self->descriptor = -1; /* its number may soon be another socket's */
  return PyObject_CallMethod(self->sock, "close", NULL);
}

static PyMethodDef DatagramSocket_methods[] = {
    {"join", (PyCFunction)DatagramSocket_join, METH_NOARGS, "Let the kernel join runs of datagrams (UDP_GRO)."},
    {"receive", (PyCFunction)DatagramSocket_receive, METH_NOARGS, "Take what waits."},
    {"send", (PyCFunction)(void (*)(void))DatagramSocket_send, METH_FASTCALL, "Send data[start:stop]."},
    {"send_behind", (PyCFunction)(void (*)(void))DatagramSocket_send_behind, METH_FASTCALL, "Send it behind a head."},
    {"send_run", (PyCFunction)(void (*)(void))DatagramSocket_send_run, METH_FASTCALL, "Send it cut (UDP_SEGMENT)."},
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

static PyObject *ready(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
  struct epoll_event events[MAX_EVENTS];
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "ready(epoll, descriptor)");
    return NULL;
  }
  int descriptor = PyObject_AsFileDescriptor(args[1]);
  if (descriptor < 0) return NULL;
  int found = epoll_wait(descriptor, events, MAX_EVENTS, 0);
  if (found < 0 && errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
  PyObject *list = PyList_New(found > 0 ? found : 0);
  for (int at = 0; list != NULL && at < found; at++) {
    PyObject *event = Py_BuildValue("(iI)", events[at].data.fd, events[at].events);
    if (event == NULL) Py_CLEAR(list);
    else PyList_SET_ITEM(list, at, event);
  }
  return list;
}

static PyMethodDef functions[] = {
    {"ready", (PyCFunction)(void (*)(void))ready, METH_FASTCALL, "What an epoll object has to tell now."},
    {"target", target, METH_O, "The form of an address that send takes."},
    {NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "datagrams", .m_doc = "The native twin of datagrams.py.", .m_size = -1,
    .m_methods = functions};

PyMODINIT_FUNC PyInit_datagrams(void) {
  if (PyType_Ready(&InboxType) < 0 || PyType_Ready(&DatagramSocketType) < 0) return NULL;
  PyObject *module = PyModule_Create(&definition);
  if (module == NULL) return NULL;
  if (PyModule_AddObjectRef(module, "Inbox", (PyObject *)&InboxType) < 0 ||
      PyModule_AddObjectRef(module, "DatagramSocket", (PyObject *)&DatagramSocketType) < 0 ||
      PyModule_AddIntConstant(module, "MAX_DATAGRAM", MAX_DATAGRAM) < 0 ||
      PyModule_AddIntConstant(module, "MAX_SEGMENT", MAX_SEGMENT) < 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
