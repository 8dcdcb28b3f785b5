"use strict";
// Runs beside the page, so that a picture being drawn never holds the pen up. Its text is kernel.js and this file.

const networks = {};

onmessage = ({ data }) => {
  if (data.load) {
    networks[data.load] = unpacked(data.layers, data.base64);
    return;
  }
  const started = performance.now();
  const outputs = data.inputs.map((input) => computed(networks[data.network], input));
  postMessage({ id: data.id, outputs, milliseconds: performance.now() - started });
};
