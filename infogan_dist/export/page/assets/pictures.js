"use strict";
// G's images on canvases, and canvases as files. An image is a Float32Array [H, W, C] in [-1, 1].

/** Paint an image with its corner at (x, y), a pixel of it on a pixel of the canvas. */
function paint(canvas, image, { size, channels }, x = 0, y = 0) {
  const data = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = level(image[i * channels + (channels === 3 ? c : 0)]);
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(data, x, y);
}

/** A grey level of 0 to 255, rounded as `sample` rounds. */
function level(value) {
  const scaled = Math.fround(Math.fround(value + 1) * 127.5), floor = Math.floor(scaled);
  const up = scaled - floor > 0.5 || (scaled - floor === 0.5 && floor % 2 === 1); // half to even
  return Math.max(0, Math.min(255, floor + Number(up)));
}

/** Planes of 0..1 as the image that Q gets: in whole grey levels, as it would be read from a file. */
function imageOf(planes) {
  const image = new Float32Array(planes[0].length * planes.length);
  planes.forEach((plane, c) => plane.forEach((value, i) => (image[i * planes.length + c] = Math.round(255 * value) / 127.5 - 1)));
  return image;
}

/** Hand a canvas to the reader as a PNG, each pixel enlarged to `scale` x `scale`. */
function savePng(canvas, name, scale) {
  const large = Object.assign(document.createElement("canvas"), { width: scale * canvas.width, height: scale * canvas.height });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }, "image/png");
}
