/* The last steps of a packet in C: numbered, noted, encrypted and sent for many subscribers at once.
 *
 * What is ordinary happens here: the next packet of a stream that a subscriber gets already. Everything else is left to
 * Python, which does the same one by one (forwarding.py), and arms a lane again when things are ordinary. So nothing is
 * decided here, and without this module nothing is missing. Calls never block, so the interpreter's lock is kept.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define MAX_PACKET 1356    /* bytes in the clear, as in srtp.py */
#define MIN_PACKET 12      /* bytes of an RTP header */
#define SLOT_BYTES 1536    /* a datagram of ours with what libsrtp may write behind it */
#define SLOTS 128          /* datagrams that wait for the end of a batch; more are sent before */
#define BUCKETS 256        /* of a table of addresses, a power of two, more than slots */
#define MAX_SEGMENTS 64    /* datagrams of one size that the kernel cuts out of one call (UDP_MAX_SEGMENTS of Linux 4.18) */
#define MAX_JOINED 65000   /* bytes of them */
#define SEGMENT_BYTES CMSG_SPACE(sizeof(uint16_t))
#define HISTORY 1024       /* packets of a lane that can be repeated: what a cache holds; a power of two */
#define DEPARTURES 256     /* packets of a line that its estimate has not been told of */
#define AUTH_TAG 16        /* bytes that SRTP adds, at most: what an estimate counts */
#define MAX_AHEAD 1024     /* numbers that one packet may lie before the next */
#define MAX_STEPS 16384    /* numbers between two looks of Python, which extends 16 bits: far less than half of them */
#define MAX_NUMBER ((int64_t)1 << 60) /* extended, so that nothing added here overflows; nobody lives to see it */
#define NOTHING (-1)

typedef union {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} Address;

/* Reads a TransportAddress: packed IP address and port. */
static int read_address(PyObject *shown, Address *address) {
  if (!PyTuple_Check(shown) || PyTuple_GET_SIZE(shown) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(shown, 0))) {
    PyErr_SetString(PyExc_TypeError, "an address is packed bytes and a port");
    return -1;
  }
  PyObject *ip = PyTuple_GET_ITEM(shown, 0);
  long port = PyLong_AsLong(PyTuple_GET_ITEM(shown, 1));
  if (port == -1 && PyErr_Occurred()) return -1;
  memset(address, 0, sizeof *address);
  if (port >= 0 && port <= 65535 && PyBytes_GET_SIZE(ip) == 4) {
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons((uint16_t)port);
    memcpy(&address->v4.sin_addr, PyBytes_AS_STRING(ip), 4);
    return 0;
  }
  if (port >= 0 && port <= 65535 && PyBytes_GET_SIZE(ip) == 16) {
    address->v6.sin6_family = AF_INET6;
    address->v6.sin6_port = htons((uint16_t)port);
    memcpy(&address->v6.sin6_addr, PyBytes_AS_STRING(ip), 16);
    return 0;
  }
  PyErr_SetString(PyExc_ValueError, "no IP address and port");
  return -1;
}

/* Outbox */

typedef struct {
  Address to;
  PyObject *address; /* as Python knows it */
  uint16_t size;
  int16_t next; /* slot of the next datagram to this address, or NOTHING */
} Slot;

typedef struct {
  int first, count; /* parts */
  int slot;         /* of the first datagram */
} Run;

typedef struct {
  PyObject_HEAD
  PyObject *send;
  int v4, v6; /* descriptors; NOTHING for none */
  char is_blocked, is_flushing, joins;
  int used;
  Slot *slots;
  char (*data)[SLOT_BYTES];
} Outbox;

static int Outbox_traverse(Outbox *self, visitproc visit, void *arg) {
  Py_VISIT(self->send);
  return 0;
}

static int Outbox_clear(Outbox *self) {
  for (; self->used > 0; self->used--) Py_CLEAR(self->slots[self->used - 1].address);
  Py_CLEAR(self->send);
  return 0;
}

