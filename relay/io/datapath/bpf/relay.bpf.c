// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* The kernel's share of the forwarding plane: what belongs to a known flow goes on, everything else goes up unchanged.
 *
 *   client -> ChannelData or Send indication -> UDP to the peer
 *   peer   -> UDP                            -> ChannelData or Data indication to the client
 *   both, if the peer is a relayed transport address of the same process (`MEETS`)
 *
 * It is told by program.py what to do and decides nothing. Two programs share all but their ends: `tcx_ingress` sees
 * socket buffers and leaves the link-layer address to the kernel's neighbour table, `xdp_ingress` sees frames before
 * there is a socket buffer and asks for the way by bpf_fib_lookup.
 *
 * No header of libbpf is used: the few helpers have their numbers here. Little-endian machines only, as the loader.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline
/* At the end of a branch: or the compiler makes one store of two, with an offset that the verifier does not like. */
#define KEEP_APART(branch) __asm__ volatile("# " branch ::: "memory")
#define be16(x) ((__be16)__builtin_bswap16(x))
#define be32(x) ((__be32)__builtin_bswap32(x))

#define HELPER(result, name, function, ...) static result (*const name)(__VA_ARGS__) = (void *)BPF_FUNC_##function
HELPER(void *, map_lookup, map_lookup_elem, void *map, const void *key);
HELPER(__u64, ktime_ns, ktime_get_ns, void);
HELPER(__u32, random32, get_prandom_u32, void);
HELPER(long, check_mtu, check_mtu, void *ctx, __u32 ifindex, __u32 *length, __s32 more, __u64 flags);
HELPER(long, redirect, redirect, __u32 ifindex, __u64 flags);
HELPER(long, redirect_neigh, redirect_neigh, __u32 ifindex, struct bpf_redir_neigh *next, int size, __u64 flags);
HELPER(long, fib_lookup, fib_lookup, void *ctx, struct bpf_fib_lookup *way, int size, __u32 flags);
HELPER(long, skb_pull, skb_pull_data, struct __sk_buff *skb, __u32 length);
HELPER(long, skb_load, skb_load_bytes, const void *skb, __u32 at, void *to, __u32 length);
HELPER(long, skb_store, skb_store_bytes, struct __sk_buff *skb, __u32 at, const void *from, __u32 length, __u64 flags);
HELPER(long, skb_tail, skb_change_tail, struct __sk_buff *skb, __u32 length, __u64 flags);
HELPER(long, skb_room, skb_adjust_room, struct __sk_buff *skb, __s32 more, __u32 mode, __u64 flags);
HELPER(long, skb_proto, skb_change_proto, struct __sk_buff *skb, __be16 protocol, __u64 flags);
HELPER(long, xdp_head, xdp_adjust_head, struct xdp_md *xdp, int by);
HELPER(long, xdp_tail, xdp_adjust_tail, struct xdp_md *xdp, int by);
HELPER(__u64, xdp_length, xdp_get_buff_len, struct xdp_md *xdp);
HELPER(long, xdp_load, xdp_load_bytes, struct xdp_md *xdp, __u32 at, void *to, __u32 length);
HELPER(long, xdp_store, xdp_store_bytes, struct xdp_md *xdp, __u32 at, void *from, __u32 length);

#define NEXT (-1)   /* TCX_NEXT: whoever else is attached, then the kernel's own stack */
#define NOTED 0x52435550 /* in cb[0], which belongs to whoever looks at a packet here */
#define SHOT 2      /* TC_ACT_SHOT */
#define HOST 0      /* PACKET_HOST: the frame was sent to this interface's own address */
#define COOKIE be32(0x2112a442)
#define SEND_TYPE be16(0x0016)
#define DATA_TYPE be16(0x0017)
#define XOR_PEER_ADDRESS be16(0x0012)
#define DATA be16(0x0013)
#define FAMILY_V4 1 /* as in XOR-PEER-ADDRESS */
#define FAMILY_V6 2
#define UDP_PROTOCOL (__u64)be16(IPPROTO_UDP)
#define COOKIE_PORT 0x2112
#define STUN_HEAD 20u
#define CHANNEL_HEAD 4u
#define V4_HEAD 36u /* of an indication: header 20, XOR-PEER-ADDRESS 12, head of DATA 4 */
#define V6_HEAD 48u
#define ETH 14u
#define UDP 8u
#define NULL ((void *)0)
#define LONGEST_HEADS (ETH + 40 + UDP + V6_HEAD)
#define MOST_PADDING 3u
#define FINGERPRINT 8u
#define FINGERPRINT_HEAD be32(0x80280004)
#define BURST 1000000000ull /* ns: how much unused time a bucket keeps */
#define HEARD_EVERY 1000000000ull /* ns: how often a slot is told that its client is heard */
#define COST_SHIFT 16       /* a cost per byte or packet is in ns * 2^16 */
#define MORE_FRAGMENTS be16(0x3fff) /* or a fragment offset */
#define DONT_FRAGMENT be16(0x4000)
#define SLOT_WORDS 16

/* What program.py reads and writes: keep in step with layout.py. */

