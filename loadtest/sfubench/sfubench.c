/* sfubench - the media of many participants, for any SFU: SRTP and SRTCP over sockets that are connected already.
 *
 * Whoever starts it has done ICE and DTLS (tests/bench/sfu_clients.py) and hands over file descriptors and keys, one
 * line for each PeerConnection on standard input. One thread, one clock: a packet carries the time at which it was
 * sent, and the kernel says when it arrived. See README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <srtp2/srtp.h>

enum {
  MAX_PEERS = 256,           // PeerConnections
  MAX_STREAMS = 128,         // RTP streams that are published
  MAX_SSRCS = 128,           // which one subscriber may see
  MAX_COUNTER = 1 << 17,     // packets of one stream: two minutes of 1000 a second
  MAX_SAMPLES = 1 << 22,     // latencies
  MAX_DATAGRAM = 2048,
  MAX_STUN = 256,
  BATCH = 64,                // datagrams in one system call
  HISTORY = 1 << 12,         // transport-wide numbers that are remembered, a power of two
  MAX_NACKS = 64,            // packets that one subscriber asks for at once
  TRAILER = 24,              // bytes at the end of each payload: magic, stream, counter, time
  MAGIC = 0x73667562,        // "sfub"
  FRAME = 10,                // packets of video in a frame
};
#define MAX_SECONDS 60.0
static const double DRAIN = 0.001, FEEDBACK = 0.05, NACK = 0.01, REPORT = 1.0, CHECK = 2.0, TAIL = 0.3; // seconds

static void die(const char *format, ...) {
  va_list list; va_start(list, format); vfprintf(stderr, format, list); va_end(list); fputc('\n', stderr); exit(1);
}
static double now_s(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static uint16_t get16(const uint8_t *p) { return p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static void put16(uint8_t *p, unsigned v) { p[0] = v >> 8; p[1] = v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }
static void put64(uint8_t *p, uint64_t v) { put32(p, v >> 32); put32(p + 4, v); }

// ------------------------------------------------------------------ what there is
typedef struct {
  uint32_t ssrc, highest, lsr; // extended sequence number; the middle of the last sender report's NTP time
  double reported_at;
} source_t;

typedef struct {
  bool publishes;
  int fd, twcc, mid, dd, level; // identifiers of header extensions, 0 for none
  char video_mid, audio_mid;
  srtp_t in, out;
  uint8_t check[MAX_STUN]; int check_size; // a Binding request that keeps consent
  uint16_t transport;                      // transport-wide number of the next packet
  uint32_t local;                          // SSRC of reports
  // of a subscriber:
  source_t sources[MAX_SSRCS]; int source_count;
  uint64_t *seen, *lost;                   // a bit for each packet of each stream
  uint32_t newest, base; bool has_base;    // transport-wide, extended
  uint64_t arrived[HISTORY]; uint32_t arrived_number[HISTORY];
  uint8_t feedback_count;
  struct { uint32_t ssrc; uint16_t number; } nacks[MAX_NACKS]; int nack_count;
} peer_t;

typedef struct {
  peer_t *peer; bool video; uint32_t ssrc; int pt;
  uint16_t number; uint32_t counter, packets, octets, timestamp, frame, wanted_key_at;
  bool key; double interval, next; int burst;
  uint32_t measured; // packets that were sent while it counted
} stream_t;

static peer_t *peers[MAX_PEERS]; static int peer_count, subscriber_count;
static stream_t streams[MAX_STREAMS]; static int stream_count;
static double seconds = 5, warmup = 3, drop_percent; static double rate_video = 250, rate_audio = 50;
static int size_video = 1100, size_audio = 120, burst = 1; static const char *pids = "", *kthreads = "";
static uint64_t from_ns = UINT64_MAX, until_ns = UINT64_MAX;
static uint32_t *latencies; static uint32_t latency_count;
static struct {
  uint64_t received, unique, duplicate, dropped, foreign, unauthentic, nacks_sent, nacks_heard, keys_asked,
      feedback_sent, feedback_heard, send_failed, rtcp;
} counts;
static uint64_t measured_received; // datagrams of media that arrived between the two readings of the CPU's clock
static bool measuring;

// ------------------------------------------------------------------ keys
static const struct { const char *name; srtp_profile_t profile; int key, salt; } PROFILES[] = {
  { "SRTP_AEAD_AES_256_GCM", srtp_profile_aead_aes_256_gcm, 32, 12 },
  { "SRTP_AEAD_AES_128_GCM", srtp_profile_aead_aes_128_gcm, 16, 12 },
  { "SRTP_AES128_CM_SHA1_80", srtp_profile_aes128_cm_sha1_80, 16, 14 },
};
static int unhex(const char *text, uint8_t *out, int room) {
  int n = strlen(text) / 2; if (n > room) die("%d bytes of hex, there is room for %d", n, room);
  for (int i = 0; i < n; i++) { unsigned byte; if (sscanf(text + 2 * i, "%2x", &byte) != 1) die("no hex: %s", text); out[i] = byte; }
  return n;
}
static srtp_t make_srtp(const char *name, const char *hex, srtp_ssrc_type_t direction) {
  for (size_t i = 0; i < sizeof PROFILES / sizeof *PROFILES; i++) {
    if (strcmp(name, PROFILES[i].name)) continue;
    uint8_t key[64]; if (unhex(hex, key, sizeof key) != PROFILES[i].key + PROFILES[i].salt) die("a key of %s has another length", name);
    srtp_policy_t policy; memset(&policy, 0, sizeof policy);
    if (srtp_crypto_policy_set_from_profile_for_rtp(&policy.rtp, PROFILES[i].profile) ||
        srtp_crypto_policy_set_from_profile_for_rtcp(&policy.rtcp, PROFILES[i].profile)) die("libsrtp does not know %s", name);
    policy.ssrc.type = direction; policy.key = key; policy.window_size = 1024;
    srtp_t session; if (srtp_create(&session, &policy)) die("srtp_create"); return session;
  }
  die("unknown profile %s", name); return 0;
}

// ------------------------------------------------------------------ CPU, as turnbench bills it
static double read_run(const char *pattern) {
  double sum = 0; glob_t found;
  if (!glob(pattern, 0, 0, &found)) for (size_t i = 0; i < found.gl_pathc; i++) {
    FILE *f = fopen(found.gl_pathv[i], "r"); if (!f) continue;
    unsigned long long ns; if (fscanf(f, "%llu", &ns) == 1) sum += ns * 1e-9; fclose(f);
  }
  globfree(&found); return sum;
}
static double sum_over(const char *list) {
  double sum = 0; char copy[1024], path[128], *save; snprintf(copy, sizeof copy, "%s", list);
  for (char *id = strtok_r(copy, ",", &save); id; id = strtok_r(0, ",", &save)) { snprintf(path, sizeof path, "/proc/%s/task/*/schedstat", id); sum += read_run(path); }
  return sum;
}

