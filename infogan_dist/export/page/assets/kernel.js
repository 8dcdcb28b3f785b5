"use strict";
// Computes a network on one image: matrices, and 4 x 4 convolutions of stride 2 that halve or double a map, as pack.py packs
// them. A map is [H, W, C]. Sums are in double precision.

/** The layers with their weights and biases, from pack.py's description and base64. */
function unpacked(description, base64) {
  const bytes = fromBase64(base64);
  const numbers = { linear: 1, halving: 16, doubling: 16 };
  const biasCount = description.reduce((total, layer) => total + layer.outputs, 0);
  const biases = new Float32Array(bytes.buffer, 0, biasCount);
  const weights = fromHalf(new Uint16Array(bytes.buffer, 4 * biasCount));
  let bias = 0, weight = 0;
  return description.map((layer) => ({
    ...layer,
    bias: biases.subarray(bias, (bias += layer.outputs)),
    weight: weights.subarray(weight, (weight += numbers[layer.kind] * layer.inputs * layer.outputs)),
  }));
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text); // since 2025
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** float16, as 16-bit words, to float32. */
function fromHalf(words) {
  const values = Float32Array.from({ length: 2 ** 16 }, (_, word) => {
    const sign = word & 0x8000 ? -1 : 1, exponent = (word >> 10) & 31, fraction = word & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
  const floats = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) floats[i] = values[words[i]];
  return floats;
}

/** The network's output for one input, both Float32Array. */
function computed(layers, input) {
  return layers.reduce((x, layer) => activated(layer, LAYERS[layer.kind](layer, x)), input);
}

const LAYERS = {
  linear({ weight, bias, inputs, outputs }, x) {
    const y = bias.slice();
    addProducts(y, 0, outputs, weight, 0, inputs, x, 0, inputs);
    return y;
  },

  /** Each output sees 4 rows of 4 pixels, from one before its own two. */
  halving({ weight, bias, inputs, outputs }, x) {
    const side = Math.sqrt(x.length / inputs), half = side / 2, row = 4 * inputs, stride = (side + 2) * inputs;
    const padded = withBorder(x, side, inputs), y = repeated(bias, half * half);
    for (let i = 0; i < half; i++) {
      for (let j = 0; j < half; j++) {
        const at = (i * half + j) * outputs, corner = 2 * i * stride + 2 * j * inputs;
        for (let k = 0; k < 4; k++) addProducts(y, at, outputs, weight, k * row, 4 * row, padded, corner + k * stride, row);
      }
    }
    return y;
  },

  /** Each output sees 2 rows of 2 pixels; which part of the kernel these meet depends on its parity. */
  doubling({ weight, bias, inputs, outputs }, x) {
    const side = Math.sqrt(x.length / inputs), row = 2 * inputs, stride = (side + 2) * inputs;
    const padded = withBorder(x, side, inputs), y = repeated(bias, 4 * side * side);
    for (let i = 0; i < 2 * side; i++) {
      for (let j = 0; j < 2 * side; j++) {
        const at = (i * 2 * side + j) * outputs, corner = ((i + 1) >> 1) * stride + ((j + 1) >> 1) * inputs;
        const part = (2 * (i & 1) + (j & 1)) * outputs * 2 * row;
        addProducts(y, at, outputs, weight, part, 2 * row, padded, corner, row);
        addProducts(y, at, outputs, weight, part + row, 2 * row, padded, corner + stride, row);
      }
    }
    return y;
  },
};

/** Add to y[at + o], for each of `outputs`, the scalar product of `length` weights, from `w + o * stride` on, and of x from `from` on. */
function addProducts(y, at, outputs, weight, w, stride, x, from, length) {
  let o = 0;
  for (; o + 3 < outputs; o += 4) { // four at a time share the reading of x: half as fast again
    const w0 = w + o * stride, w1 = w0 + stride, w2 = w1 + stride, w3 = w2 + stride;
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let n = 0; n < length; n++) {
      const value = x[from + n];
      s0 += weight[w0 + n] * value;
      s1 += weight[w1 + n] * value;
      s2 += weight[w2 + n] * value;
      s3 += weight[w3 + n] * value;
    }
    y[at + o] += s0;
    y[at + o + 1] += s1;
    y[at + o + 2] += s2;
    y[at + o + 3] += s3;
  }
  for (; o < outputs; o++) {
    let sum = 0;
    for (let n = 0; n < length; n++) sum += weight[w + o * stride + n] * x[from + n];
    y[at + o] += sum;
  }
}

function repeated(values, times) {
  const all = new Float32Array(values.length * times);
  for (let i = 0; i < times; i++) all.set(values, i * values.length);
  return all;
}

/** A map with one pixel of zeros around it. */
function withBorder(x, side, channels) {
  const padded = new Float32Array((side + 2) * (side + 2) * channels), row = side * channels;
  for (let i = 0; i < side; i++) {
    padded.set(x.subarray(i * row, (i + 1) * row), ((i + 1) * (side + 2) + 1) * channels);
  }
  return padded;
}

function activated({ slope, tanh }, y) {
  if (slope !== 1) for (let i = 0; i < y.length; i++) if (y[i] < 0) y[i] *= slope;
  if (tanh) for (let i = 0; i < y.length; i++) y[i] = Math.tanh(y[i]);
  return y;
}
