from relay.io.metrics import read_udp6_counters, read_udp_counters

SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 10 1 2 12 3 4 0 0 0
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
UdpLite: 0 0 0 0 9 9 0 0 0
"""
SNMP6 = """\
Ip6InReceives                   	2
Udp6InDatagrams                 	10
Udp6RcvbufErrors                	5
Udp6SndbufErrors                	6
UdpLite6RcvbufErrors            	9
"""


def test_what_the_kernel_lost_of_udp_is_read_and_udp_lite_is_not_taken_for_it() -> None:
    counters = read_udp_counters(SNMP)
    assert (counters["RcvbufErrors"], counters["SndbufErrors"]) == (3, 4)


def test_what_it_lost_over_ipv6_has_the_same_names() -> None:
    counters = read_udp6_counters(SNMP6)
    assert (counters["RcvbufErrors"], counters["SndbufErrors"]) == (5, 6)