// ------------------------------------------------------------------ sending
static void emit(peer_t *peer, const uint8_t *data, int size) {
  if (send(peer->fd, data, size, MSG_DONTWAIT) < 0) counts.send_failed++;
}
static void emit_rtcp(peer_t *peer, uint8_t *data, int size) {
  if (srtp_protect_rtcp(peer->out, data, &size)) die("srtp_protect_rtcp");
  emit(peer, data, size);
}
typedef struct { uint8_t *data; int bits; } writer_t;
static void put_bits(writer_t *w, uint32_t value, int width) {
  while (width--) { if (value >> width & 1) w->data[w->bits / 8] |= 0x80 >> w->bits % 8; w->bits++; }
}
static int write_descriptor(uint8_t *out, bool starts, bool ends, bool key, uint16_t frame) { // L1T1
  memset(out, 0, 16); out[0] = starts << 7 | ends << 6 | !key; put16(out + 1, frame);
  if (!key || !starts) return 3;
  writer_t w = { out, 24 };
  put_bits(&w, 0x10, 5);                                                 // a structure is attached
  put_bits(&w, 0, 6); put_bits(&w, 0, 5);                                // template id offset, one decode target
  put_bits(&w, 0, 2); put_bits(&w, 3, 2);                                // two templates of one layer
  put_bits(&w, 2, 2); put_bits(&w, 2, 2);                                // both may be switched to
  put_bits(&w, 0, 1); put_bits(&w, 1, 1); put_bits(&w, 0, 4); put_bits(&w, 0, 1); // needs nothing; needs the frame before
  put_bits(&w, 1, 1); put_bits(&w, 0, 4); put_bits(&w, 1, 4);            // one chain
  put_bits(&w, 1, 1); put_bits(&w, 1279, 16); put_bits(&w, 719, 16);
  return (w.bits + 7) / 8;
}
static int add_element(uint8_t *at, int id, const uint8_t *value, int size) {
  if (!id) return 0;
  at[0] = id << 4 | (size - 1); memcpy(at + 1, value, size); return size + 1;
}
static void send_media(stream_t *s) {
  peer_t *peer = s->peer; uint8_t packet[MAX_DATAGRAM]; memset(packet, 0, 128);
  int within = s->counter % FRAME; bool starts = s->video && !within, ends = !s->video || within == FRAME - 1;
  if (starts) { s->frame++; if (!s->wanted_key_at || s->wanted_key_at <= s->frame) { s->key = true; s->wanted_key_at = UINT32_MAX; } else s->key = false; }
  packet[0] = 0x90; packet[1] = s->pt | (s->video && ends ? 0x80 : 0);
  put16(packet + 2, s->number++); put32(packet + 4, s->timestamp); put32(packet + 8, s->ssrc);
  int at = 16; uint8_t value[32];
  put16(value, peer->transport); at += add_element(packet + at, peer->twcc, value, 2); if (peer->twcc) peer->transport++;
  value[0] = s->video ? peer->video_mid : peer->audio_mid; at += add_element(packet + at, peer->mid, value, 1);
  if (s->video) at += add_element(packet + at, peer->dd, value, write_descriptor(value, starts, ends, s->key, s->frame));
  else { value[0] = 0x80 | 30; at += add_element(packet + at, peer->level, value, 1); }
  while (at % 4) packet[at++] = 0;
  put16(packet + 12, 0xBEDE); put16(packet + 14, (at - 16) / 4);
  int size = s->video ? size_video : size_audio, begin = at;
  if (s->video) { // RFC 7741: X, S; I, L, T; 15 bits of PictureID; TL0PICIDX; TID 0
    packet[at++] = 0x80 | (starts ? 0x10 : 0); packet[at++] = 0xE0;
    put16(packet + at, 0x8000 | (s->frame & 0x7FFF)); packet[at + 2] = s->frame; packet[at + 3] = 0; at += 4;
    if (starts && s->key) { static const uint8_t clear[10] = { 0x10, 2, 0, 0x9d, 1, 0x2a, 0, 5, 0xd0, 2 }; memcpy(packet + at, clear, 10); at += 10; }
    else packet[at++] = 0x01;
  }
  memset(packet + at, 0x5A, size - at - TRAILER); at = size - TRAILER;
  put32(packet + at, MAGIC); put32(packet + at + 4, s - streams); put64(packet + at + 8, s->counter);
  uint64_t sent_at = now_ns(); put64(packet + at + 16, sent_at);
  if (sent_at >= from_ns && sent_at < until_ns) s->measured++;
  s->packets++; s->octets += size - begin; if (++s->counter >= MAX_COUNTER) die("too many packets of one stream");
  if (ends) s->timestamp += s->video ? 90000 * FRAME / rate_video : 48000 / rate_audio;
  if (srtp_protect(peer->out, packet, &size)) die("srtp_protect");
  emit(peer, packet, size);
}
static void send_sender_report(stream_t *s) {
  uint8_t p[128] = { 0x80, 200 }; put16(p + 2, 6); put32(p + 4, s->ssrc);
  double at = now_s(); uint32_t whole = at; put32(p + 8, whole + 2208988800u); put32(p + 12, (at - whole) * 4294967296.0);
  put32(p + 16, s->timestamp); put32(p + 20, s->packets); put32(p + 24, s->octets);
  emit_rtcp(s->peer, p, 28);
}
static void send_receiver_report(peer_t *peer) {
  uint8_t p[1500] = { 0x80, 201 }; int at = 8, n = peer->source_count < 31 ? peer->source_count : 31; put32(p + 4, peer->local);
  double now = now_s();
  for (int i = 0; i < n; i++, at += 24) {
    source_t *s = &peer->sources[i]; memset(p + at, 0, 24); put32(p + at, s->ssrc); put32(p + at + 8, s->highest);
    put32(p + at + 16, s->lsr); put32(p + at + 20, s->lsr ? (now - s->reported_at) * 65536 : 0);
  }
  p[0] |= n; put16(p + 2, at / 4 - 1);
  emit_rtcp(peer, p, at);
}
static void send_nacks(peer_t *peer) { // one packet a time: these are losses here and there
  uint8_t p[64 + 4 * MAX_NACKS + 512];
  while (peer->nack_count) {
    uint32_t ssrc = peer->nacks[0].ssrc; int at = 12, kept = 0;
    p[0] = 0x81; p[1] = 205; put32(p + 4, peer->local); put32(p + 8, ssrc);
    for (int i = 0; i < peer->nack_count; i++) {
      if (peer->nacks[i].ssrc == ssrc) { put16(p + at, peer->nacks[i].number); put16(p + at + 2, 0); at += 4; counts.nacks_sent++; }
      else peer->nacks[kept++] = peer->nacks[i];
    }
    peer->nack_count = kept; put16(p + 2, at / 4 - 1);
    emit_rtcp(peer, p, at);
  }
}
static void send_feedback(peer_t *peer) { // draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1, two bits a packet
  if (!peer->has_base || peer->newest + 1 == peer->base) return;
  uint32_t count = peer->newest + 1 - peer->base, first = 0; if (count > 300) { peer->base = peer->newest + 1 - 300; count = 300; }
  for (; first < count && peer->arrived_number[(peer->base + first) % HISTORY] != peer->base + first; first++);
  if (first == count) return;
  uint8_t p[2048] = { 0x8F, 205 }, deltas[1024]; int at = 20, used = 0; unsigned chunk = 0;
  uint64_t reference = peer->arrived[(peer->base + first) % HISTORY] / 64000000; int64_t previous = reference * 256;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t number = peer->base + i; unsigned symbol = 0;
    if (peer->arrived_number[number % HISTORY] == number) {
      int64_t ticks = peer->arrived[number % HISTORY] / 250000, delta = ticks - previous;
      if (delta >= 0 && delta < 256) { symbol = 1; deltas[used++] = delta; previous = ticks; }
      else if (delta >= -32768 && delta < 32768) { symbol = 2; put16(deltas + used, delta); used += 2; previous = ticks; }
    }
    chunk |= symbol << (12 - 2 * (i % 7));
    if (i % 7 == 6 || i == count - 1) { put16(p + at, 0xC000 | chunk); at += 2; chunk = 0; }
  }
  memcpy(p + at, deltas, used); at += used; while (at % 4) p[at++] = 0;
  put32(p + 4, peer->local); put32(p + 8, 0); put16(p + 12, peer->base); put16(p + 14, count);
  put32(p + 16, (uint32_t)(reference & 0xFFFFFF) << 8 | peer->feedback_count++); put16(p + 2, at / 4 - 1);
  peer->base += count; counts.feedback_sent++;
  emit_rtcp(peer, p, at);
}