static void Outbox_dealloc(Outbox *self) {
  PyObject_GC_UnTrack(self);
  Outbox_clear(self);
  PyMem_Free(self->slots);
  PyMem_Free(self->data);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Outbox_init(Outbox *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"send", "v4", "v6", NULL};
  PyObject *send;
  int v4 = NOTHING, v6 = NOTHING;
  if (self->send != NULL) {
    PyErr_SetString(PyExc_RuntimeError, "an outbox is made once");
    return -1;
  }
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|ii", names, &send, &v4, &v6)) return -1;
  self->slots = PyMem_Calloc(SLOTS, sizeof(Slot));
  self->data = PyMem_Malloc(SLOTS * SLOT_BYTES); /* pages that no datagram has reached are never touched */
  if (!self->slots || !self->data) {
    PyErr_NoMemory();
    return -1;
  }
  self->send = Py_NewRef(send);
  self->v4 = v4 < 0 ? NOTHING : v4;
  self->v6 = v6 < 0 ? NOTHING : v6;
  self->joins = 1;
  return 0;
}

/* Hand datagrams of a chain to Python, one by one. They go on existing until the end of the flush. */
static int hand_over(Outbox *self, int slot, int count) {
  for (; count > 0 && slot != NOTHING; count--, slot = self->slots[slot].next) {
    PyObject *datagram = PyBytes_FromStringAndSize(self->data[slot], self->slots[slot].size);
    if (datagram == NULL) return -1;
    PyObject *result = PyObject_CallFunctionObjArgs(self->send, datagram, self->slots[slot].address, NULL);
    Py_DECREF(datagram);
    if (result == NULL) return -1;
    Py_DECREF(result);
  }
  return 0;
}

/* Chain what goes to the same address, in the order in which it came; gives how many chains there are. */
static int chain(Outbox *self, int *heads) {
  int16_t table[BUCKETS], tails[SLOTS];
  int chains = 0;
  memset(table, 0xFF, sizeof table);
  for (int at = 0; at < self->used; at++) {
    Slot *slot = &self->slots[at];
    uint32_t words[4] = {0}, key;
    if (slot->to.any.sa_family == AF_INET) {
      key = slot->to.v4.sin_addr.s_addr ^ slot->to.v4.sin_port;
    } else {
      memcpy(words, &slot->to.v6.sin6_addr, sizeof words);
      key = words[0] ^ words[1] ^ words[2] ^ words[3] ^ slot->to.v6.sin6_port;
    }
    int bucket = (key * 2654435761u) >> 24 & (BUCKETS - 1);
    while (table[bucket] >= 0 && memcmp(&self->slots[heads[table[bucket]]].to, &slot->to, sizeof slot->to) != 0)
      bucket = (bucket + 1) & (BUCKETS - 1);
    slot->next = NOTHING;
    if (table[bucket] < 0) {
      table[bucket] = (int16_t)chains;
      heads[chains++] = at;
    } else {
      self->slots[tails[table[bucket]]].next = (int16_t)at;
    }
    tails[table[bucket]] = (int16_t)at;
  }
  return chains;
}

/* Send all chains of one family; what the kernel does not take goes to Python, which counts it or lets it wait. */
static int send_family(Outbox *self, int descriptor, int family, const int *heads, int chains) {
  struct mmsghdr messages[SLOTS];
  struct iovec parts[SLOTS];
  union {
    struct cmsghdr header;
    char bytes[SEGMENT_BYTES];
  } control[SLOTS];
  Run runs[SLOTS];
  int count = 0, part = 0, done = 0;
  for (int each = 0; each < chains; each++) {
    int slot = heads[each];
    if (self->slots[slot].to.any.sa_family != family) continue;
    while (slot != NOTHING) {
      Run *run = &runs[count];
      uint16_t size = self->slots[slot].size;
      int bytes = 0;
      *run = (Run){.first = part, .slot = slot};
      /* All of one size; a shorter one may be the last, but not an empty one. */
      while (slot != NOTHING && self->slots[slot].size <= size && bytes + size <= MAX_JOINED &&
             run->count < (self->joins ? MAX_SEGMENTS : 1) && (run->count == 0 || self->slots[slot].size > 0)) {
        uint16_t length = self->slots[slot].size;
        parts[part++] = (struct iovec){.iov_base = self->data[slot], .iov_len = length};
        run->count++;
        bytes += length;
        slot = self->slots[slot].next;
        if (length < size) break;
      }
      memset(&messages[count], 0, sizeof messages[count]);
      struct msghdr *header = &messages[count].msg_hdr;
      header->msg_name = &self->slots[run->slot].to;
      header->msg_namelen = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
      header->msg_iov = &parts[run->first];
      header->msg_iovlen = (size_t)run->count;
      if (run->count > 1) {
        memset(&control[count], 0, sizeof control[count]);
        control[count].header.cmsg_level = SOL_UDP;
        control[count].header.cmsg_type = UDP_SEGMENT;
        control[count].header.cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(&control[count].header), &size, sizeof size);
        header->msg_control = &control[count];
        header->msg_controllen = SEGMENT_BYTES;
      }
      count++;
    }
  }
  while (done < count) {
    int sent = descriptor < 0 || self->is_blocked
                   ? 0
                   : sendmmsg(descriptor, messages + done, (unsigned)(count - done), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      done += sent;
      continue;
    }
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) self->is_blocked = 1; /* nothing overtakes it */
      if (errno == EIO && runs[done].count > 1) self->joins = 0; /* no device under this socket can cut */
    }
    if (hand_over(self, runs[done].slot, runs[done].count) < 0) return -1;
    done++;
  }
  return 0;
}