/* MEET is never read from a packet: who forges the address of a relayed client as his own does not find its flow. */
enum kind { CHANNEL, SEND_V4, PEER, MEET, SEND_V6 };

struct way {
  __be32 remote[4], local[4], peer[4]; /* of IPv4 the last word, the others zero */
  __be16 remote_port, local_port, peer_port; /* the last one is the channel number of CHANNEL */
  __u8 kind, family; /* the family is that of remote and local */
};

#define MEETS 1
#define NEXT_HOP_V6 2
#define AF_INET 2
#define AF_INET6 10

struct onward {
  __be32 source[4], destination[4];
  __be16 source_port, destination_port, number; /* number: to a client; 0 = in a Data indication */
  __u8 family, flags;
  __u32 slot, interface;
  __be32 flow_label;
  __u16 arrives;  /* the interface that its packets come in by, the low half of its index; 0 = any */
  __u16 path_mtu; /* bytes of an IP packet; 0 = what the link takes */
  __u64 expires_at;
  __be32 next_hop[4]; /* for tcx; an IPv4 address is the first word, as in struct bpf_redir_neigh */
  __u64 check;        /* of the key and all of this, see `look_up` */
};

#define WAY_WORDS 7 /* of 64 bits */
#define ONWARD_WORDS 11
#define CHECK_FACTOR 0x9e3779b97f4a7c15ull

/* Packets, bytes and buckets of one relayed transport address; each direction has a cache line. A bucket is the
 * instant at which it is full again; costs are zero where there is no limit. `heard_at` of `to_peer` is when the client
 * was heard here under its own address and ours, to a second: where an address is translated behind this hook it never
 * is, and nothing may be sent to it from here (offload.py). */
struct direction {
  __u64 packets, bytes, until, cost_per_byte, until_packets, cost_per_packet, heard_at, unused;
};

struct slot {
  struct direction to_peer, to_client;
};

/* Why a packet goes up; order and names are those of `Passed` in flow.py. Those from JOINED on are counted. */
enum reason {
  FORWARD, ALIEN, JOINED, FRAGMENT, OPTIONS, HOPS, LENGTHS, CHECKSUM, STUN, UNKNOWN, CHANGED, EXPIRED, INTERFACE,
  TOO_BIG, NO_ROUTE, NO_ROOM, REASONS
};
enum drop { BANDWIDTH, PEER_RATE, SEND_FAILED, DROPS };

struct definition {
  __u32 type, key_size, value_size, max_entries, flags;
};

struct definition flows SEC("maps") = {BPF_MAP_TYPE_HASH, sizeof(struct way), sizeof(struct onward), 1, 0};
struct definition locals SEC("maps") = {BPF_MAP_TYPE_HASH, 20, 4, 1, 0}; /* whether other workers share it */
struct definition slots SEC("maps") = {BPF_MAP_TYPE_ARRAY, 4, sizeof(struct slot), 1, BPF_F_MMAPABLE};
struct definition events SEC("maps") = {BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 1, 0}; /* by reason, then by drop */

/* A packet that has been looked at. Offsets and sizes are bytes. */
struct packet {
  struct way way;
  __u64 pseudo;   /* sum of the words of the pseudo-header */
  __u64 sum;      /* the same, ports and length */
  __u64 head_sum; /* of those of the TURN header */
  __u32 l3;          /* IP header */
  __u32 size;        /* of the UDP payload */
  __u32 head;        /* TURN header */
  __u32 data;        /* what is relayed */
  __u32 fingerprint; /* FINGERPRINT with its head, at the end */
  __u16 checksum;
  __u8 dscp_ecn, hops, keep_whole, is_stun;
};

/* The headers that replace those up to the relayed data; the IPv4 header ends where the IPv6 header does. */
struct heads {
  union {
    struct ipv6hdr v6;
    struct {
      __u32 gap[5];
      struct iphdr v4;
    };
  };
  struct udphdr udp;
  __be32 turn[12];
  __be32 zeros[1];
};

/* Internet checksums (RFC 1071). Words are summed as they lie in memory: the sum does not depend on the byte order. */

INLINE __u16 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

/* No loops: without CAP_PERFMON the verifier wants every offset into a packet to be a constant. */
INLINE __u64 sum4(const __be32 *words) {
  return (__u64)words[0] + words[1] + words[2] + words[3];
}

INLINE __u64 sum12(const __be32 *words) {
  return sum4(words) + sum4(words + 4) + sum4(words + 8);
}

INLINE __u64 sum_of_ipv4_header(const struct iphdr *ip) {
  const __be32 *words = (const __be32 *)ip;
  return sum4(words) + words[4];
}

/* Parsing. Everything read is checked against `end` first; the frame may be longer than the datagram (padding). */

