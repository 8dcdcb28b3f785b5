"use strict";
// The page's state in its link, after #: seed=12&categorical_0=3&continuous_0=0.5&ink=STROKES. Names are those of --set.

const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function hashOf({ seed, categorical, continuous, strokes }) {
  const parts = [`seed=${seed}`, ...settingsOf({ categorical, continuous })];
  if (strokes.length) parts.push(`ink=${strokes.map(inkText).join(".")}`);
  return parts.join("&");
}

/** The codes as `sample --set` takes them. */
function settingsOf({ categorical, continuous }) {
  return [...categorical.map((k, i) => `categorical_${i}=${k}`), ...continuous.map((value, i) => `continuous_${i}=${value}`)];
}

/** What a link says of the state; what it does not say, or says wrongly, is left out. */
function stateOfHash(hash, spec) {
  const said = new URLSearchParams(hash.replace(/^#/, "")), state = {};
  if (/^\d{1,15}$/.test(said.get("seed") ?? "")) state.seed = Number(said.get("seed"));
  state.categorical = spec.categorical.map((width, i) => {
    const text = said.get(`categorical_${i}`) ?? "";
    return /^\d{1,5}$/.test(text) && Number(text) < width ? Number(text) : undefined;
  });
  state.continuous = Array.from({ length: spec.continuous }, (_, i) => {
    const text = said.get(`continuous_${i}`), value = Number(text);
    return text && Math.abs(value) <= 1 ? value : undefined;
  });
  const ink = said.get("ink") ?? "";
  state.strokes = /^[\w.-]+$/.test(ink) ? ink.split(".").map(strokeOf).filter((stroke) => stroke.length) : [];
  return state;
}

/** Four characters a point: 12 bits of x, 12 of y. */
function inkText(stroke) {
  const characters = (value) => BASE64URL[value >> 6] + BASE64URL[value & 63];
  return stroke.map(([x, y]) => characters(Math.round(x * GRID)) + characters(Math.round(y * GRID))).join("");
}

function strokeOf(text) {
  const value = (at) => (BASE64URL.indexOf(text[at]) * 64 + BASE64URL.indexOf(text[at + 1])) / GRID;
  return Array.from({ length: Math.floor(text.length / 4) }, (_, n) => [value(4 * n), value(4 * n + 2)]);
}