static int flush(Outbox *self) {
  if (!self->used || self->is_flushing) return 0;
  int heads[SLOTS];
  self->is_flushing = 1;
  int chains = chain(self, heads);
  int failed = send_family(self, self->v4, AF_INET, heads, chains) < 0 ||
               send_family(self, self->v6, AF_INET6, heads, chains) < 0;
  for (; self->used > 0; self->used--) Py_CLEAR(self->slots[self->used - 1].address);
  self->is_flushing = 0;
  return failed ? -1 : 0;
}

/* The slot that comes next; NULL with an exception. With is_flushing there is none: Python sends from within a flush. */
static int next_slot(Outbox *self) {
  if (self->send == NULL || self->is_flushing) {
    PyErr_SetString(PyExc_RuntimeError, "an outbox that is not made, or is being emptied");
    return NOTHING;
  }
  if (self->used == SLOTS && flush(self) < 0) return NOTHING;
  return self->used;
}

/* Let the datagram in the next slot go. Without a socket nothing is gathered. */
static int commit(Outbox *self, int slot, size_t size, const Address *to, PyObject *address) {
  self->slots[slot].to = *to;
  self->slots[slot].size = (uint16_t)size;
  self->slots[slot].next = NOTHING;
  self->slots[slot].address = Py_NewRef(address);
  self->used = slot + 1;
  return self->v4 == NOTHING && self->v6 == NOTHING ? flush(self) : 0;
}

static PyObject *Outbox_call(Outbox *self, PyObject *args, PyObject *kwargs) {
  PyObject *address;
  Py_buffer datagram;
  Address to;
  if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
    PyErr_SetString(PyExc_TypeError, "outbox(datagram, address)");
    return NULL;
  }
  if (!PyArg_ParseTuple(args, "y*O", &datagram, &address)) return NULL;
  int slot = NOTHING;
  if (datagram.len > SLOT_BYTES)
    PyErr_SetString(PyExc_ValueError, "a datagram that fits no slot");
  else if (read_address(address, &to) == 0)
    slot = next_slot(self);
  if (slot != NOTHING) {
    memcpy(self->data[slot], datagram.buf, (size_t)datagram.len);
    if (commit(self, slot, (size_t)datagram.len, &to, address) < 0) slot = NOTHING;
  }
  PyBuffer_Release(&datagram);
  if (slot == NOTHING) return NULL;
  Py_RETURN_NONE;
}

