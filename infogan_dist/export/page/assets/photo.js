"use strict";
// Dropped images as the network has seen them in training: ink found, centred and scaled, or a square from the middle.
// A photo: {width, height, planes}, a Float32Array of 0..1 for each of 1 or 3 channels.

const LARGEST_SIDE = 256; // pixels at which ink is looked for
const SPECK = 0.02; // share of all ink below which a patch of it is dirt
const LARGEST_FILE = 64 * 2 ** 20; // bytes

/** Decode a file. Throws an Error with a sentence for the reader. */
async function readPhoto(file, channels, size) {
  if (file.size > LARGEST_FILE) throw new Error(`${file.name} is larger than 64 MB. Choose a smaller image.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name || "That"} is not an image this browser can open. Use a PNG, JPEG, WebP or GIF.`);
  }
  const own = bitmap.width === size && bitmap.height === size;
  const shrink = own ? 1 : Math.min(1, Math.max(LARGEST_SIDE, 2 * size) / Math.min(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * shrink)), height = Math.max(1, Math.round(bitmap.height * shrink));
  let photo = photoOf(bitmap, width, height, "#fff", channels);
  if (photo.planes.every((plane) => plane.every((value) => value === 1))) {
    photo = photoOf(bitmap, width, height, "#000", channels); // white ink on nothing
  }
  bitmap.close();
  return photo;
}

function photoOf(bitmap, width, height, background, channels) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = background;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const channel = (weights) => Float32Array.from({ length: width * height }, (_, i) => {
    return (weights[0] * data[4 * i] + weights[1] * data[4 * i + 1] + weights[2] * data[4 * i + 2]) / 255;
  });
  const weights = channels === 3 ? [[1, 0, 0], [0, 1, 0], [0, 0, 1]] : [[0.299, 0.587, 0.114]]; // ITU-R BT.601
  return { width, height, planes: weights.map(channel) };
}

/** The photo's middle square, as training takes images of any form: a plane for each channel. */
function middleSquare({ width, height, planes }, size) {
  const side = Math.min(width, height), step = side / size;
  return planes.map((plane) => resampled(plane, width, height, (width - side) / 2, (height - side) / 2, step, size, true));
}

/** The ink of a grey photo as ink.js places that of strokes; null where there is none. */
function inkOfPhoto({ width, height, planes: [grey] }, size, box) {
  const light = isMostlyDark(grey, width, height) ? grey : grey.map((value) => 1 - value);
  if (width === size && height === size) return light; // an image as it stands in the data set, or inverted
  let ink = withoutSpecks(contrasted(withoutBackground(light, width, height)), width, height);
  const found = boxOf(ink, width, height);
  if (!found) return null;
  ink = thickened(ink, width, height, found, box);
  const { left, right, top, bottom } = boxOf(ink, width, height);
  const step = Math.max(right - left, bottom - top) / (box * size);
  const x = (left + right - step * size) / 2, y = (top + bottom - step * size) / 2;
  const middle = resampled(ink, width, height, x, y, step, size);
  const shift = shiftToMass(middle, size, { x: (right - left) / step / 2, y: (bottom - top) / step / 2 });
  return resampled(ink, width, height, x - shift.x * step, y - shift.y * step, step, size);
}

