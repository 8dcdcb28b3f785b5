"use strict";
// z and c as infogan_dist/latents.py lays them out. A spec: {noise: [{dim, distribution}], categorical: [widths],
// continuous: number, balanced: boolean}. Latents: {noise, categorical, continuous}, arrays of numbers.

/** z and c of image `row` of `infogan-dist sample --seed SEED`. */
function latentsAt(spec, seed, row = 0) {
  const stream = new Stream(seed, "sample");
  const noise = spec.noise.flatMap(({ dim, distribution }, i) => {
    const draws = stream.derived(`noise_${i}`);
    return distribution === "uniform" ? draws.uniform(row, dim).map((u) => 2 * u - 1) : draws.normal(row, dim);
  });
  const categorical = spec.categorical.map((width, i) => {
    const draws = stream.derived(`categorical_${i}`);
    return spec.balanced ? balancedClass(draws, row, width) : draws.integers(row, 1, width)[0];
  });
  const continuous = Array.from({ length: spec.continuous }, (_, i) => {
    return 2 * stream.derived(`continuous_${i}`).uniform(row, 1)[0] - 1;
  });
  return { noise: Float32Array.from(noise), categorical, continuous: Float32Array.from(continuous) };
}

/** Rows n · width to (n + 1) · width hold each class once, in random order. */
function balancedClass(stream, row, width) {
  const keys = stream.derived("balanced").bits(Math.floor(row / width), width);
  const order = keys.map((_, i) => i).sort((a, b) => keys[a] - keys[b]);
  return order[row % width];
}

/** G's input: noise, one-hot classes, continuous codes. */
function latentVector(spec, { noise, categorical, continuous }) {
  const oneHots = spec.categorical.flatMap((width, i) => Array.from({ length: width }, (_, k) => Number(k === categorical[i])));
  return Float32Array.from([...noise, ...oneHots, ...continuous]);
}

/** What Q's output says: `probabilities`, an array by categorical code, and the `mean` of each continuous code. */
function posterior(spec, output) {
  let start = 0;
  const probabilities = spec.categorical.map((width) => {
    const logits = output.slice(start, (start += width));
    const largest = Math.max(...logits);
    const exponentials = Array.from(logits, (x) => Math.exp(x - largest));
    const total = exponentials.reduce((a, b) => a + b, 0);
    return exponentials.map((x) => x / total);
  });
  return { probabilities, mean: Array.from(output.slice(start, start + spec.continuous)) };
}
