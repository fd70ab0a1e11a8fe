"""Devices and lines that this machine has not, or has not always: scripts that run before those of the page."""

from typing import Final

# The picker of the browser cannot be driven. This screen is twice as high as it is wide, as no camera is.
SCREEN: Final = """
  MediaDevices.prototype.getDisplayMedia = async function (constraints) {
    if (window.__picker) throw window.__picker;
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 640 });
    const context = canvas.getContext("2d");
    setInterval(() => {
      context.fillStyle = `hsl(${performance.now() / 10} 90% 50%)`;
      context.fillRect(0, 0, 320, 640);
    }, 50);
    window.__screen = canvas.captureStream(20);
    return window.__screen;
  };
"""
# Keeps every stream that the page has been given, and its tracks.
WATCHED: Final = """
  window.__opened = [];
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    const stream = await ask.call(this, constraints);
    stream.__tracks = stream.getTracks();
    window.__opened.push(stream);
    return stream;
  };
"""
# A camera that another program takes, and gives back.
TAKEN_AWAY: Final = """
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    if (constraints.video && window.__taken) throw new DOMException("in use", "NotReadableError");
    return ask.call(this, constraints);
  };
"""
_FAULT = """
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    if (constraints.%s) throw new DOMException("Requested device not found", "NotFoundError");
    return ask.call(this, constraints);
  };
"""
NO_CAMERA: Final = _FAULT % "video"
NO_MICROPHONE: Final = _FAULT % "audio"
# The way is as good or as bad as a test wants it: what the browser says of it is replaced before the page reads it.
# Without that, a busy machine would be taken for a poor line. `null` gives the browser its word back.
MEASURED: Final = """
  const native = RTCPeerConnection.prototype.getStats;
  RTCPeerConnection.prototype.getStats = async function () {
    const stats = await native.call(this);
    if (window.__way === null) return stats;
    const { loss, rtt } = window.__way;
    const told = {
      "inbound-rtp": { packetsLost: 0 },
      "remote-inbound-rtp": { fractionLost: loss, roundTripTime: rtt },
      "candidate-pair": { currentRoundTripTime: rtt },
    };
    return new Map([...stats].map(([id, entry]) => [id, { ...entry, ...told[entry.type] }]));
  };
  window.__way = { loss: 0, rtt: 0.02 };
"""
BAD_WAY, GOOD_WAY = (f"() => {{ window.__way = {{ loss: {loss}, rtt: 0.02 }}; }}" for loss in (0.5, 0))
