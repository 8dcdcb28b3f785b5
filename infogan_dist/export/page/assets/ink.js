"use strict";
// Drawings as the network has seen them in training: light ink on black, its box of one size, its centre of mass in one place.
// A stroke is an array of points [x, y] in 0..1 of the board. A plane is a Float32Array of size x size, 0 black to 1 white.

const PEN = 2.6 / 28; // width of a stroke by the image's side: the median of MNIST's (of 1,500 images)
const MASS_AT = 14.5 / 28; // where MNIST has the ink's centre of mass, by the image's side

/** The strokes as a plane: `box` is the larger side of the ink's box, by the image's side. */
function inkOfStrokes(strokes, size, box) {
  const points = strokes.flat(), pen = PEN * size;
  const [left, right] = extent(points.map(([x]) => x)), [top, bottom] = extent(points.map(([, y]) => y));
  const scale = (box * size - pen) / Math.max(right - left, bottom - top, 1e-6);
  const drawn = (x, y) => rasterised(strokes.map((stroke) => stroke.map((p) => [x + scale * p[0], y + scale * p[1]])), size, pen);
  const x = size / 2 - (scale * (left + right)) / 2, y = size / 2 - (scale * (top + bottom)) / 2;
  const half = { x: (scale * (right - left) + pen) / 2, y: (scale * (bottom - top) + pen) / 2 };
  const shift = shiftToMass(drawn(x, y), size, half);
  return drawn(x + shift.x, y + shift.y);
}

/** How far to move ink whose box, of half sides `half`, is in the middle, so that its mass is where it belongs and it stays inside. */
function shiftToMass(plane, size, half) {
  let mass = 0, x = 0, y = 0;
  plane.forEach((value, i) => {
    mass += value;
    x += value * ((i % size) + 0.5);
    y += value * (Math.floor(i / size) + 0.5);
  });
  const limited = (by, room) => Math.max(-room, Math.min(room, by));
  return {
    x: limited(MASS_AT * size - x / mass, Math.max(0, size / 2 - half.x)),
    y: limited(MASS_AT * size - y / mass, Math.max(0, size / 2 - half.y)),
  };
}

/** Strokes in pixels as a plane, the pen's edge antialiased over one pixel of 28. */
function rasterised(strokes, size, pen) {
  const plane = new Float32Array(size * size), edge = size / 28, reach = (pen + edge) / 2;
  for (const stroke of strokes) {
    for (let n = 0; n < Math.max(1, stroke.length - 1); n++) {
      const [ax, ay] = stroke[n], [bx, by] = stroke[Math.min(n + 1, stroke.length - 1)];
      const dx = bx - ax, dy = by - ay, squared = Math.max(dx * dx + dy * dy, 1e-9);
      const [x0, x1, y0, y1] = [Math.min(ax, bx) - reach, Math.max(ax, bx) + reach, Math.min(ay, by) - reach, Math.max(ay, by) + reach];
      for (let j = Math.max(0, Math.floor(y0)); j < Math.min(size, y1); j++) {
        for (let i = Math.max(0, Math.floor(x0)); i < Math.min(size, x1); i++) {
          const px = i + 0.5 - ax, py = j + 0.5 - ay;
          const along = Math.max(0, Math.min(1, (px * dx + py * dy) / squared));
          const distance = Math.hypot(px - along * dx, py - along * dy);
          const value = Math.max(0, Math.min(1, 0.5 + (pen / 2 - distance) / edge));
          if (value > plane[j * size + i]) plane[j * size + i] = value;
        }
      }
    }
  }
  return plane;
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}
