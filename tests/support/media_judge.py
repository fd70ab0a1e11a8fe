"""What a browser's own decoders make of frames: whether the picture and the sound that were sent are in them.

A decoder is no judge by itself: that of VP8 makes grey noise of most bytes, and that of Opus sound of all. So what is
sent is known: a picture that is bright on the left and dark on the right, and one tone. They are in it, or not.
"""

import base64
from collections.abc import Sequence
from typing import Final, NamedTuple

from playwright.sync_api import Page

# In place of camera and microphone; the settings of the tracks stay those of the devices, which the page looks at.
KNOWN_MEDIA: Final = """
  const askForDevices = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    const devices = await askForDevices.call(this, constraints);
    const known = new MediaStream();
    for (const device of devices.getTracks()) {
      const track = device.kind === "video" ? knownPicture(device) : knownSound();
      track.getSettings = () => device.getSettings();
      known.addTrack(track);
    }
    return known;
  };
  const knownPicture = (device) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
    const context = canvas.getContext("2d");
    let turn = 0;
    const paint = () => {
      context.fillStyle = "#fff";
      context.fillRect(0, 0, 80, 120);
      context.fillStyle = "#000";
      context.fillRect(80, 0, 80, 120);
      context.fillStyle = "#888";
      context.fillRect((turn += 3) % 150, 50, 10, 10);
    };
    paint();
    setInterval(paint, 200);
    return canvas.captureStream(5).getVideoTracks()[0];
  };
  const knownSound = () => {
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 1000 });
    const end = context.createMediaStreamDestination();
    tone.connect(new GainNode(context, { gain: 0.5 })).connect(end);
    tone.start();
    return end.stream.getAudioTracks()[0];
  };
"""
_JUDGE: Final = """async ([kind, frames]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const verdict = { decoded: 0, recognised: 0, refused: 0 };
  const seesPicture = (frame) => {
    const canvas = new OffscreenCanvas(16, 12);
    const context = canvas.getContext("2d");
    context.drawImage(frame, 0, 0, 16, 12);
    const { data } = context.getImageData(0, 0, 16, 12);
    let right = 0;
    for (let at = 0; at < 16 * 12; at += 1) right += data[4 * at + 1] > 127 === at % 16 < 8 ? 1 : 0;
    return right > 0.9 * 16 * 12;
  };
  const hearsTone = (sound) => {
    const samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    const angle = (2 * Math.PI * 1000) / sound.sampleRate;
    let [inPhase, across, all] = [0, 0, 0];
    samples.forEach((sample, at) => {
      inPhase += sample * Math.cos(angle * at);
      across += sample * Math.sin(angle * at);
      all += sample * sample;
    });
    return (2 * (inPhase ** 2 + across ** 2)) / samples.length > 0.8 * all && all > 0;
  };
  const [Decoder, Chunk, recognises] =
    kind === "video" ? [VideoDecoder, EncodedVideoChunk, seesPicture] : [AudioDecoder, EncodedAudioChunk, hearsTone];
  const output = (decoded) => {
    verdict.decoded += 1;
    if (recognises(decoded)) verdict.recognised += 1;
    decoded.close();
  };
  let decoder = null;
  const begin = () => {
    decoder = new Decoder({ output, error: () => {} });
    decoder.configure(kind === "video" ? { codec: "vp8" } : { codec: "opus", sampleRate: 48000, numberOfChannels: 2 });
  };
  // To flush after each would want a key frame after each.
  const taken = (used) => new Promise((resolve) => {
    const look = () => {
      if (used.state === "closed" || used.decodeQueueSize === 0) resolve();
      else setTimeout(look, 1);
    };
    look();
  });
  let timestamp = 0;
  for (const text of frames) {
    const data = bytes(text);
    const isKey = kind === "audio" || (data.length > 0 && (data[0] & 1) === 0);
    if (decoder === null && !isKey) { verdict.refused += 1; continue; }
    if (decoder === null) begin();
    timestamp += 20_000;
    decoder.decode(new Chunk({ type: isKey ? "key" : "delta", timestamp, data }));
    await taken(decoder);
    if (decoder.state !== "closed") continue;
    verdict.refused += 1;
    decoder = null; // the next key frame gets another one
  }
  await decoder?.flush().catch(() => { verdict.refused += 1; });
  return verdict;
}"""
_OPEN: Final = """async ([kind, frames, keys]) => {
  const { FrameOpener, clearPrefixLength, decodeHeader, metadataOf } = await import("/js/conference/sframe.js");
  const source = kind === "audio" ? "microphone" : "camera";
  // A format that names the source of a frame authenticates it, too.
  const metadata = (clear) => metadataOf?.(source, clear) ?? clear;
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const text = (data) => btoa(String.fromCharCode(...data));
  const key = (base) => Uint8Array.from(base.match(/../g), (digits) => parseInt(digits, 16));
  const opened = [];
  const openers = [];
  for (const { kid, base } of keys) openers.push([BigInt(kid), await FrameOpener.create(key(base), BigInt(kid))]);
  for (const frame of frames) {
    const data = bytes(frame);
    const clear = data.subarray(0, clearPrefixLength(kind, data));
    const sealed = data.subarray(clear.length);
    const header = decodeHeader(sealed);
    for (const [kid, opener] of openers) {
      if (kid !== header.kid) continue;
      const plain = await opener.open(header, sealed, metadata(clear), source).catch((error) => {
        if (error.fault !== "forged") throw error;
        return null;
      });
      if (plain === null) continue;
      opened.push(text([...clear, ...plain]));
      break;
    }
  }
  return opened;
}"""
_BARE: Final = """async ([kind, frames]) => {
  const { clearPrefixLength, decodeHeader } = await import("/js/conference/sframe.js");
  return frames.map((frame) => {
    const data = Uint8Array.from(atob(frame), (character) => character.charCodeAt(0));
    const clear = data.subarray(0, clearPrefixLength(kind, data));
    const sealed = data.subarray(clear.length);
    return btoa(String.fromCharCode(...clear, ...sealed.subarray(decodeHeader(sealed).length)));
  });
}"""


class Verdict(NamedTuple):
    """What came of frames."""

    decoded: int  # the decoder gave something out
    recognised: int  # and that was what had been sent
    refused: int  # the decoder would not have it


def judge(page: Page, kind: str, frames: Sequence[bytes]) -> Verdict:
    """Decode frames of `video` (VP8) or `audio` (Opus) by WebCodecs, and look for what was sent."""
    return Verdict(**page.evaluate(_JUDGE, [kind, _to_text(frames)]))


def without_headers(page: Page, kind: str, frames: Sequence[bytes]) -> list[bytes]:
    """The frames as the encoder made them, if nothing but a header had been added to them."""
    return _from_text(page.evaluate(_BARE, [kind, _to_text(frames)]))


def opened_with(page: Page, kind: str, frames: Sequence[bytes], keys: Sequence[dict[str, object]]) -> list[bytes]:
    """Those of the frames that can be decrypted with one of the keys, decrypted.

    Args:
        page: of the product, whose own code does it.
        kind: `audio` or `video`.
        frames: as they came to the media server.
        keys: `kid`, and `base` in hexadecimal.
    """
    named = [{"kid": key["kid"], "base": key["base"]} for key in keys]
    return _from_text(page.evaluate(_OPEN, [kind, _to_text(frames), named]))


def _to_text(frames: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(frame).decode() for frame in frames]


def _from_text(frames: Sequence[str]) -> list[bytes]:
    return [base64.b64decode(frame) for frame in frames]