INLINE enum reason parse_v4(struct packet *packet, const struct iphdr *ip, const void *end, __u32 frame) {
  if ((const void *)(ip + 1) > end) return ALIEN;
  if (ip->version != 4 || ip->protocol != IPPROTO_UDP) return ALIEN;
  __u32 length = be16(ip->tot_len);
  packet->way.family = FAMILY_V4;
  packet->way.remote[3] = ip->saddr;
  packet->way.local[3] = ip->daddr;
  if (ip->ihl != 5) return OPTIONS;
  if (ip->frag_off & MORE_FRAGMENTS) return FRAGMENT;
  if (length < 20 + UDP || length > frame - ETH) return LENGTHS;
  if (fold(sum_of_ipv4_header(ip)) != 0xffff) return CHECKSUM;
  packet->pseudo = (__u64)ip->saddr + ip->daddr;
  packet->l3 = 20;
  packet->size = length - 20 - UDP;
  packet->dscp_ecn = ip->tos;
  packet->hops = ip->ttl;
  packet->keep_whole = (ip->frag_off & DONT_FRAGMENT) != 0;
  return FORWARD;
}

INLINE enum reason parse_v6(struct packet *packet, const struct ipv6hdr *ip, const void *end, __u32 frame) {
  if ((const void *)(ip + 1) > end) return ALIEN;
  if (ip->version != 6) return ALIEN;
  __u32 length = be16(ip->payload_len);
  packet->way.family = FAMILY_V6;
  __builtin_memcpy(packet->way.remote, &ip->saddr, 16);
  __builtin_memcpy(packet->way.local, &ip->daddr, 16);
  if (ip->nexthdr == IPPROTO_FRAGMENT) return FRAGMENT;
  if (ip->nexthdr != IPPROTO_UDP) return ALIEN;
  if (length < UDP || length > frame - ETH - 40) return LENGTHS;
  packet->pseudo = sum4(packet->way.remote) + sum4(packet->way.local);
  packet->l3 = 40;
  packet->size = length - UDP;
  packet->dscp_ecn = ip->priority << 4 | ip->flow_lbl[0] >> 4;
  packet->hops = ip->hop_limit;
  packet->keep_whole = 0;
  return FORWARD;
}

INLINE enum reason parse_udp(struct packet *packet, const struct udphdr *udp, const void *end) {
  if ((const void *)(udp + 1) > end) return LENGTHS;
  packet->way.remote_port = udp->source;
  packet->way.local_port = udp->dest;
  if (be16(udp->len) != packet->size + UDP) return LENGTHS;
  packet->pseudo += UDP_PROTOCOL + udp->len;
  packet->sum = packet->pseudo + udp->source + udp->dest + udp->len;
  packet->checksum = udp->check;
  if (packet->hops < 2) return HOPS;
  return FORWARD;
}

/* A ChannelData message whose padding is at most what RFC 8656 §12.5 allows. */
INLINE int is_channel_data(struct packet *packet, const __be16 *head, const void *end) {
  if ((const void *)(head + 2) > end || packet->size < CHANNEL_HEAD) return 0;
  if ((*(const __u8 *)head & 0xc0) != 0x40) return 0;
  __u32 data = be16(head[1]);
  if (CHANNEL_HEAD + data > packet->size || packet->size - CHANNEL_HEAD - data > MOST_PADDING) return 0;
  packet->way.kind = CHANNEL;
  packet->way.peer_port = head[0];
  packet->head = CHANNEL_HEAD;
  packet->data = data;
  packet->head_sum = *(const __be32 *)head;
  return 1;
}

/* A Send indication of the one shape that browsers send: XOR-PEER-ADDRESS, DATA, perhaps FINGERPRINT, nothing else.
 * Whether the last one is a FINGERPRINT is seen later (`load_rest`). Its value is not verified, as in user space: it is
 * to tell STUN from other protocols (RFC 8489 §14.7), which cookie, lengths and a known peer have done. */
INLINE int is_send(struct packet *packet, const __be32 *head, const void *end) {
  const __be16 *shorts = (const __be16 *)head;
  if ((const void *)head + V4_HEAD > end || packet->size < V4_HEAD) return 0;
  if (shorts[0] != SEND_TYPE || head[1] != COOKIE || be16(shorts[1]) != packet->size - STUN_HEAD) return 0;
  if (shorts[10] != XOR_PEER_ADDRESS) return 0;
  __u32 length, data;
  __be16 attribute;
  __be32 peer[4] = {};
  if (shorts[11] == be16(8) && shorts[12] == be16(FAMILY_V4)) {
    peer[3] = head[7] ^ COOKIE;
    packet->head_sum = sum4(head) + sum4(head + 4) + head[8];
    attribute = shorts[16];
    data = be16(shorts[17]);
    length = V4_HEAD;
    KEEP_APART("4");
  } else if (shorts[11] == be16(20) && shorts[12] == be16(FAMILY_V6)) {
    if ((const void *)head + V6_HEAD > end || packet->size < V6_HEAD) return 0;
    peer[0] = head[7] ^ COOKIE;
    peer[1] = head[8] ^ head[2];
    peer[2] = head[9] ^ head[3];
    peer[3] = head[10] ^ head[4];
    packet->head_sum = sum12(head);
    attribute = shorts[22];
    data = be16(shorts[23]);
    length = V6_HEAD;
    KEEP_APART("6");
  } else {
    return 0;
  }
  if (attribute != DATA) return 0;
  __u32 whole = length + ((data + 3) & ~3u);
  if (whole != packet->size && whole + FINGERPRINT != packet->size) return 0;
  packet->fingerprint = packet->size - whole;
  __builtin_memcpy(packet->way.peer, peer, sizeof peer);
  packet->way.peer_port = shorts[13] ^ be16(COOKIE_PORT);
  packet->way.kind = length == V4_HEAD ? SEND_V4 : SEND_V6;
  packet->head = length;
  packet->data = data;
  return 1;
}