// ------------------------------------------------------------------ receiving
static source_t *source_of(peer_t *peer, uint32_t ssrc) {
  for (int i = 0; i < peer->source_count; i++) if (peer->sources[i].ssrc == ssrc) return &peer->sources[i];
  if (peer->source_count == MAX_SSRCS) return 0;
  source_t *s = &peer->sources[peer->source_count++]; memset(s, 0, sizeof *s); s->ssrc = ssrc; return s;
}
static void note_transport(peer_t *peer, uint16_t number, uint64_t arrived_at) {
  if (!peer->has_base) { peer->has_base = true; peer->base = peer->newest = 65536 + number; }
  uint32_t extended = peer->newest + (int16_t)(number - (uint16_t)peer->newest);
  if (extended > peer->newest) peer->newest = extended;
  peer->arrived[extended % HISTORY] = arrived_at; peer->arrived_number[extended % HISTORY] = extended;
}
static void take_transport(peer_t *peer, const uint8_t *data, int size, int begin, uint64_t arrived_at) {
  if (!peer->twcc || !(data[0] & 0x10) || size < begin || get16(data + 12) != 0xBEDE) return;
  for (int at = 16; at < begin;) {
    int id = data[at] >> 4, length = (data[at] & 15) + 1; if (!id) { at++; continue; }
    if (id == peer->twcc && length == 2 && at + 2 < begin) { note_transport(peer, get16(data + at + 1), arrived_at); return; }
    at += length + 1;
  }
}
static void take_rtcp(peer_t *peer, uint8_t *data, int size) {
  if (srtp_unprotect_rtcp(peer->in, data, &size)) { counts.unauthentic++; return; }
  counts.rtcp++;
  for (int at = 0; at + 4 <= size;) {
    int type = data[at + 1], kind = data[at] & 31, length = 4 * (get16(data + at + 2) + 1); if (at + length > size) return;
    if (type == 200 && length >= 28) {
      source_t *s = source_of(peer, get32(data + at + 4)); if (s) { s->lsr = get32(data + at + 10); s->reported_at = now_s(); }
    } else if (type == 206 && (kind == 1 || kind == 4)) {
      counts.keys_asked++;
      for (int i = 0; i < stream_count; i++) if (streams[i].peer == peer && streams[i].video && streams[i].wanted_key_at == UINT32_MAX) streams[i].wanted_key_at = streams[i].frame + 1;
    } else if (type == 205 && kind == 1) counts.nacks_heard++;
    else if (type == 205 && kind == 15) counts.feedback_heard++;
    at += length;
  }
}
static void take_media(peer_t *peer, uint8_t *data, int size, uint64_t arrived_at) {
  if (srtp_unprotect(peer->in, data, &size)) { counts.unauthentic++; return; }
  int begin = 12 + 4 * (data[0] & 15); if (data[0] & 0x10 && size >= begin + 4) begin += 4 + 4 * get16(data + begin + 2);
  if (measuring) measured_received++;
  const uint8_t *end = data + size - TRAILER;
  if (size < begin + TRAILER || get32(end) != MAGIC || (int)get32(end + 4) >= stream_count || get32(end + 12) >= MAX_COUNTER) {
    take_transport(peer, data, size, begin, arrived_at); counts.foreign++; return; // a probe is padding
  }
  uint32_t stream = get32(end + 4), counter = get32(end + 12); uint64_t sent_at = (uint64_t)get32(end + 16) << 32 | get32(end + 20);
  bool video = streams[stream].video; counts.received++;
  size_t at = ((size_t)stream * MAX_COUNTER + counter) / 64; uint64_t *word = &peer->seen[at], *lost = &peer->lost[at], bit = 1ull << counter % 64;
  source_t *source = source_of(peer, get32(data + 8)); uint16_t number = get16(data + 2);
  bool is_new = source && (!source->highest || (int16_t)(number - (uint16_t)source->highest) > 0);
  if (is_new) source->highest = source->highest ? source->highest + (uint16_t)(number - (uint16_t)source->highest) : 65536u + number;
  if (video && drop_percent > 0 && is_new && !((*word | *lost) & bit) && drand48() * 100 < drop_percent && peer->nack_count < MAX_NACKS) {
    *lost |= bit; // As if the path had lost it, once: neither feedback nor the count know of it, and it is asked for.
    peer->nacks[peer->nack_count].ssrc = source->ssrc; peer->nacks[peer->nack_count++].number = number; counts.dropped++;
    return;
  }
  take_transport(peer, data, size, begin, arrived_at);
  if (*word & bit) { counts.duplicate++; return; }
  *word |= bit;
  if (sent_at < from_ns || sent_at >= until_ns) return;
  counts.unique++;
  if (latency_count < MAX_SAMPLES && is_new) latencies[latency_count++] = arrived_at > sent_at ? (arrived_at - sent_at) / 100 : 0;
}
static void drain(peer_t *peer) {
  static uint8_t buffers[BATCH][MAX_DATAGRAM]; static union { struct cmsghdr align; uint8_t bytes[64]; } control[BATCH];
  static struct mmsghdr messages[BATCH]; static struct iovec vectors[BATCH];
  for (int got = BATCH; got == BATCH;) {
    for (int i = 0; i < BATCH; i++) {
      vectors[i] = (struct iovec){ buffers[i], MAX_DATAGRAM };
      messages[i].msg_hdr = (struct msghdr){ .msg_iov = &vectors[i], .msg_iovlen = 1, .msg_control = &control[i], .msg_controllen = sizeof control[i] };
    }
    got = recvmmsg(peer->fd, messages, BATCH, MSG_DONTWAIT, 0);
    for (int i = 0; i < got; i++) {
      uint8_t *data = buffers[i]; int size = messages[i].msg_len; uint64_t at = 0; if (size < 12 || data[0] >> 6 != 2) continue;
      for (struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr); c; c = CMSG_NXTHDR(&messages[i].msg_hdr, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) { struct timespec t; memcpy(&t, CMSG_DATA(c), sizeof t); at = t.tv_sec * 1000000000ull + t.tv_nsec; }
      if (!at) at = now_ns();
      if (data[1] >= 192 && data[1] <= 223) take_rtcp(peer, data, size); else take_media(peer, data, size, at);
    }
  }
}

