"""What cameras and screens show in pictures of the pages: drawn, because a fake camera has no face."""

from typing import Final

# Colours of wall, coat, skin and hair: one for each person, and then again from the first one.
PORTRAITS: Final = """
  window.__looks = [
    ["#c9d6d2", "#f4f6f6", "#c99e82", "#4a3a30"],
    ["#d9cfc0", "#5b7a99", "#d8b49a", "#8a6a4a"],
    ["#b9c3cf", "#3d4a5c", "#a9795a", "#1f1a18"],
    ["#cfd4c4", "#7c5a4e", "#e0bfa8", "#c9c4bd"],
    ["#d8c8cc", "#8f4a58", "#d3a78c", "#6b2f22"],
    ["#c4d0d8", "#2f5d58", "#d9b593", "#15130f"],
    ["#d6d1c7", "#c98f4a", "#8d5f43", "#241a15"],
    ["#c2cbc6", "#55617a", "#e3c4ae", "#a07c4c"],
    ["#d4cbd6", "#6f5b86", "#cfa085", "#8e8a86"],
    ["#cbd5da", "#9aa7ad", "#b98a6c", "#3a2b22"],
  ];
  window.__moving = (width, height, paint, everyMs) => {
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    paint(context);
    setInterval(() => paint(context), everyMs);
    return canvas.captureStream(1000 / everyMs).getVideoTracks()[0];
  };
  window.__portrait = ([wall, coat, skin, hair], width, height, everyMs = 100) => {
    const scale = Math.max(width / 640, height / 480);
    return window.__moving(width, height, (context) => {
      const sway = 4 * Math.sin(performance.now() / 900);
      const ellipse = (colour, x, y, across, high) => {
        context.fillStyle = colour;
        context.beginPath();
        context.ellipse(x + sway, y, across, high, 0, 0, 7);
        context.fill();
      };
      context.setTransform(scale, 0, 0, scale, (width - 640 * scale) / 2, (height - 480 * scale) / 2);
      context.fillStyle = wall;
      context.fillRect(0, 0, 640, 480);
      ellipse(hair, 320, 190, 98, 122);
      ellipse(coat, 320, 500, 210, 150);
      ellipse(skin, 320, 330, 38, 60);
      ellipse(skin, 320, 215, 80, 100);
    }, everyMs);
  };
  window.__document = (width, height) => window.__moving(width, height, (context) => {
    context.fillStyle = "#fbfcfd";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#16466f";
    context.fillRect(0, 0, width, height / 12);
    for (let line = 0; line < 9; line += 1) {
      const isHeading = line % 4 === 0;
      const share = isHeading ? 0.22 : 0.42 - 0.03 * (line % 3);
      context.fillStyle = isHeading ? "#4b5a6b" : "#c3ccd5";
      context.fillRect(width / 16, height * (0.16 + 0.085 * line), width * share, height / 36);
    }
    for (let bar = 0; bar < 6; bar += 1) {
      context.fillStyle = bar === 3 ? "#b5121b" : "#7b9cbb";
      const high = height * (0.15 + 0.07 * ((bar * 5) % 6));
      context.fillRect(width * (0.56 + 0.062 * bar), height * 0.8 - high, width * 0.042, high);
    }
  }, 500);
"""