/* As what a peer sends: all of it is data. */
INLINE void take_for_peers(struct packet *packet) {
  packet->way.kind = PEER;
  packet->way.peer_port = 0;
  __builtin_memset(packet->way.peer, 0, sizeof packet->way.peer);
  packet->head = 0;
  packet->fingerprint = 0;
  packet->head_sum = 0;
  packet->data = packet->size;
}

INLINE enum reason parse(struct packet *packet, const void *data, const void *end, __u32 frame) {
  const struct ethhdr *eth = data;
  if ((const void *)(eth + 1) > end) return ALIEN;
  const struct udphdr *udp;
  enum reason reason;
  if (eth->h_proto == be16(ETH_P_IP)) {
    reason = parse_v4(packet, data + ETH, end, frame);
    udp = data + ETH + 20;
  } else if (eth->h_proto == be16(ETH_P_IPV6)) {
    reason = parse_v6(packet, data + ETH, end, frame);
    udp = data + ETH + 40;
  } else {
    return ALIEN;
  }
  if (reason == FORWARD) reason = parse_udp(packet, udp, end);
  if (reason != FORWARD) return reason;
  const __u8 *first = (const void *)(udp + 1);
  packet->is_stun = (const void *)(first + 1) <= end && packet->size >= STUN_HEAD && *first < 4;
  if (!is_channel_data(packet, (const void *)(udp + 1), end) && !is_send(packet, (const void *)(udp + 1), end))
    take_for_peers(packet);
  return FORWARD;
}

/* Whether it is certain at first sight that it is not UDP. */
INLINE int is_something_else(const void *data, const void *end) {
  const struct ethhdr *eth = data;
  if ((const void *)(eth + 1) > end) return 0;
  if (eth->h_proto == be16(ETH_P_IP)) {
    const struct iphdr *ip = data + ETH;
    return (const void *)(ip + 1) <= end && ip->protocol != IPPROTO_UDP;
  }
  const struct ipv6hdr *ip = data + ETH;
  return (const void *)(ip + 1) <= end && ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_FRAGMENT;
}

/* Looking up what becomes of it */

struct decision {
  struct onward onward;
  struct direction *to_peer, *to_client; /* whose counters and buckets are concerned; one of them may be NULL */
  /* Of the packet that leaves, in bytes. Words of 64 bits: where a pointer has lain on the stack, the verifier without
   * CAP_PERFMON lets nothing smaller be written. */
  __u64 l3, head, padding;
  __u64 is_unsummed; /* it leaves without a checksum, as IPv4 allows */
};

INLINE struct slot *slot_of(const struct decision *decision) {
  __u32 key = decision->onward.slot;
  return map_lookup(&slots, &key);
}

/* Take a copy of what becomes of such a packet. The kernel gives the place of a flow that is removed or replaced to
 * another one at once, without waiting for who still reads it; the check tells that the copy is whole, and of this key. */
INLINE enum reason look_up(const struct packet *packet, struct decision *decision) {
  const volatile __u64 *found = map_lookup(&flows, &packet->way);
  if (!found) return UNKNOWN;
  const __u64 *key = (const __u64 *)&packet->way;
  __u64 *copy = (__u64 *)&decision->onward, sum = 0, factor = CHECK_FACTOR;
#define TAKE(word) (sum += (word) * factor, factor *= CHECK_FACTOR)
#define COPY(at) (copy[at] = found[at], TAKE(copy[at]))
  TAKE(key[0]), TAKE(key[1]), TAKE(key[2]), TAKE(key[3]), TAKE(key[4]), TAKE(key[5]), TAKE(key[6]);
  COPY(0), COPY(1), COPY(2), COPY(3), COPY(4), COPY(5), COPY(6), COPY(7), COPY(8), COPY(9);
  return sum == found[ONWARD_WORDS - 1] ? FORWARD : CHANGED;
}