static PyObject *Outbox_flush(Outbox *self, PyObject *Py_UNUSED(none)) {
  if (flush(self) < 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject *Outbox_close(Outbox *self, PyObject *Py_UNUSED(none)) {
  int failed = flush(self) < 0;
  self->v4 = self->v6 = NOTHING; /* their numbers may soon be other sockets' */
  if (failed) return NULL;
  Py_RETURN_NONE;
}

static PyMethodDef Outbox_methods[] = {
    {"flush", (PyCFunction)Outbox_flush, METH_NOARGS, "Send what was gathered."},
    {"close", (PyCFunction)Outbox_close, METH_NOARGS, "Send what was gathered; later datagrams go to Python one by one."},
    {NULL}};

static PyMemberDef Outbox_members[] = {
    {"is_blocked", T_BOOL, offsetof(Outbox, is_blocked), 0, "whether something waits that nothing may overtake"},
    {"joins", T_BOOL, offsetof(Outbox, joins), READONLY, "whether the kernel is given datagrams of one size together"},
    {NULL}};

static PyTypeObject OutboxType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sfu.io.express.Outbox",
    .tp_doc = "Datagrams that leave with one system call.",
    .tp_basicsize = sizeof(Outbox),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Outbox_init,
    .tp_dealloc = (destructor)Outbox_dealloc,
    .tp_traverse = (traverseproc)Outbox_traverse,
    .tp_clear = (inquiry)Outbox_clear,
    .tp_call = (ternaryfunc)Outbox_call,
    .tp_methods = Outbox_methods,
    .tp_members = Outbox_members,
};

/* Line */

typedef int (*Protect)(void *context, void *packet, int *length); /* srtp_protect */

typedef struct {
  PyObject_HEAD
  Outbox *outbox;
  PyObject *owner; /* keeps the context alive */
  PyObject *address;
  void *context;
  Protect protect;
  Address to;
  unsigned short number; /* transport-wide, of the next packet */
  char is_open, is_noted;
  int departed;
  double left_at[DEPARTURES];
  uint16_t sizes[DEPARTURES];
} Line;

static int Line_traverse(Line *self, visitproc visit, void *arg) {
  Py_VISIT(self->outbox);
  Py_VISIT(self->owner);
  return 0;
}

static int Line_clear(Line *self) {
  self->is_open = 0;
  Py_CLEAR(self->outbox);
  self->context = NULL;
  Py_CLEAR(self->owner);
  return 0;
}

static void Line_dealloc(Line *self) {
  PyObject_GC_UnTrack(self);
  Line_clear(self);
  Py_CLEAR(self->address);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Line_init(Line *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"outbox", "owner", "context", "protect", "address", "is_noted", NULL};
  PyObject *outbox, *owner, *address;
  unsigned long long context, protect;
  int is_noted;
  if (self->outbox != NULL) {
    PyErr_SetString(PyExc_RuntimeError, "a line is made once");
    return -1;
  }
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OKKOp", names, &OutboxType, &outbox, &owner, &context, &protect,
                                   &address, &is_noted))
    return -1;
  if (context == 0 || protect == 0) {
    PyErr_SetString(PyExc_ValueError, "a line without encryption");
    return -1;
  }
  if (read_address(address, &self->to) < 0) return -1;
  self->outbox = (Outbox *)Py_NewRef(outbox);
  self->owner = Py_NewRef(owner);
  self->address = Py_NewRef(address);
  self->context = (void *)(uintptr_t)context;
  self->protect = (Protect)(uintptr_t)protect;
  self->is_noted = (char)is_noted;
  return 0;
}

static PyObject *Line_aim(Line *self, PyObject *address) {
  if (address == Py_None)
    memset(&self->to, 0, sizeof self->to); /* AF_UNSPEC: see is_next */
  else if (read_address(address, &self->to) < 0)
    return NULL;
  Py_XSETREF(self->address, Py_NewRef(address));
  Py_RETURN_NONE;
}

static PyObject *Line_take_departures(Line *self, PyObject *Py_UNUSED(none)) {
  PyObject *sizes = PyList_New(self->departed), *instants = PyList_New(self->departed);
  for (int at = 0; sizes && instants && at < self->departed; at++) {
    PyObject *size = PyLong_FromLong(self->sizes[at]), *instant = PyFloat_FromDouble(self->left_at[at]);
    if (!size || !instant) {
      Py_XDECREF(size);
      Py_XDECREF(instant);
      Py_CLEAR(sizes);
      break;
    }
    PyList_SET_ITEM(sizes, at, size);
    PyList_SET_ITEM(instants, at, instant);
  }
  if (!sizes || !instants) {
    Py_XDECREF(sizes);
    Py_XDECREF(instants);
    return NULL;
  }
  self->departed = 0;
  return Py_BuildValue("(NN)", sizes, instants);
}

static PyMethodDef Line_methods[] = {
    {"aim", (PyCFunction)Line_aim, METH_O, "Send to another address from now on; None: to nobody."},
    {"take_departures", (PyCFunction)Line_take_departures, METH_NOARGS, "Sizes and instants of what left since."},
    {NULL}};

static PyMemberDef Line_members[] = {
    {"number", T_USHORT, offsetof(Line, number), 0, "transport-wide, of the next packet"},
    {"is_open", T_BOOL, offsetof(Line, is_open), 0, "whether packets are merely numbered and noted"},
    {"departed", T_INT, offsetof(Line, departed), READONLY, "how many departures there are to take"},
    {NULL}};

