/** What only the connection test says, in German. */

export const WORDS = {
  test_title: "Verbindungstest – RED Connect Videosprechstunde",
  test_heading: "Verbindungstest",
  test_lead:
    "Erreicht dieses Netz den Vermittlungsserver der Videosprechstunde? Der Test dauert höchstens eine halbe Minute. Er braucht keinen Zugangscode und speichert nichts.",
  test_start: "Test starten",
  test_again: "Noch einmal testen",
  test_running: "Test läuft…",
  test_to_consultation: "Zur Videosprechstunde",
  test_firewall_help: "Firewall und Netzwerk",
  test_skip: "Zum Inhalt springen",
  devices_heading: "Kamera, Mikrofon und Ton",
  devices_text: "Nur Sie sehen und hören das.",

  progress_asking: "Der Test wird vorbereitet…",
  progress_ports: "Die Ports werden geprüft: {done} von {all}.",
  progress_loop: "Verbindung über den Vermittlungsserver wird gemessen…",
  progress_done: "Der Test ist fertig.",

  problem_rate_limited: "Zu viele Tests aus diesem Netz. Bitte in {seconds} Sekunden erneut.",
  problem_no_relay: "Dieser Dienst hat keinen Vermittlungsserver, den man testen könnte.",
  problem_unreachable: "Der Dienst ist gerade nicht erreichbar.",
  problem_unsupported: "Dieser Browser kann nicht testen: WebRTC ist nicht vorhanden oder abgeschaltet.",

  step_good: "Gut",
  step_weak: "Eingeschränkt",
  step_bad: "Nicht möglich",
  verdict_good: "Alle Ports sind offen, und die Verbindung reicht für Bild und Ton.",
  verdict_untested: "Alle geprüften Ports sind offen, und die Verbindung reicht für Bild und Ton.",
  verdict_partly: "Videosprechstunden sind möglich. Einige Ports sind gesperrt; mit ihnen ginge es auch, wenn ein Weg ausfällt.",
  verdict_no_udp: "UDP ist gesperrt. Videosprechstunden gehen über TCP, aber Bild und Ton stocken dabei leichter. Geben Sie die UDP-Ports frei.",
  verdict_only_tls:
    "Nur TLS ist offen. Videosprechstunden gehen, aber Bild und Ton stocken dabei leichter. Geben Sie die übrigen Ports frei, vor allem UDP.",
  verdict_none:
    "{host} antwortet an keinem Port. Entweder sperrt Ihr Netz alle Ports, oder der Vermittlungsserver läuft nicht. Geben Sie die Ports frei; bleibt alles rot, fragen Sie den Betreiber.",
  verdict_none_clear:
    "Kein Port ist nachweislich offen: Die ohne TLS antworten nicht, und die mit TLS lassen sich nicht prüfen, weil Browser das Zertifikat von {host} ablehnen. Fragen Sie zuerst den Betreiber.",
  verdict_unknown_name: "Der Name {host} lässt sich nicht auflösen. Prüfen Sie das DNS Ihres Netzes.",
  verdict_loop_failed: "Ports sind offen, aber über den Vermittlungsserver kam keine Verbindung zustande. Unterbricht eine Firewall offene Verbindungen?",
  verdict_elsewhere:
    "Ports sind offen. Seiten und Medien verlassen Ihr Netz über verschiedene Adressen, etwa durch einen Web-Proxy; die Messung der Verbindung ist deshalb hier nicht möglich.",
  verdict_busy: "Ports sind offen. Die Messung der Verbindung war nicht möglich, weil der Vermittlungsserver gerade ausgelastet ist. Bitte später erneut testen.",
  verdict_line_weak: "Ports sind offen, aber die Verbindung ist schwach. Bild und Ton können stocken.",
  verdict_certificate:
    "Videosprechstunden sind möglich, aber nicht über TLS: Der Browser lehnt das Zertifikat von {host} ab. Wer in einem Netz ist, das nur TLS durchlässt, kommt so nicht ins Gespräch.",
  verdict_line_bad: "Ports sind offen, aber die Verbindung ist zu schlecht für Bild und Ton.",

  ports_heading: "Ports des Vermittlungsservers",
  ports_caption: "Ausgehende Verbindungen dieses Netzes, jede für sich geprüft",
  column_server: "Server",
  column_protocol: "Protokoll",
  column_port: "Zielport",
  column_result: "Ergebnis",
  column_time: "Antwort nach",
  row_waiting: "wartet",
  row_running: "wird geprüft…",
  row_open: "offen",
  row_closed: "gesperrt",
  row_untested: "nicht geprüft",
  row_unclear: "nicht prüfbar",
  row_unneeded: "nicht geprüft: Browser brauchen diesen Bereich nicht, „redconnect check“ prüft ihn",
  reason_silent: "keine Antwort",
  reason_needs_name: "dieser Browser prüft TLS nur zu Namen, nicht zu IP-Adressen",
  reason_refused: "abgewiesen",
  reason_tls_failed: "abgewiesen, oder TLS wird unterwegs aufgebrochen",
  reason_self_signed: "Zertifikat selbst signiert",
  reason_outside_validity: "Zertifikat abgelaufen oder noch nicht gültig",
  reason_other_name: "Zertifikat gilt für einen anderen Namen",
  reason_unknown_name: "Name nicht gefunden",
  reason_elsewhere: "erreicht, aber über eine andere Adresse als diese Seite",
  reason_busy: "erreicht, aber der Server hat gerade keinen Platz",

  loop_heading: "Fünf Sekunden über den Vermittlungsserver",
  loop_loss: "Paketverlust",
  loop_rtt: "Laufzeit hin und zurück",
  loop_bandwidth: "Bandbreite",
  loop_path: "Weg",
  loop_waiting: "Wird gemessen, wenn ein Port offen ist.",
  loop_running: "Wird gemessen…",
  loop_skipped: "Nicht gemessen.",
  loop_failed: "Es kam keine Verbindung zustande.",
  bandwidth: "{figure} Mbit/s",
  bandwidth_at_least: "mindestens {figure} Mbit/s",

  certificate_heading: "Zertifikat des Servers",
  certificate_self_signed:
    "Das Zertifikat von {host} ist selbst signiert. Browser lehnen es ab, ob ein TLS-Port offen ist oder nicht; an der Firewall ist dafür nichts zu ändern. Abhilfe beim Betreiber: ein Zertifikat einer anerkannten Stelle für {host} einsetzen (tls.certificate_file und tls.key_file).",
  certificate_outside_validity:
    "Das Zertifikat von {host} ist abgelaufen oder noch nicht gültig. Browser lehnen es ab, ob ein TLS-Port offen ist oder nicht; an der Firewall ist dafür nichts zu ändern. Abhilfe beim Betreiber: das Zertifikat erneuern und die Uhr des Servers prüfen.",
  certificate_other_name:
    "Das Zertifikat des Servers gilt nicht für {host}. Browser lehnen es ab, ob ein TLS-Port offen ist oder nicht; an der Firewall ist dafür nichts zu ändern. Abhilfe beim Betreiber: ein Zertifikat einsetzen, das {host} enthält, oder signaling.ice.host nennen, wie es im Zertifikat steht.",

  rules_heading: "Was die Firewall durchlassen muss",
  rule: "Quelle: dieses Netz; Ziel: {host}; Protokoll: {protocol}; Zielport: {ports}; Richtung: ausgehend",
  rules_tls:
    "Bleibt ein TLS-Port rot, obwohl er freigegeben ist, bricht eine Firewall, ein Proxy oder ein Virenschutz TLS auf. Nehmen Sie {host} davon aus.",
  rules_paste: "Zum Einfügen; Namen von Tabellen und Schnittstellen sind anzupassen.",
  copy: "Kopieren",
  copy_named: "{name} kopieren",
  copy_report: "Für die IT kopieren",
  print: "Drucken",
  copied: "Kopiert.",
  copy_refused: "Der Browser erlaubt das Kopieren nicht. Der Text ist ausgewählt: Kopieren Sie ihn mit Strg+C.",
  report_label: "Ergebnis als Text",

  report_at: "Zeitpunkt",
  report_page: "Seite",
  report_address: "Adresse dieses Netzes",
  report_browser: "Browser",
};