INLINE enum reason find(struct packet *packet, struct decision *decision, __u64 now, __u32 came_by) {
  struct onward *onward = &decision->onward;
  enum reason reason = look_up(packet, decision);
  if (reason == UNKNOWN && packet->way.kind != PEER) {
    take_for_peers(packet);
    reason = look_up(packet, decision);
  }
  if (reason == UNKNOWN && packet->is_stun) return STUN;
  if (reason != FORWARD) return reason;
  if (onward->expires_at <= now) return EXPIRED;
  if (onward->arrives && onward->arrives != (__u16)came_by) return INTERFACE;
  struct slot *slot = slot_of(decision);
  if (!slot) return UNKNOWN;
  decision->to_peer = decision->to_client = NULL;
  if (packet->way.kind == PEER) {
    decision->to_client = &slot->to_client;
  } else {
    decision->to_peer = &slot->to_peer;
    /* Before the second lookup: two clients that meet would wait for each other. */
    if (now - slot->to_peer.heard_at > HEARD_EVERY) slot->to_peer.heard_at = now;
    if (onward->flags & MEETS) {
      /* The relayed address of another client: from here on it is what that address receives. */
      __builtin_memcpy(packet->way.remote, onward->source, 16);
      __builtin_memcpy(packet->way.local, onward->destination, 16);
      __builtin_memset(packet->way.peer, 0, 16);
      packet->way.remote_port = onward->source_port;
      packet->way.local_port = onward->destination_port;
      packet->way.peer_port = 0;
      packet->way.kind = MEET;
      packet->way.family = onward->family;
      reason = look_up(packet, decision);
      if (reason != FORWARD) return reason;
      if (onward->expires_at <= now) return EXPIRED;
      slot = slot_of(decision);
      if (!slot) return UNKNOWN;
      decision->to_client = &slot->to_client;
    }
  }
  decision->l3 = onward->family == FAMILY_V4 ? 20 : 40;
  decision->head = decision->padding = 0;
  if (decision->to_client) {
    decision->head = onward->number ? CHANNEL_HEAD : packet->way.family == FAMILY_V4 ? V4_HEAD : V6_HEAD;
    if (!onward->number) decision->padding = -packet->data & 3;
  }
  return FORWARD;
}

/* Whoever computes the checksum on sending (CHECKSUM_PARTIAL, from the same host) has put the sum of the pseudo-header
 * there for now. Of a socket buffer that cannot be mended, and IPv6 must not go without one. */
INLINE enum reason look_at_checksum(const struct packet *packet, struct decision *decision, int can_mend) {
  int is_unfinished = packet->checksum == fold(packet->pseudo);
  decision->is_unsummed = packet->checksum == 0 || is_unfinished;
  if (!decision->is_unsummed) return FORWARD;
  if (is_unfinished && !can_mend) return CHECKSUM;
  return packet->l3 == 20 && decision->l3 == 20 ? FORWARD : CHECKSUM;
}

INLINE __u32 bytes_on_the_way(const struct packet *packet, const struct decision *decision) {
  return decision->l3 + UDP + decision->head + packet->data + decision->padding;
}

/* For the path, as far as it is known; the link is asked besides. */
INLINE int is_too_big(const struct decision *decision, __u32 length) {
  return decision->onward.path_mtu && length > decision->onward.path_mtu;
}

/* Limits */

INLINE int is_empty(const __u64 *until, __u64 now) {
  return *(const volatile __u64 *)until > now + BURST;
}

INLINE void charge(__u64 *until, __u64 now, __u64 cost) {
  __u64 seen = *(volatile __u64 *)until;
  __u64 from = seen > now ? seen : now;
  /* If another processor was quicker, the bucket is not full any more: what is missing is added to it. */
  if (__sync_val_compare_and_swap(until, seen, from + cost) != seen) __sync_fetch_and_add(until, cost);
}

/* Whether the buckets have room, which is taken then. Returns a drop, or DROPS. */
INLINE enum drop admit(const struct decision *decision, __u64 data, __u64 now) {
  struct direction *to_peer = decision->to_peer, *to_client = decision->to_client;
  if (to_peer && to_peer->cost_per_byte && is_empty(&to_peer->until, now)) return BANDWIDTH;
  if (to_client && to_client->cost_per_byte && is_empty(&to_client->until, now)) return BANDWIDTH;
  if (to_client && to_client->cost_per_packet && is_empty(&to_client->until_packets, now)) return PEER_RATE;
  if (to_peer && to_peer->cost_per_byte) charge(&to_peer->until, now, data * to_peer->cost_per_byte >> COST_SHIFT);
  if (to_client && to_client->cost_per_byte)
    charge(&to_client->until, now, data * to_client->cost_per_byte >> COST_SHIFT);
  if (to_client && to_client->cost_per_packet)
    charge(&to_client->until_packets, now, to_client->cost_per_packet >> COST_SHIFT);
  return DROPS;
}

INLINE void count(const struct decision *decision, __u64 data) {
  if (decision->to_peer) {
    __sync_fetch_and_add(&decision->to_peer->packets, 1);
    __sync_fetch_and_add(&decision->to_peer->bytes, data);
  }
  if (decision->to_client) {
    __sync_fetch_and_add(&decision->to_client->packets, 1);
    __sync_fetch_and_add(&decision->to_client->bytes, data);
  }
}

/* Writing */