static PyTypeObject LineType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sfu.io.express.Line",
    .tp_doc = "What leaves towards one session: where to, under which keys and numbers.",
    .tp_basicsize = sizeof(Line),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Line_init,
    .tp_dealloc = (destructor)Line_dealloc,
    .tp_traverse = (traverseproc)Line_traverse,
    .tp_clear = (inquiry)Line_clear,
    .tp_methods = Line_methods,
    .tp_members = Line_members,
};

/* Lane */

typedef struct {
  int64_t origin; /* extended number in the cache of its stream */
  int64_t number; /* extended, under which it went out; NOTHING for an empty entry */
  int64_t picture_id;
  uint32_t timestamp;
  uint16_t frame_number;
  uint8_t tl0_pic_idx;
  uint8_t epoch; /* of its stream */
} Repeatable;

/* The numbers of a packet as it came. */
typedef struct {
  int64_t origin;
  uint32_t timestamp;
  uint16_t sequence_number, picture_id, frame_number;
  uint8_t picture_bits, tl0_pic_idx, temporal, is_marked;
} Numbers;

typedef struct {
  PyObject_HEAD
  Line *line;
  PyObject *streams[2]; /* what packets come from: at [epoch & 1] now, beside it before that */
  uint8_t epoch;
  char is_armed;
  uint8_t payload_type;
  int temporal;
  uint32_t ssrc;
  Numbers last;               /* that came in */
  int64_t number, picture_id; /* under which it went out, extended */
  uint32_t timestamp_step;    /* what is added to those that come in */
  uint16_t frame_step;
  uint8_t tl0_step;
  double last_at;
  int steps, picture_steps; /* since Python has looked */
  long long packets, octets;
  Repeatable *history;
} Lane;

static int Lane_traverse(Lane *self, visitproc visit, void *arg) {
  Py_VISIT(self->line);
  Py_VISIT(self->streams[0]);
  Py_VISIT(self->streams[1]);
  return 0;
}

static int Lane_clear(Lane *self) {
  self->is_armed = 0;
  Py_CLEAR(self->line);
  Py_CLEAR(self->streams[0]);
  Py_CLEAR(self->streams[1]);
  return 0;
}

static void Lane_dealloc(Lane *self) {
  PyObject_GC_UnTrack(self);
  Lane_clear(self);
  PyMem_Free(self->history);
  Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Lane_init(Lane *self, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"line", "ssrc", "payload_type", NULL};
  PyObject *line;
  unsigned long ssrc;
  int payload_type;
  if (self->line != NULL) {
    PyErr_SetString(PyExc_RuntimeError, "a lane is made once");
    return -1;
  }
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!ki", names, &LineType, &line, &ssrc, &payload_type)) return -1;
  if (ssrc > UINT32_MAX || payload_type < 0 || payload_type > 127) {
    PyErr_SetString(PyExc_ValueError, "no SSRC and payload type");
    return -1;
  }
  self->ssrc = (uint32_t)ssrc;
  self->payload_type = (uint8_t)payload_type;
  self->line = (Line *)Py_NewRef(line);
  self->number = NOTHING;
  return 0;
}

static int read_fields(PyObject *tuple, int64_t *fields, Py_ssize_t count) {
  if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != count) {
    PyErr_Format(PyExc_TypeError, "a tuple of %zd numbers", count);
    return -1;
  }
  for (Py_ssize_t at = 0; at < count; at++) {
    fields[at] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, at));
    if (fields[at] == -1 && PyErr_Occurred()) return -1;
  }
  return 0;
}

static int read_numbers(PyObject *tuple, Numbers *numbers) {
  int64_t fields[9];
  if (read_fields(tuple, fields, 9) < 0) return -1;
  if (fields[4] != 0 && fields[4] != 7 && fields[4] != 15) {
    PyErr_SetString(PyExc_ValueError, "a picture id has 7 or 15 bits");
    return -1;
  }
  *numbers = (Numbers){
      .origin = fields[0],
      .sequence_number = (uint16_t)fields[1],
      .timestamp = (uint32_t)fields[2],
      .picture_id = (uint16_t)(fields[3] & ((1 << fields[4]) - 1)),
      .picture_bits = (uint8_t)fields[4],
      .tl0_pic_idx = (uint8_t)fields[5],
      .frame_number = (uint16_t)fields[6],
      .temporal = (uint8_t)fields[7],
      .is_marked = fields[8] != 0,
  };
  return 0;
}

