/** What only the connection test says, in English. */

export const WORDS = {
  test_title: "Connection test – RED Connect video consultation",
  test_heading: "Connection test",
  test_lead:
    "Does this network reach the relay server of the video consultation? The test takes half a minute at most. It needs no access code and stores nothing.",
  test_start: "Start the test",
  test_again: "Test again",
  test_running: "Testing…",
  test_to_consultation: "To the video consultation",
  test_firewall_help: "Firewall and network (in German)",
  test_skip: "Skip to content",
  devices_heading: "Camera, microphone and sound",
  devices_text: "Only you see and hear this.",

  progress_asking: "Preparing the test…",
  progress_ports: "Testing the ports: {done} of {all}.",
  progress_loop: "Measuring the connection through the relay server…",
  progress_done: "The test is done.",

  problem_rate_limited: "Too many tests from this network. Please try again in {seconds} seconds.",
  problem_no_relay: "This service has no relay server to test.",
  problem_unreachable: "The service cannot be reached at the moment.",
  problem_unsupported: "This browser cannot test: WebRTC is missing or switched off.",

  step_good: "Good",
  step_weak: "Limited",
  step_bad: "Not possible",
  verdict_good: "All ports are open, and the connection is good enough for picture and sound.",
  verdict_untested: "All tested ports are open, and the connection is good enough for picture and sound.",
  verdict_partly: "Video consultations are possible. Some ports are blocked; with them it would also work when one way fails.",
  verdict_no_udp: "UDP is blocked. Video consultations work over TCP, but picture and sound falter more easily. Please open the UDP ports.",
  verdict_only_tls:
    "Only TLS is open. Video consultations work, but picture and sound falter more easily. Please open the other ports, UDP above all.",
  verdict_none:
    "{host} answers at no port. Either your network blocks all of them, or the relay server is not running. Open the ports; if everything stays red, ask the operator.",
  verdict_none_clear:
    "No port is known to be open: those without TLS do not answer, and those with TLS cannot be tested because browsers refuse the certificate of {host}. Ask the operator first.",
  verdict_unknown_name: "The name {host} cannot be resolved. Check the DNS of your network.",
  verdict_loop_failed: "Ports are open, but no connection came about through the relay server. Does a firewall interrupt open connections?",
  verdict_elsewhere:
    "Ports are open. Pages and media leave your network by different addresses, through a web proxy perhaps; so the connection cannot be measured here.",
  verdict_busy: "Ports are open. The connection could not be measured because the relay server is busy. Please test again later.",
  verdict_line_weak: "Ports are open, but the connection is weak. Picture and sound may falter.",
  verdict_certificate:
    "Consultations are possible, but not over TLS: the browser refuses the certificate of {host}. From a network that lets nothing but TLS through, nobody can join.",
  verdict_line_bad: "Ports are open, but the connection is too poor for picture and sound.",

  ports_heading: "Ports of the relay server",
  ports_caption: "Outbound connections of this network, each tested by itself",
  column_server: "Server",
  column_protocol: "Protocol",
  column_port: "Port",
  column_result: "Result",
  column_time: "Answer after",
  row_waiting: "waiting",
  row_running: "being tested…",
  row_open: "open",
  row_closed: "blocked",
  row_untested: "not tested",
  row_unclear: "cannot be told",
  row_unneeded: "not tested: browsers do not need this range, “redconnect check” tests it",
  reason_silent: "no answer",
  reason_needs_name: "this browser tries TLS to names only, not to IP addresses",
  reason_refused: "refused",
  reason_tls_failed: "refused, or TLS is broken open on the way",
  reason_self_signed: "self-signed certificate",
  reason_outside_validity: "certificate expired or not valid yet",
  reason_other_name: "certificate is for another name",
  reason_unknown_name: "name not found",
  reason_elsewhere: "reached, but from another address than this page",
  reason_busy: "reached, but the server has no room at the moment",

  loop_heading: "Five seconds through the relay server",
  loop_loss: "Packet loss",
  loop_rtt: "Round-trip time",
  loop_bandwidth: "Bandwidth",
  loop_path: "Way",
  loop_waiting: "Measured as soon as a port is open.",
  loop_running: "Measuring…",
  loop_skipped: "Not measured.",
  loop_failed: "No connection came about.",
  bandwidth: "{figure} Mbit/s",
  bandwidth_at_least: "at least {figure} Mbit/s",

  certificate_heading: "Certificate of the server",
  certificate_self_signed:
    "The certificate of {host} is self-signed. Browsers refuse it whether a TLS port is open or not; no firewall has to be changed for that. What helps, for the operator: a certificate of a recognised authority for {host} (tls.certificate_file and tls.key_file).",
  certificate_outside_validity:
    "The certificate of {host} has expired or is not valid yet. Browsers refuse it whether a TLS port is open or not; no firewall has to be changed for that. What helps, for the operator: renew the certificate, and check the clock of the server.",
  certificate_other_name:
    "The certificate of the server is not good for {host}. Browsers refuse it whether a TLS port is open or not; no firewall has to be changed for that. What helps, for the operator: a certificate that has {host} in it, or signaling.ice.host as the certificate names it.",

  rules_heading: "What the firewall must let through",
  rule: "Source: this network; destination: {host}; protocol: {protocol}; port: {ports}; direction: outbound",
  rules_tls:
    "If a TLS port stays red although it is allowed, a firewall, a proxy or a virus scanner breaks TLS open. Exempt {host} from that.",
  rules_paste: "To be pasted; the names of tables and interfaces need adapting.",
  copy: "Copy",
  copy_named: "Copy for {name}",
  copy_report: "Copy for IT",
  print: "Print",
  copied: "Copied.",
  copy_refused: "The browser does not allow copying. The text is selected: copy it with Ctrl+C.",
  report_label: "Result as text",

  report_at: "Time",
  report_page: "Page",
  report_address: "Address of this network",
  report_browser: "Browser",
};