INLINE void write_turn(__be32 *turn, const struct packet *packet, const struct decision *decision) {
  __be16 *shorts = (__be16 *)turn;
  if (decision->head == CHANNEL_HEAD) {
    shorts[0] = decision->onward.number;
    shorts[1] = be16(packet->data);
  } else if (decision->head) {
    const struct way *from = &packet->way;
    shorts[0] = DATA_TYPE;
    shorts[1] = be16(decision->head - STUN_HEAD + packet->data + decision->padding);
    turn[1] = COOKIE;
    turn[2] = random32();
    turn[3] = random32();
    turn[4] = random32();
    shorts[10] = XOR_PEER_ADDRESS;
    shorts[12] = be16(from->family);
    shorts[13] = from->remote_port ^ be16(COOKIE_PORT);
    if (decision->head == V4_HEAD) {
      shorts[11] = be16(8);
      turn[7] = from->remote[3] ^ COOKIE;
      shorts[16] = DATA;
      shorts[17] = be16(packet->data);
      KEEP_APART("4");
    } else {
      shorts[11] = be16(20);
      turn[7] = from->remote[0] ^ COOKIE;
      turn[8] = from->remote[1] ^ turn[2];
      turn[9] = from->remote[2] ^ turn[3];
      turn[10] = from->remote[3] ^ turn[4];
      shorts[22] = DATA;
      shorts[23] = be16(packet->data);
      KEEP_APART("6");
    }
  }
}

/* Fields are those that RFC 8656 §15 prefers: DSCP, ECN and DF as they came, one hop less. Between the families DF
 * is not set: the sender did not ask for it. */
INLINE __u64 write_ip(struct heads *heads, const struct packet *packet, const struct decision *decision,
                      __u32 udp_length) {
  const struct onward *onward = &decision->onward;
  if (decision->l3 == 20) {
    struct iphdr *ip = &heads->v4;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = packet->dscp_ecn;
    ip->tot_len = be16(20 + udp_length);
    ip->id = (__be16)random32();
    ip->frag_off = packet->keep_whole ? DONT_FRAGMENT : 0;
    ip->ttl = packet->hops - 1;
    ip->protocol = IPPROTO_UDP;
    ip->check = 0;
    ip->saddr = onward->source[3];
    ip->daddr = onward->destination[3];
    ip->check = ~fold(sum_of_ipv4_header(ip));
  } else {
    struct ipv6hdr *ip = &heads->v6;
    *(__be32 *)ip = be32(6u << 28 | (__u32)packet->dscp_ecn << 20) | onward->flow_label;
    ip->payload_len = be16(udp_length);
    ip->nexthdr = IPPROTO_UDP;
    ip->hop_limit = packet->hops - 1;
    __builtin_memcpy(&ip->saddr, onward->source, 16);
    __builtin_memcpy(&ip->daddr, onward->destination, 16);
  }
  return sum4(onward->source) + sum4(onward->destination);
}

/* What comes behind the data, and is not relayed. */
struct rest {
  __be32 padding, fingerprint[2];
};

INLINE enum reason load_rest(void *ctx, int is_skb, const struct packet *packet, __u32 at, struct rest *rest) {
  __u32 padding = packet->size - packet->head - packet->data - packet->fingerprint;
  if (padding && padding <= MOST_PADDING &&
      (is_skb ? skb_load(ctx, at, &rest->padding, padding) : xdp_load(ctx, at, &rest->padding, padding)))
    return LENGTHS;
  if (!packet->fingerprint) return FORWARD;
  at += padding;
  if (is_skb ? skb_load(ctx, at, rest->fingerprint, FINGERPRINT) : xdp_load(ctx, at, rest->fingerprint, FINGERPRINT))
    return LENGTHS;
  return rest->fingerprint[0] == FINGERPRINT_HEAD ? FORWARD : STUN;
}

/* In words that begin where the data does: behind an odd number of bytes the padding is not where a word begins. */
INLINE __u64 sum_of_rest(const struct rest *rest, __u32 data) {
  __u64 padding = rest->padding;
  return (data & 1 ? padding << 8 : padding) + rest->fingerprint[0] + rest->fingerprint[1];
}

/* All headers. */
INLINE void write_heads(struct heads *heads, const struct packet *packet, const struct decision *decision,
                        const struct rest *rest) {
  __u32 udp_length = UDP + decision->head + packet->data + decision->padding;
  write_turn(heads->turn, packet, decision);
  __u64 sum = write_ip(heads, packet, decision, udp_length);
  struct udphdr *udp = &heads->udp;
  udp->source = decision->onward.source_port;
  udp->dest = decision->onward.destination_port;
  udp->len = be16(udp_length);
  udp->check = 0;
  if (decision->is_unsummed) return;
  sum += UDP_PROTOCOL + udp->source + udp->dest + udp->len + udp->len + sum12(heads->turn);
  __u16 removed = fold(packet->sum + packet->head_sum + sum_of_rest(rest, packet->data));
  /* RFC 1624 §3: HC' = ~(~HC + ~m + m'). */
  __u16 check = ~fold((__u64)(__u16)~packet->checksum + (__u16)~removed + sum);
  udp->check = check ? check : 0xffff;
}

/* The last steps that can still end in passing up: what lies behind the data is read, and the frame made to end where
 * what leaves does. `end` is where the data does. */
INLINE enum reason set_end(void *ctx, int is_skb, const struct packet *packet, const struct decision *decision,
                           __u32 came, __u32 end, struct rest *rest) {
  enum reason reason = load_rest(ctx, is_skb, packet, end, rest);
  if (reason != FORWARD) return reason;
  __u32 whole = end + (__u32)decision->padding;
  if (came == whole) return FORWARD;
  return (is_skb ? skb_tail(ctx, whole, 0) : xdp_tail(ctx, (int)whole - (int)came)) ? NO_ROOM : FORWARD;
}

