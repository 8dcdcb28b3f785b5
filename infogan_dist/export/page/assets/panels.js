"use strict";
// What the page shows of its state: cards, sliders with their strips, the sheet. Each is built once and filled many times.

const SHEET_COLUMNS = 10;
const MOST_CLASSES = 20; // shown at a time
const FRAMES = 9; // of a strip
const GAP = 1; // pixels between the images of a strip or sheet

const element = (id) => document.getElementById(id);

function made(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

function percent(share) {
  if (share > 0 && share < 0.005) return "<1 %";
  return share < 1 && share >= 0.995 ? ">99 %" : `${Math.round(100 * share)} %`;
}

/** What class k of a categorical code is called: the name it was given afterwards, or its number. */
function className(content, code, k) {
  return (code === content.code && content.names[k]) || `class ${k}`;
}

/** The classes to show of a code, in the order of their names: all, or those around the chosen one where they are too many. */
function shownClasses(content, code, chosen) {
  const width = content.latents.categorical[code], first = Math.max(0, Math.min(width - MOST_CLASSES, chosen - MOST_CLASSES / 2));
  const classes = Array.from({ length: Math.min(width, MOST_CLASSES) }, (_, i) => first + i);
  const name = (k) => className(content, code, k);
  return classes.sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }));
}

/** A card for each class: G's image, Q's probability and the choice of the class. */
class Cards {
  constructor(grid, content, chosen) {
    Object.assign(this, { grid, content, chosen, cards: new Map(), key: "" });
  }

  /** Have a card for each of `classes` of a code. */
  build(code, classes) {
    const key = `${code}:${classes}`;
    if (key === this.key) return;
    this.key = key;
    this.cards = new Map(classes.map((k) => [k, this.card(code, k)]));
    this.grid.replaceChildren(...Array.from(this.cards.values(), ({ label }) => label));
  }

  card(code, k) {
    const { size } = this.content.image, name = className(this.content, code, k);
    const input = made("input", { type: "radio", name: "class", value: k });
    const canvas = made("canvas", { width: size, height: size });
    const fill = made("i"), share = made("span", { className: "share" });
    input.addEventListener("change", () => this.chosen(k));
    const text = made("span", { className: "text" }, made("span", { className: "name", textContent: name, title: name }), share);
    const label = made("label", { className: "card" }, input, canvas, made("span", { className: "bar" }, fill), text);
    return { label, input, canvas, fill, share, name };
  }

  /** Mark the chosen class and Q's probability of each; null where Q has read nothing. */
  show(chosen, probabilities) {
    for (const [k, { input, fill, share, name }] of this.cards) {
      const said = probabilities ? percent(probabilities[k]) : "";
      input.checked = k === chosen;
      input.setAttribute("aria-label", said ? `${name}, ${said}` : name);
      fill.style.width = probabilities ? `${100 * probabilities[k]}%` : "0";
      share.textContent = said;
    }
  }
}

/** Images side by side on one canvas. */
class Strip {
  constructor(content, columns, rows = 1, canvas = made("canvas", { className: "strip" })) {
    this.image = content.image;
    this.columns = columns;
    this.pitch = content.image.size + GAP;
    this.canvas = Object.assign(canvas, { width: columns * this.pitch - GAP, height: rows * this.pitch - GAP });
  }

  paint(i, image) {
    paint(this.canvas, image, this.image, (i % this.columns) * this.pitch, Math.floor(i / this.columns) * this.pitch);
  }

  /** The column and row of the image under the pointer. */
  at(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const place = (from, start, length, count) => Math.max(0, Math.min(count - 1, Math.floor(((from - start) / length) * count)));
    const rows = (this.canvas.height + GAP) / this.pitch;
    return [place(event.clientX, left, width, this.columns), place(event.clientY, top, height, rows)];
  }
}

/** A continuous code: a slider from -1 to 1, and below it what G draws along it. */
class Slider {
  constructor(content, i, changed) {
    this.output = made("output");
    this.input = made("input", { type: "range", min: -1, max: 1, step: 0.01, id: `continuous_${i}` });
    this.strip = new Strip(content, FRAMES);
    this.strip.canvas.classList.add("choosable");
    this.strip.canvas.setAttribute("aria-hidden", "true"); // the slider does the same
    this.input.addEventListener("input", () => changed(Number(this.input.value)));
    this.strip.canvas.addEventListener("click", (event) => changed(Slider.levels[this.strip.at(event)[0]]));
    this.source = made("small");
    const label = made("label", { htmlFor: this.input.id }, `continuous_${i}`, this.source, this.output);
    this.node = made("div", { className: "control" }, label, this.input, this.strip.canvas);
  }

  /** `source` says where the value comes from. */
  show(value, source) {
    this.input.value = value;
    this.source.textContent = source;
    this.output.textContent = value.toFixed(2).replace("-", "−");
  }

  static levels = Array.from({ length: FRAMES }, (_, i) => -1 + (2 * i) / (FRAMES - 1));
}

/** In the place of sliders, where there is no continuous code: what G draws from this z to the next seed's. */
class Walk {
  constructor(content) {
    this.strip = new Strip(content, FRAMES);
    this.strip.canvas.setAttribute("role", "img");
    this.label = made("span");
    const label = made("p", { className: "label" }, this.label, made("small", { textContent: "in even steps" }));
    this.node = made("div", { className: "control" }, label, this.strip.canvas);
  }

  show(seed) {
    this.label.textContent = `From this z to the next: seeds ${seed} and ${seed + 1}`;
    this.strip.canvas.setAttribute("aria-label", this.label.textContent);
  }
}

/** The choice of a categorical code's class by name. */
class Picker {
  constructor(content, code, chosen) {
    const width = content.latents.categorical[code], name = (k) => className(content, code, k);
    this.select = made("select", { id: `categorical_${code}` }, ...Array.from({ length: width }, (_, k) => made("option", { value: k, textContent: name(k) })));
    this.select.addEventListener("change", () => chosen(Number(this.select.value)));
    this.node = made("div", { className: "control" }, made("label", { htmlFor: this.select.id, textContent: this.select.id }), this.select);
  }

  show(k) {
    this.select.value = k;
  }
}