static PyObject *Lane_arm(Lane *self, PyObject *const *args, Py_ssize_t count) {
  Numbers numbers;
  int64_t out[5];
  if (count != 4) {
    PyErr_SetString(PyExc_TypeError, "arm(stream, numbers, rewritten, temporal)");
    return NULL;
  }
  long temporal = PyLong_AsLong(args[3]);
  if (temporal == -1 && PyErr_Occurred()) return NULL;
  if (read_numbers(args[1], &numbers) < 0 || read_fields(args[2], out, 5) < 0) return NULL;
  if (self->line == NULL) {
    PyErr_SetString(PyExc_RuntimeError, "a lane without a line");
    return NULL;
  }
  if (self->history == NULL) {
    self->history = PyMem_Malloc(HISTORY * sizeof(Repeatable));
    if (self->history == NULL) return PyErr_NoMemory();
    for (int at = 0; at < HISTORY; at++) self->history[at].number = NOTHING;
  }
  if (self->streams[self->epoch & 1] != args[0]) {
    self->epoch++;
    Py_XSETREF(self->streams[self->epoch & 1], Py_NewRef(args[0]));
  }
  self->last = numbers;
  self->number = out[0];
  self->timestamp_step = (uint32_t)out[1] - numbers.timestamp;
  self->picture_id = out[2];
  self->tl0_step = (uint8_t)((uint8_t)out[3] - numbers.tl0_pic_idx);
  self->frame_step = (uint16_t)((uint16_t)out[4] - numbers.frame_number);
  self->temporal = (int)Py_MIN(Py_MAX(temporal, 0), 255);
  self->steps = self->picture_steps = 0;
  self->is_armed = out[0] >= 0 && out[0] <= MAX_NUMBER && out[2] >= 0 && out[2] <= MAX_NUMBER;
  Py_RETURN_NONE;
}

static PyObject *Lane_disarm(Lane *self, PyObject *Py_UNUSED(none)) {
  self->is_armed = 0;
  if (!self->packets) Py_RETURN_NONE;
  const Numbers *last = &self->last;
  PyObject *taken = Py_BuildValue("(HIHBBHdLLL)", last->sequence_number, last->timestamp, last->picture_id,
                                  last->picture_bits, last->tl0_pic_idx, last->frame_number, self->last_at,
                                  (long long)self->number, self->packets, self->octets);
  if (taken != NULL) self->packets = self->octets = 0;
  return taken;
}

static PyObject *Lane_recall(Lane *self, PyObject *number) {
  long long wanted = PyLong_AsLongLong(number);
  if (wanted == -1 && PyErr_Occurred()) return NULL;
  if (self->history == NULL || wanted < 0) Py_RETURN_NONE;
  const Repeatable *entry = &self->history[wanted & (HISTORY - 1)];
  PyObject *stream = self->streams[entry->epoch & 1];
  if (entry->number != wanted || (uint8_t)(self->epoch - entry->epoch) > 1 || stream == NULL) Py_RETURN_NONE;
  return Py_BuildValue("(OL(LILBH))", stream, (long long)entry->origin, (long long)entry->number, entry->timestamp,
                       (long long)entry->picture_id, entry->tl0_pic_idx, entry->frame_number);
}

static PyMethodDef Lane_methods[] = {
    {"arm", (PyCFunction)(void (*)(void))Lane_arm, METH_FASTCALL, "Go on from a packet that Python has sent."},
    {"disarm", (PyCFunction)Lane_disarm, METH_NOARGS, "Stop, and tell what went out since."},
    {"recall", (PyCFunction)Lane_recall, METH_O, "What went out under a number."},
    {NULL}};

static PyMemberDef Lane_members[] = {
    {"is_armed", T_BOOL, offsetof(Lane, is_armed), READONLY, "whether the next packet in order goes out here"},
    {"number", T_LONGLONG, offsetof(Lane, number), READONLY, "extended, of the last packet; -1 before the first"},
    {"packets", T_LONGLONG, offsetof(Lane, packets), READONLY, "that went out since it was armed"},
    {"octets", T_LONGLONG, offsetof(Lane, octets), READONLY, "of their payloads"},
    {NULL}};

static PyTypeObject LaneType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "sfu.io.express.Lane",
    .tp_doc = "The numbers of one down track while its packets come in order.",
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Lane_init,
    .tp_dealloc = (destructor)Lane_dealloc,
    .tp_traverse = (traverseproc)Lane_traverse,
    .tp_clear = (inquiry)Lane_clear,
    .tp_methods = Lane_methods,
    .tp_members = Lane_members,
};