/* What follows leaves, or is dropped: take it from the limits, write its headers and its padding. Padding that is new
 * has been zeroed; what filled up a short frame has not. Returns a drop, or DROPS. */
INLINE enum drop prepare(void *ctx, int is_skb, struct heads *heads, const struct packet *packet,
                         const struct decision *decision, const struct rest *rest, __u32 came, __u32 end, __u64 now) {
  enum drop dropped = admit(decision, packet->data, now);
  if (dropped != DROPS) return dropped;
  write_heads(heads, packet, decision, rest);
  __u32 padding = decision->padding & MOST_PADDING;
  if (!padding || came <= end) return DROPS;
  return (is_skb ? skb_store(ctx, end, heads->zeros, padding, BPF_F_RECOMPUTE_CSUM)
                 : xdp_store(ctx, end, heads->zeros, padding))
             ? SEND_FAILED
             : DROPS;
}

/* Passing up, and counting why if it was meant for an address of ours */

struct local {
  __be32 ip[4];
  __be16 port;
  __u16 family;
};

/* Returns whether it was counted. At an address that other workers share nobody here can tell what belongs to none of
 * them: the program of another one may know its flow. */
INLINE int note(const struct packet *packet, enum reason reason) {
  struct local local = {.port = packet->way.local_port, .family = packet->way.family};
  __builtin_memcpy(local.ip, packet->way.local, 16);
  if (reason == ALIEN) return 0;
  const __u32 *is_shared = map_lookup(&locals, &local);
  if (!is_shared || (*is_shared && (reason == STUN || reason == UNKNOWN))) return 0;
  __u32 key = reason;
  __u64 *seen = map_lookup(&events, &key);
  if (!seen) return 0;
  ++*seen;
  return 1;
}

INLINE void drop(enum drop reason) {
  __u32 key = REASONS + reason;
  __u64 *seen = map_lookup(&events, &key);
  if (seen) ++*seen;
}

/* tcx: socket buffers */

INLINE enum reason look_at_skb(struct __sk_buff *skb, struct packet *packet) {
  const void *data = (const void *)(long)skb->data, *end = (const void *)(long)skb->data_end;
  if (is_something_else(data, end)) return ALIEN;
  if (data + LONGEST_HEADS > end) { /* a short one, or the rest lies in pages */
    if (skb_pull(skb, skb->len < LONGEST_HEADS ? skb->len : LONGEST_HEADS)) return NO_ROOM;
    data = (const void *)(long)skb->data;
    end = (const void *)(long)skb->data_end;
  }
  enum reason reason = parse(packet, data, end, skb->len);
  /* Joined by the kernel for a socket with UDP_GRO: cannot be taken apart here. */
  return reason == FORWARD && skb->gso_size ? JOINED : reason;
}

INLINE long store_skb(struct __sk_buff *skb, const struct heads *heads, __u32 l3, __u32 turn) {
  turn = turn > V6_HEAD ? V6_HEAD : turn; /* which it never is, but the verifier does not know */
  return l3 == 20 ? skb_store(skb, ETH, &heads->v4, 20 + UDP + turn, BPF_F_RECOMPUTE_CSUM)
                  : skb_store(skb, ETH, &heads->v6, 40 + UDP + turn, BPF_F_RECOMPUTE_CSUM);
}

SEC("tcx") int tcx_ingress(struct __sk_buff *skb) {
  if (skb->protocol != be16(ETH_P_IP) && skb->protocol != be16(ETH_P_IPV6)) return NEXT;
  if (skb->pkt_type != HOST || skb->vlan_present) return NEXT;
  struct packet packet = {};
  struct decision decision = {};
  struct heads heads = {};
  __u64 now = ktime_ns();
  struct rest rest = {};
  __u32 length, end, came = skb->len;
  enum drop dropped;
  enum reason reason = look_at_skb(skb, &packet);
  if (reason == FORWARD) reason = find(&packet, &decision, now, skb->ifindex);
  if (reason == FORWARD) reason = look_at_checksum(&packet, &decision, 0);
  if (reason != FORWARD) goto pass;

  length = bytes_on_the_way(&packet, &decision);
  if (is_too_big(&decision, length) || check_mtu(skb, decision.onward.interface, &length, 0, 0)) {
    reason = TOO_BIG;
    goto pass;
  }
  end = ETH + packet.l3 + UDP + packet.head + packet.data;
  reason = set_end(skb, 1, &packet, &decision, came, end, &rest);
  if (reason != FORWARD) goto pass;
  dropped = prepare(skb, 1, &heads, &packet, &decision, &rest, came, end, now);
  if (dropped != DROPS) goto shot;
  dropped = SEND_FAILED;
  int more = (int)decision.head - (int)packet.head;
  if (decision.l3 != packet.l3 && skb_proto(skb, decision.l3 == 20 ? be16(ETH_P_IP) : be16(ETH_P_IPV6), 0)) goto shot;
  if (more && skb_room(skb, more, BPF_ADJ_ROOM_MAC, 0)) goto shot;
  if (store_skb(skb, &heads, decision.l3, decision.head)) goto shot;
  count(&decision, packet.data);
  /* The headers have been stored; there is no room on the stack for both. */
  struct bpf_redir_neigh *next = (struct bpf_redir_neigh *)&heads;
  next->nh_family = decision.onward.flags & NEXT_HOP_V6 ? AF_INET6 : AF_INET;
  __builtin_memcpy(next->ipv6_nh, decision.onward.next_hop, 16);
  return redirect_neigh(decision.onward.interface, next, sizeof *next, 0);

pass:
  /* The programs of other workers see it, too: whoever counts it first says so. */
  if (skb->cb[0] != NOTED && note(&packet, reason)) skb->cb[0] = NOTED;
  return NEXT;
shot:
  drop(dropped);
  return SHOT;
}