// ------------------------------------------------------------------ the plan
static void add_stream(peer_t *peer, bool video, uint32_t ssrc, int pt) {
  if (stream_count == MAX_STREAMS) die("more than %d streams", MAX_STREAMS);
  double rate = video ? rate_video : rate_audio; if (rate <= 0) return;
  stream_t *s = &streams[stream_count++]; int many = video ? burst : 1;
  *s = (stream_t){ .peer = peer, .video = video, .ssrc = ssrc, .pt = pt, .number = 1000 + ssrc % 1000, .burst = many, .interval = many / rate, .timestamp = ssrc };
}
static void read_plan(void) {
  char *line = 0; size_t room = 0;
  while (getline(&line, &room, stdin) > 0) {
    if (peer_count == MAX_PEERS) die("more than %d peers", MAX_PEERS);
    peer_t *p = peers[peer_count++] = calloc(1, sizeof *p); char role[8], profile[64], out[160], in[160], check[2 * MAX_STUN + 1];
    uint32_t video_ssrc, audio_ssrc; int video_pt, audio_pt;
    int n = sscanf(line, "%7s %d %63s %159s %159s %512s %d %d %d %d %c %c %u %d %u %d", role, &p->fd, profile, out, in, check, &p->twcc, &p->mid,
                   &p->dd, &p->level, &p->video_mid, &p->audio_mid, &video_ssrc, &video_pt, &audio_ssrc, &audio_pt);
    p->publishes = !strcmp(role, "pub"); if (n != (p->publishes ? 16 : 7)) die("%d fields in %s", n, line);
    p->out = make_srtp(profile, out, ssrc_any_outbound); p->in = make_srtp(profile, in, ssrc_any_inbound);
    p->check_size = unhex(check, p->check, MAX_STUN); p->local = 0x10000000 + peer_count;
    int on = 1, many = 16 << 20; setsockopt(p->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    if (setsockopt(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, &many, sizeof many)) setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &many, sizeof many);
    if (p->publishes) { add_stream(p, true, video_ssrc, video_pt); add_stream(p, false, audio_ssrc, audio_pt); } else subscriber_count++;
  }
  free(line);
  for (int i = 0; i < peer_count; i++) {
    size_t words = (size_t)stream_count * MAX_COUNTER / 64; peer_t *p = peers[i];
    if (!p->publishes && (!(p->seen = calloc(words, 8)) || !(p->lost = calloc(words, 8)))) die("no memory");
  }
}
static int compare(const void *a, const void *b) { uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b; return x < y ? -1 : x > y; }
static double percentile(double part) { return latency_count ? latencies[(uint32_t)(part * (latency_count - 1))] / 10.0 : -1; }

