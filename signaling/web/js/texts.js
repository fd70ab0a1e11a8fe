/**
 * Every word that the page says. A second language is a second object with the same keys.
 *
 * Neutral words: Gesprächspartner/in, Teilnehmer/in, Organisator/in; the two may be doctor and patient as well as
 * lawyer and client.
 */

const de = {
  title: "RED Connect Videosprechstunde",

  intro_heading: "Ihre Videosprechstunde",
  intro_text: "Sie sprechen mit Ihrem Gesprächspartner direkt im Browser: vertraulich und ungestört.",
  intro_point_1: "Ohne Anmeldung und ohne Installation",
  intro_point_2: "Nur mit dem Zugangscode zu Ihrem Termin",
  intro_point_3: "Nichts wird aufgezeichnet",

  form_heading: "Raum betreten",
  name_label: "Ihr Name",
  name_hint: "Vor- und Nachname, damit Ihr Gesprächspartner Sie erkennt",
  code_label: "Ihr Zugangscode",
  code_hint: "12 Zeichen aus Ihrer Einladung",
  join: "Raum beitreten",
  joining: "Verbindung wird hergestellt…",
  cancel: "Abbrechen",
  check: "Kamera und Mikrofon prüfen",
  check_heading: "Kamera und Mikrofon",
  check_hint: "Nur Sie sehen und hören das. Sie können auch ohne Kamera oder Mikrofon beitreten.",
  check_without: "Sie können auch ohne Kamera oder Mikrofon beitreten.",
  check_end: "Prüfung beenden",
  permission_hint: "Ihr Browser fragt danach, ob er Kamera und Mikrofon verwenden darf. Wählen Sie „Zulassen“.",
  privacy:
    "Bild, Ton und Ihr Name sind Ende-zu-Ende verschlüsselt: Nur Sie und Ihr Gesprächspartner können sie sehen und hören. Nichts wird aufgezeichnet.",
  old_browser:
    "Ihr Browser ist nicht aktuell. Bitte verwenden Sie die neueste Version von Chrome, Edge, Firefox oder Safari.",

  error_name_missing: "Bitte geben Sie Ihren Vor- und Nachnamen ein.",
  error_code_missing: "Bitte geben Sie Ihren Zugangscode ein.",
  error_unknown_code: "Zugangscode unbekannt. Bitte prüfen Sie die Eingabe.",
  error_code_in_use: "Dieser Zugangscode wird bereits verwendet. Arzt und Patient benötigen je einen eigenen Code.",
  error_expired: "Dieser Zugangscode ist abgelaufen.",
  error_too_early: "Ihr Termin beginnt am {date} um {time} (deutsche Zeit).",
  error_room_full: "Dieser Termin ist auf {limit} Teilnehmer beschränkt.",
  error_tier: "Konferenzen sind Teil von plus.",
  error_rate_limited: "Zu viele Versuche. Bitte in {seconds} Sekunden erneut.",
  error_rate_limited_waiting: "Zu viele Versuche.",
  error_rate_limited_over: "Zu viele Versuche. Bitte versuchen Sie es jetzt erneut.",
  error_overload: "Der Dienst ist gerade ausgelastet.",
  error_unreachable: "Der Dienst ist gerade nicht erreichbar.",
  error_insecure: "Die Videosprechstunde geht nur auf gesicherten Seiten. Öffnen Sie diese Seite mit https://.",
  error_unverified: "Die Verbindung konnte nicht verifiziert werden. Bitte rufen Sie Ihre Praxis an.",
  error_no_path: "Keine Bildverbindung möglich. Vermutlich sperrt Ihr Netzwerk die nötigen Ports.",
  error_unexpected: "Das hat nicht geklappt. Bitte laden Sie die Seite neu.",
  retry_in: "Nächster Versuch in {seconds} Sekunden.",
  retry_now: "Nächster Versuch läuft…",

  stage_heading: "Videosprechstunde",
  stage_label: "Videobild",
  waiting: "Bitte warten – Ihr Gesprächspartner ist noch nicht da.",
  waiting_planned: "Geplanter Beginn: {date}, {time} Uhr (deutsche Zeit)",
  waiting_hint: "Falls beide warten: Die Codes müssen zum selben Termin gehören.",
  media_question: "Bitte erlauben Sie im Browser den Zugriff auf Kamera und Mikrofon.",
  you: "Sie",
  your_screen: "Ihr Bildschirm",
  own_hide: "Das eigene Bild ausblenden",
  own_show: "Das eigene Bild einblenden",
  camera_off: "Kamera aus",
  camera_on: "Kamera an",
  microphone_off: "Mikrofon aus",
  microphone_on: "Mikrofon an",
  partner_joined: "{name} ist da.",

  status_connecting: "Verbindung wird aufgebaut…",
  status_connected: "Verbunden",
  status_direct: "Direkt verbunden",
  status_relay: "Über Vermittlungsserver verbunden",
  status_interrupted: "Verbindung unterbrochen, wird wiederhergestellt…",
  try_again: "Erneut versuchen",
  sound_on: "Ton einschalten",

  menu: "Menü",
  overview: "Übersicht",
  close_panel: "Schließen",
  participants: "Teilnehmer/innen",
  participant_self: "{name} (Sie)",
  participant_absent: "Noch niemand sonst im Raum",
  end_to_end: "Ende-zu-Ende verschlüsselt",
  safety_code: "Sicherheitscode",
  safety_hint: "Lesen Sie sich die sechs Ziffern gegenseitig vor. Sind sie gleich, so ist niemand dazwischen.",

  settings: "Einstellungen",
  settings_back: "Zurück zur Übersicht",
  settings_refused: "Dieses Gerät ließ sich nicht öffnen. Es bleibt beim bisherigen.",
  audio: "Audio",
  video: "Video",
  keys: "Tastatur",
  speaker: "Ausgewählte Tonquelle",
  speaker_system: "Lautsprecher des Systems",
  speaker_refused: "Dieser Lautsprecher ließ sich nicht öffnen.",
  test_sound: "Testgeräusch abspielen",
  microphone_chosen: "Ausgewähltes Mikrofon",
  microphone_none: "Kein Mikrofon",
  microphone_unknown: "Mikrofon",
  handheld_sound: "Mikrofon und Lautsprecher wählt Ihr Gerät selbst.",
  level: "Mikrofonempfindlichkeit",
  level_off: "Mikrofon aus",
  level_silent: "nichts zu hören",
  level_low: "leise",
  level_good: "gut zu hören",
  level_loud: "sehr laut",
  level_hint: "Sprechen Sie: Je lauter, umso weiter schlägt der Pegel aus.",
  camera_chosen: "Ausgewählte Videoquelle",
  camera_none: "Keine Kamera",
  camera_unknown: "Kamera",
  camera_front: "Frontkamera",
  camera_rear: "Rückkamera",
  device_number: "Gerät {number}",
  shortcuts: "Tastenkürzel verwenden",
  shortcut_microphone: "Mikrofon an und aus",
  shortcut_camera: "Kamera an und aus",
  shortcut_full_screen: "Vollbild an und aus",

  controls: "Steuerung",
  camera: "Kamera",
  camera_turn_off: "Kamera ausschalten",
  camera_turn_on: "Kamera einschalten",
  microphone: "Mikrofon",
  microphone_turn_off: "Mikrofon ausschalten",
  microphone_turn_on: "Mikrofon einschalten",
  screen: "Bildschirm",
  screen_share: "Eigenen Bildschirm zeigen",
  screen_stop: "Bildschirm nicht mehr zeigen",
  screen_shared: "Ihr Gesprächspartner sieht Ihren Bildschirm.",
  screen_stopped: "Ihr Bildschirm wird nicht mehr gezeigt.",
  screen_failed: "Der Bildschirm ließ sich nicht zeigen. Drücken Sie noch einmal „Bildschirm“ und wählen Sie ein anderes Fenster.",
  screen_denied:
    "Das Betriebssystem lässt den Browser den Bildschirm nicht aufnehmen. Erlauben Sie es in den Systemeinstellungen unter Datenschutz und drücken Sie dann „Bildschirm“.",
  full_screen: "Vollbild",
  full_screen_enter: "Vollbild einschalten",
  full_screen_leave: "Vollbild beenden",
  hang_up: "Auflegen",
  hang_up_title: "Gespräch beenden",
  close_notice: "Hinweis schließen",

  camera_denied:
    "Die Kamera ist für diese Seite gesperrt. Erlauben Sie sie über das Symbol links in der Adresszeile und drücken Sie dann „Kamera“.",
  camera_missing: "Es wurde keine Kamera gefunden. Schließen Sie eine Kamera an und drücken Sie dann „Kamera“.",
  camera_busy:
    "Die Kamera wird von einem anderen Programm verwendet. Schließen Sie dieses Programm und drücken Sie dann „Kamera“.",
  camera_lost: "Die Verbindung zur Kamera ist abgebrochen. Schließen Sie sie wieder an und drücken Sie dann „Kamera“.",
  camera_insecure: "Kamera und Mikrofon gibt der Browser nur auf gesicherten Seiten frei. Öffnen Sie diese Seite mit https://.",
  microphone_denied:
    "Das Mikrofon ist für diese Seite gesperrt. Erlauben Sie es über das Symbol links in der Adresszeile und drücken Sie dann „Mikrofon“.",
  microphone_missing:
    "Es wurde kein Mikrofon gefunden. Schließen Sie ein Mikrofon an und drücken Sie dann „Mikrofon“.",
  microphone_busy:
    "Das Mikrofon wird von einem anderen Programm verwendet. Schließen Sie dieses Programm und drücken Sie dann „Mikrofon“.",
  microphone_lost:
    "Die Verbindung zum Mikrofon ist abgebrochen. Schließen Sie es wieder an und drücken Sie dann „Mikrofon“.",
  both_denied:
    "Kamera und Mikrofon sind für diese Seite gesperrt. Erlauben Sie beide über das Symbol links in der Adresszeile und drücken Sie dann „Kamera“ und „Mikrofon“.",
  both_missing:
    "Es wurden weder Kamera noch Mikrofon gefunden. Schließen Sie die Geräte an und drücken Sie dann „Kamera“ und „Mikrofon“.",
  both_busy:
    "Kamera und Mikrofon werden von einem anderen Programm verwendet. Schließen Sie dieses Programm und drücken Sie dann „Kamera“ und „Mikrofon“.",

  ended: "Das Gespräch wurde beendet. Sie können bis {end} erneut beitreten.",
  ended_heading: "Auf Wiedersehen",
  rejoin: "Erneut beitreten",
  other_code: "Anderer Zugangscode",
};