/* XDP: frames, before there is a socket buffer */

/* Where the packet leaves. The kernel answers only if forwarding is on for the interface that it came in on. */
INLINE enum reason find_next_hop(struct xdp_md *xdp, const struct packet *packet, const struct decision *decision,
                                 struct bpf_fib_lookup *fib) {
  const struct onward *onward = &decision->onward;
  fib->ifindex = xdp->ingress_ifindex;
  fib->l4_protocol = IPPROTO_UDP;
  fib->tot_len = bytes_on_the_way(packet, decision);
  if (is_too_big(decision, fib->tot_len)) return TOO_BIG;
  if (decision->l3 == 20) {
    fib->family = AF_INET;
    fib->ipv4_src = onward->source[3];
    fib->ipv4_dst = onward->destination[3];
  } else {
    fib->family = AF_INET6;
    __builtin_memcpy(fib->ipv6_src, onward->source, 16);
    __builtin_memcpy(fib->ipv6_dst, onward->destination, 16);
  }
  long answer = fib_lookup(xdp, fib, sizeof *fib, 0);
  if (answer == BPF_FIB_LKUP_RET_FRAG_NEEDED) return TOO_BIG;
  return answer == BPF_FIB_LKUP_RET_SUCCESS ? FORWARD : NO_ROUTE;
}

INLINE long store_xdp(struct xdp_md *xdp, struct heads *heads, __u32 l3, __u32 turn) {
  turn = turn > V6_HEAD ? V6_HEAD : turn;
  return l3 == 20 ? xdp_store(xdp, ETH, &heads->v4, 20 + UDP + turn) : xdp_store(xdp, ETH, &heads->v6, 40 + UDP + turn);
}

SEC("xdp") int xdp_ingress(struct xdp_md *xdp) {
  struct packet packet = {};
  struct decision decision = {};
  struct heads heads = {};
  struct bpf_fib_lookup fib = {};
  const void *data = (const void *)(long)xdp->data, *data_end = (const void *)(long)xdp->data_end;
  const struct ethhdr *seen = data;
  struct rest rest = {};
  __u32 frame = xdp_length(xdp), end;
  __u64 now = ktime_ns();
  enum drop dropped;
  enum reason reason = parse(&packet, data, data_end, frame);
  if (reason == ALIEN || (const void *)(seen + 1) > data_end || seen->h_dest[0] & 1) return XDP_PASS;
  if (reason == FORWARD) reason = find(&packet, &decision, now, xdp->ingress_ifindex);
  if (reason == FORWARD) reason = look_at_checksum(&packet, &decision, 1);
  if (reason == FORWARD) reason = find_next_hop(xdp, &packet, &decision, &fib);
  if (reason != FORWARD) goto pass;

  end = ETH + packet.l3 + UDP + packet.head + packet.data;
  reason = set_end(xdp, 0, &packet, &decision, frame, end, &rest);
  if (reason != FORWARD) goto pass;
  dropped = prepare(xdp, 0, &heads, &packet, &decision, &rest, frame, end, now);
  if (dropped != DROPS) goto shot;
  dropped = SEND_FAILED;
  int more = (int)(decision.l3 + decision.head) - (int)(packet.l3 + packet.head);
  if (more && xdp_head(xdp, -more)) goto shot;
  struct ethhdr *eth = (void *)(long)xdp->data;
  if ((void *)(eth + 1) > (void *)(long)xdp->data_end) goto shot;
  __builtin_memcpy(eth->h_dest, fib.dmac, ETH_ALEN);
  __builtin_memcpy(eth->h_source, fib.smac, ETH_ALEN);
  eth->h_proto = decision.l3 == 20 ? be16(ETH_P_IP) : be16(ETH_P_IPV6);
  if (store_xdp(xdp, &heads, decision.l3, decision.head)) goto shot;
  count(&decision, packet.data);
  return redirect(fib.ifindex, 0);

pass:
  note(&packet, reason);
  return XDP_PASS;
shot:
  drop(dropped);
  return XDP_DROP;
}

/* The digest of this file, by which the loader knows that the object was made of it. */
SEC("source") const char made_of[] = SOURCE;
SEC("license") const char terms[] = "GPL";