/* forward */

/* A packet as it goes out, but for its numbers, and where these lie: 0 for what it lacks. */
typedef struct {
  Py_buffer packet;
  int64_t octets;
  size_t transport_at, frame_number_at, picture_at, tl0_pic_idx_at;
  int picture_bits;
} Draft;

typedef struct {
  long packets, bytes, failed;
} Tally;

static void put16(char *at, unsigned value) {
  at[0] = (char)(value >> 8);
  at[1] = (char)value;
}

static void put32(char *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xFFFF);
}

static int lies_within(size_t at, size_t width, const Draft *draft) {
  return at == 0 || (at >= MIN_PACKET && at + width <= (size_t)draft->packet.len);
}

static int read_draft(PyObject *packet, PyObject *places, Draft *draft) {
  int64_t fields[6];
  if (read_fields(places, fields, 6) < 0) return -1;
  for (int at = 0; at < 6; at++)
    if (fields[at] < 0 || fields[at] > MAX_PACKET) {
      PyErr_SetString(PyExc_ValueError, "nothing lies there");
      return -1;
    }
  if (PyObject_GetBuffer(packet, &draft->packet, PyBUF_SIMPLE) < 0) return -1;
  draft->octets = fields[0];
  draft->transport_at = (size_t)fields[1];
  draft->frame_number_at = (size_t)fields[2];
  draft->picture_at = (size_t)fields[3];
  draft->picture_bits = (int)fields[4];
  draft->tl0_pic_idx_at = (size_t)fields[5];
  if (draft->packet.len < MIN_PACKET || draft->packet.len > MAX_PACKET || !lies_within(draft->transport_at, 2, draft) ||
      !lies_within(draft->frame_number_at, 2, draft) || !lies_within(draft->tl0_pic_idx_at, 1, draft) ||
      (draft->picture_bits && (draft->picture_at == 0 || !lies_within(draft->picture_at, 2 - (draft->picture_bits != 15),
                                                                      draft)))) {
    PyBuffer_Release(&draft->packet);
    PyErr_SetString(PyExc_ValueError, "nothing lies there");
    return -1;
  }
  return 0;
}

/* Whether a packet is what comes next on a lane: then `ahead` and `picture_ahead` say how far it lies ahead. */
static int is_next(const Lane *lane, const Numbers *numbers, PyObject *stream, int needs_number, int *ahead,
                   int *picture_ahead) {
  const Line *line = lane->line;
  if (!lane->is_armed || line == NULL || lane->streams[lane->epoch & 1] != stream) return 0;
  if (line->outbox == NULL || line->context == NULL || line->to.any.sa_family == AF_UNSPEC) return 0;
  if (needs_number && (!line->is_open || (line->is_noted && line->departed == DEPARTURES))) return 0;
  if (numbers->temporal > lane->temporal || numbers->picture_bits != lane->last.picture_bits) return 0;
  *ahead = (uint16_t)(numbers->sequence_number - lane->last.sequence_number);
  if (*ahead == 0 || *ahead > MAX_AHEAD || lane->steps + *ahead > MAX_STEPS) return 0;
  int bits = numbers->picture_bits;
  *picture_ahead = bits ? (numbers->picture_id - lane->last.picture_id) & ((1 << bits) - 1) : 0;
  return !bits || lane->picture_steps + *picture_ahead <= 1 << (bits - 2); /* a quarter: Python must not take it for late */
}