/** Whether the border is darker than the middle of the range: light ink on dark ground. */
function isMostlyDark(grey, width, height) {
  const border = grey.filter((_, i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1).sort();
  const sorted = Float32Array.from(grey).sort();
  return border[border.length >> 1] <= (sorted[0] + sorted[sorted.length - 1]) / 2;
}

/** Light ink on a ground that may be uneven, such as paper in a shadow: what is brighter than the
 *  brightest of the darkest nearby (a white top-hat). */
function withoutBackground(light, width, height) {
  const radius = Math.max(2, Math.round(Math.max(width, height) / 8));
  const negative = light.map((value) => -value);
  const least = spread(negative, width, height, radius).map((value) => -value);
  const ground = spread(least, width, height, radius);
  return light.map((value, i) => value - ground[i]);
}

/** Black below a quarter, white above three quarters of the contrast between ground and ink (Otsu 1979). */
function contrasted(plane) {
  const bins = new Float64Array(256);
  for (const value of plane) bins[Math.min(255, Math.max(0, Math.round(255 * value)))]++;
  const total = plane.length, sum = bins.reduce((all, count, level) => all + count * level, 0);
  let below = 0, sumBelow = 0, best = 0, low = 0, high = 255;
  for (let level = 0; level < 255; level++) {
    below += bins[level];
    sumBelow += bins[level] * level;
    if (!below || below === total) continue;
    const ground = sumBelow / below, ink = (sum - sumBelow) / (total - below);
    const between = below * (total - below) * (ink - ground) ** 2;
    if (between > best) [best, low, high] = [between, ground / 255, ink / 255];
  }
  if (high - low < 0.1) return plane.map(() => 0); // noise alone
  const quarter = (high - low) / 4;
  return plane.map((value) => Math.max(0, Math.min(1, (value - low - quarter) / (2 * quarter))));
}

/** The ink without patches that hold little of it. */
function withoutSpecks(ink, width, height) {
  const patch = new Int32Array(ink.length), masses = [0], stack = [];
  ink.forEach((value, start) => {
    if (value <= 0 || patch[start]) return;
    patch[start] = masses.length;
    let mass = 0;
    for (stack.push(start); stack.length; ) {
      const i = stack.pop(), x = i % width;
      mass += ink[i];
      for (const [next, inside] of [[i - 1, x > 0], [i + 1, x < width - 1], [i - width, i >= width], [i + width, i < width * (height - 1)]]) {
        if (inside && ink[next] > 0 && !patch[next]) {
          patch[next] = masses.length;
          stack.push(next);
        }
      }
    }
    masses.push(mass);
  });
  const least = SPECK * masses.reduce((a, b) => a + b);
  return ink.map((value, i) => (masses[patch[i]] > least ? value : 0));
}

function boxOf(ink, width, height) {
  let left = width, right = 0, top = height, bottom = 0;
  ink.forEach((value, i) => {
    if (value < 0.1) return;
    const x = i % width, y = Math.floor(i / width);
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x + 1), Math.min(top, y), Math.max(bottom, y + 1)];
  });
  return right > left ? { left, right, top, bottom } : null;
}

/** Thin lines widened to the pen's width; their own is twice their area over their outline. */
function thickened(ink, width, height, { left, right, top, bottom }, box) {
  let area = 0, outline = 0;
  for (let i = 0; i < ink.length; i++) {
    area += ink[i];
    outline += (Math.abs(ink[i] - (ink[i + 1] || 0)) + Math.abs(ink[i] - (ink[i + width] || 0))) * (Math.PI / 4);
  }
  const wanted = (PEN / box) * Math.max(right - left, bottom - top);
  const missing = Math.round((wanted - (2 * area) / outline) / 2);
  return missing > 0 ? spread(ink, width, height, missing) : ink;
}

/** The largest value of the square of 2 · radius + 1 pixels around each. */
function spread(plane, width, height, radius) {
  const along = (values, lines, length, stride, step) => {
    const result = new Float32Array(values.length);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < length; i++) {
        const from = Math.max(0, i - radius), to = Math.min(length - 1, i + radius), start = line * stride;
        let largest = values[start + from * step];
        for (let j = from + 1; j <= to; j++) {
          const value = values[start + j * step];
          if (value > largest) largest = value;
        }
        result[start + i * step] = largest;
      }
    }
    return result;
  };
  return along(along(plane, height, width, width, 1), width, height, 1, width);
}

/** A square of size x size pixels from (x, y) on, `step` source pixels each, by the mean of what each covers.
 *  Outside is black, or like the edge. */
function resampled(plane, width, height, x, y, step, size, edgeOutside = false) {
  const samples = Math.max(1, Math.ceil(2 * step)), result = new Float32Array(size * size);
  const limited = (i, length) => Math.max(0, Math.min(length - 1, i));
  const value = (i, j) => {
    const [x, y] = [limited(i, width), limited(j, height)];
    return edgeOutside || (x === i && y === j) ? plane[y * width + x] : 0;
  };
  for (let n = 0; n < result.length; n++) {
    let sum = 0;
    for (let k = 0; k < samples * samples; k++) {
      const u = x + ((n % size) + ((k % samples) + 0.5) / samples) * step - 0.5;
      const v = y + (Math.floor(n / size) + (Math.floor(k / samples) + 0.5) / samples) * step - 0.5;
      const i = Math.floor(u), j = Math.floor(v), right = u - i, down = v - j;
      sum += (1 - down) * ((1 - right) * value(i, j) + right * value(i + 1, j));
      sum += down * ((1 - right) * value(i, j + 1) + right * value(i + 1, j + 1));
    }
    result[n] = sum / (samples * samples);
  }
  return result;
}