const LANGUAGES = { de };
const WORDS = LANGUAGES.de;
const LOCALE = "de-DE";

/** Appointments are planned in German time, wherever the participant is. */
const TIME_ZONE = "Europe/Berlin";

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the words in braces
 * @returns {string}
 */
export function text(key, values = {}) {
  const pattern = Object.hasOwn(WORDS, key) ? WORDS[key] : WORDS.error_unexpected;
  return pattern.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/**
 * @param {string} key
 * @returns {boolean}
 */
export function hasText(key) {
  return Object.hasOwn(WORDS, key);
}

/**
 * @param {string} instant UTC, ISO 8601
 * @returns {{ date: string, time: string }} like `22.11.2026` and `10:00`; empty if it is no instant
 */
export function germanTime(instant) {
  const when = new Date(instant);
  if (Number.isNaN(when.getTime())) return { date: "", time: "" };
  const date = when.toLocaleDateString(LOCALE, { timeZone: TIME_ZONE, day: "2-digit", month: "2-digit", year: "numeric" });
  const time = when.toLocaleTimeString(LOCALE, { timeZone: TIME_ZONE, hour: "2-digit", minute: "2-digit" });
  return { date, time };
}

/**
 * Fill the fixed words of the page: `data-text` becomes the content, `data-label` the accessible name, `data-title` the tooltip.
 *
 * @param {ParentNode} root
 */
export function fillTexts(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-title]")) element.title = text(element.dataset.title);
}