int main(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i], *value = argv[i + 1];
    if (!strcmp(name, "--seconds")) seconds = atof(value); else if (!strcmp(name, "--warmup")) warmup = atof(value);
    else if (!strcmp(name, "--video-rate")) rate_video = atof(value); else if (!strcmp(name, "--audio-rate")) rate_audio = atof(value);
    else if (!strcmp(name, "--size")) size_video = atoi(value); else if (!strcmp(name, "--burst")) burst = atoi(value);
    else if (!strcmp(name, "--drop")) drop_percent = atof(value); else if (!strcmp(name, "--pids")) pids = value;
    else if (!strcmp(name, "--kthreads")) kthreads = value; else die("unknown option %s", name);
  }
  if (seconds + warmup > MAX_SECONDS || seconds <= 0 || warmup < 0) die("at most %.0f s", MAX_SECONDS);
  if (size_video < 160 || size_video > 1200 || burst < 1 || burst > 64) die("--size is 160 to 1200, --burst 1 to 64");
  if (srtp_init()) die("srtp_init");
  read_plan(); latencies = malloc(sizeof *latencies * MAX_SAMPLES); if (!latencies) die("no memory"); srand48(1);
  mlockall(MCL_CURRENT);
  double start = now_s() + 0.05, begin = start + warmup, end = begin + seconds, drain_at = start, nack_at = start, feedback_at = start, report_at = start + 0.2, check_at = start;
  for (int i = 0; i < stream_count; i++) streams[i].next = start + streams[i].interval * i / stream_count;
  double run[2] = { 0 }, kernel[2] = { 0 }, own[2] = { 0 }; int phase = 0;
  for (double now = now_s(); now < end + TAIL; now = now_s()) {
    if (phase == 0 && now >= begin) { from_ns = now_ns(); measuring = true; run[0] = sum_over(pids); kernel[0] = sum_over(kthreads); own[0] = read_run("/proc/self/task/*/schedstat"); phase = 1; }
    if (phase == 1 && now >= end) { until_ns = now_ns(); measuring = false; run[1] = sum_over(pids); kernel[1] = sum_over(kthreads); own[1] = read_run("/proc/self/task/*/schedstat"); phase = 2; seconds = (until_ns - from_ns) * 1e-9; }
    double next = drain_at;
    if (phase < 2) for (int i = 0; i < stream_count; i++) {
      stream_t *s = &streams[i];
      if (s->next <= now) { for (int k = 0; k < s->burst; k++) send_media(s); s->next += s->interval; }
      if (s->next < next) next = s->next;
    }
    if (drain_at <= now) { for (int i = 0; i < peer_count; i++) drain(peers[i]); drain_at = now + DRAIN; }
    if (nack_at <= now) { nack_at = now + NACK; for (int i = 0; i < peer_count; i++) send_nacks(peers[i]); }
    if (feedback_at <= now) { feedback_at = now + FEEDBACK; for (int i = 0; i < peer_count; i++) if (!peers[i]->publishes) send_feedback(peers[i]); }
    if (report_at <= now) { report_at = now + REPORT; for (int i = 0; i < stream_count; i++) send_sender_report(&streams[i]); for (int i = 0; i < peer_count; i++) if (!peers[i]->publishes) send_receiver_report(peers[i]); }
    if (check_at <= now) { check_at = now + CHECK; for (int i = 0; i < peer_count; i++) emit(peers[i], peers[i]->check, peers[i]->check_size); }
    if (next > (now = now_s())) { struct timespec pause = { 0, (next - now) * 1e9 }; nanosleep(&pause, 0); }
  }
  uint64_t sent = 0; for (int i = 0; i < stream_count; i++) sent += streams[i].measured;
  uint64_t expected = sent * subscriber_count; double packets = measured_received ? measured_received : 1;
  qsort(latencies, latency_count, sizeof *latencies, compare);
  printf("{\"subscribers\":%d,\"streams\":%d,\"seconds\":%.3f,\"sent\":%lu,\"expected\":%lu,\"unique\":%lu,\"out\":%lu,\"loss\":%.6f,\"p50\":%.1f,\"p99\":%.1f,"
         "\"cpu\":%.3f,\"run\":%.3f,\"kernel\":%.3f,\"generator\":%.3f,\"duplicate\":%lu,\"dropped\":%lu,\"foreign\":%lu,\"unauthentic\":%lu,"
         "\"nacks_sent\":%lu,\"nacks_heard\":%lu,\"keys_asked\":%lu,\"feedback_sent\":%lu,\"feedback_heard\":%lu,\"rtcp\":%lu,\"send_failed\":%lu}\n",
         subscriber_count, stream_count, seconds, sent, expected, counts.unique, measured_received, expected ? 1 - (double)counts.unique / expected : 0,
         percentile(.5), percentile(.99), 1e6 * (run[1] - run[0] + kernel[1] - kernel[0]) / packets, 1e6 * (run[1] - run[0]) / packets,
         1e6 * (kernel[1] - kernel[0]) / packets, 1e6 * (own[1] - own[0]) / packets, counts.duplicate, counts.dropped, counts.foreign,
         counts.unauthentic, counts.nacks_sent, counts.nacks_heard, counts.keys_asked, counts.feedback_sent, counts.feedback_heard, counts.rtcp, counts.send_failed);
  return 0;
}