static int pass(Lane *lane, const Draft *draft, const Numbers *numbers, int ahead, int picture_ahead, double now,
                Tally *tally) {
  Line *line = lane->line;
  Outbox *outbox = line->outbox;
  int slot = next_slot(outbox);
  if (slot == NOTHING) return -1;
  lane->number += ahead;
  lane->picture_id += picture_ahead;
  lane->steps += ahead;
  lane->picture_steps += picture_ahead;
  lane->last = *numbers;
  lane->last_at = now;
  lane->packets++;
  lane->octets += draft->octets;
  Repeatable *entry = &lane->history[lane->number & (HISTORY - 1)];
  *entry = (Repeatable){
      .origin = numbers->origin,
      .number = lane->number,
      .picture_id = numbers->picture_bits ? lane->picture_id : 0,
      .timestamp = numbers->timestamp + lane->timestamp_step,
      .frame_number = (uint16_t)(numbers->frame_number + lane->frame_step),
      .tl0_pic_idx = (uint8_t)(numbers->tl0_pic_idx + lane->tl0_step),
      .epoch = lane->epoch,
  };

  char *packet = outbox->data[slot];
  int size = (int)draft->packet.len;
  memcpy(packet, draft->packet.buf, (size_t)size);
  packet[1] = (char)(lane->payload_type | (numbers->is_marked ? 0x80 : 0));
  put16(packet + 2, (unsigned)lane->number & 0xFFFF);
  put32(packet + 4, entry->timestamp);
  put32(packet + 8, lane->ssrc);
  if (draft->transport_at) {
    put16(packet + draft->transport_at, line->number++);
    if (line->is_noted) {
      line->sizes[line->departed] = (uint16_t)(size + AUTH_TAG);
      line->left_at[line->departed++] = now;
    }
  }
  if (draft->picture_bits == 15)
    put16(packet + draft->picture_at, 0x8000 | ((unsigned)entry->picture_id & 0x7FFF));
  else if (draft->picture_bits)
    packet[draft->picture_at] = (char)(entry->picture_id & 0x7F);
  if (draft->tl0_pic_idx_at) packet[draft->tl0_pic_idx_at] = (char)entry->tl0_pic_idx;
  if (draft->frame_number_at) put16(packet + draft->frame_number_at, entry->frame_number);

  if (line->protect(line->context, packet, &size) != 0) {
    tally->failed++;
    return 0;
  }
  tally->packets++;
  tally->bytes += size;
  return commit(outbox, slot, (size_t)size, &line->to, line->address);
}

static PyObject *forward(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
  Draft draft;
  Numbers numbers;
  Tally tally = {0};
  if (count != 6 || !PyTuple_Check(args[0])) {
    PyErr_SetString(PyExc_TypeError, "forward(lanes, packet, places, numbers, stream, now)");
    return NULL;
  }
  PyObject *lanes = args[0], *stream = args[4];
  double now = PyFloat_AsDouble(args[5]);
  if (now == -1.0 && PyErr_Occurred()) return NULL;
  if (read_numbers(args[3], &numbers) < 0 || read_draft(args[1], args[2], &draft) < 0) return NULL;
  PyObject *rest = PyList_New(0);
  for (Py_ssize_t at = 0; rest != NULL && at < PyTuple_GET_SIZE(lanes); at++) {
    Lane *lane = (Lane *)PyTuple_GET_ITEM(lanes, at);
    int ahead, picture_ahead, failed;
    if (!PyObject_TypeCheck((PyObject *)lane, &LaneType)) {
      PyErr_SetString(PyExc_TypeError, "not a lane");
      failed = 1;
    } else if (draft.picture_bits == numbers.picture_bits &&
               is_next(lane, &numbers, stream, draft.transport_at != 0, &ahead, &picture_ahead)) {
      failed = pass(lane, &draft, &numbers, ahead, picture_ahead, now, &tally) < 0;
    } else {
      PyObject *index = PyLong_FromSsize_t(at);
      failed = index == NULL || PyList_Append(rest, index) < 0;
      Py_XDECREF(index);
    }
    if (failed) Py_CLEAR(rest);
  }
  PyBuffer_Release(&draft.packet);
  return rest == NULL ? NULL : Py_BuildValue("(Nlll)", rest, tally.packets, tally.bytes, tally.failed);
}

/* Module */

static PyMethodDef functions[] = {
    {"forward", (PyCFunction)(void (*)(void))forward, METH_FASTCALL, "Send a packet on all lanes where it is next."},
    {NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "express", .m_doc = "The last steps of a packet.", .m_size = -1,
    .m_methods = functions};

PyMODINIT_FUNC PyInit_express(void) {
  if (PyType_Ready(&OutboxType) < 0 || PyType_Ready(&LineType) < 0 || PyType_Ready(&LaneType) < 0) return NULL;
  PyObject *module = PyModule_Create(&definition);
  if (module == NULL) return NULL;
  if (PyModule_AddObjectRef(module, "Outbox", (PyObject *)&OutboxType) < 0 ||
      PyModule_AddObjectRef(module, "Line", (PyObject *)&LineType) < 0 ||
      PyModule_AddObjectRef(module, "Lane", (PyObject *)&LaneType) < 0 ||
      PyModule_AddIntConstant(module, "SLOTS", SLOTS) < 0 || PyModule_AddIntConstant(module, "HISTORY", HISTORY) < 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
