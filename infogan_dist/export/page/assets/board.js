"use strict";
// The board: strokes by mouse, finger, pen or keyboard. A point is in 0..1, on the grid of 1/4095 that a link keeps.

const GRID = 4095;
const KEY_STEP = 1 / 40; // of the board's side, for a press of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Board {
  /** `changed(finished)` follows every change of `strokes`; not finished: the pen is still down. Without `draws` it only shows. */
  constructor(canvas, draws, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.changed = changed;
    this.strokes = [];
    this.picture = null; // a canvas shown in the place of strokes
    this.stroke = null; // being drawn
    this.cursor = null; // of the keyboard: {x, y, down}
    this.paint();
    if (!draws) return;
    canvas.addEventListener("pointerdown", (event) => this.penDown(event));
    canvas.addEventListener("pointermove", (event) => this.penMoves(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => this.penUp());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.show(null));
  }

  replace(strokes, picture = null) {
    this.strokes = strokes;
    this.picture = picture;
    this.stroke = null;
    this.paint();
  }

  undo() {
    this.replace(this.strokes.slice(0, -1));
    this.changed(true);
  }

  begin(point) {
    if (this.picture) this.replace([]);
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this.went(false);
  }

  add(point) {
    const [x, y] = this.stroke[this.stroke.length - 1];
    if (Math.hypot(point[0] - x, point[1] - y) < 0.01) return;
    this.stroke.push(point);
    this.went(false);
  }

  penUp() {
    if (!this.stroke) return;
    this.stroke = null;
    this.went(true);
  }

  went(finished) {
    this.paint();
    this.changed(finished);
  }

  penDown(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor = null;
    this.begin(this.pointOf(event));
  }

  penMoves(event) {
    if (!this.stroke || !event.isPrimary || this.cursor) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) this.add(this.pointOf(each));
  }

  pointOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height].map(onGrid);
  }

  /** Arrows move a cursor, the space bar puts the pen down or lifts it. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const cursor = this.cursor ?? { x: 0.5, y: 0.25, down: false };
    if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      this.show({ ...cursor, x: onGrid(cursor.x + x * KEY_STEP), y: onGrid(cursor.y + y * KEY_STEP) });
      if (cursor.down) this.add([this.cursor.x, this.cursor.y]);
    } else if (event.key === " ") {
      this.show({ ...cursor, down: !cursor.down });
      if (this.cursor.down) this.begin([cursor.x, cursor.y]);
      else this.penUp();
    } else return;
    event.preventDefault();
  }

  show(cursor) {
    if (!cursor) this.penUp();
    this.cursor = cursor;
    this.paint();
  }

  paint() {
    const { context, canvas } = this, side = canvas.width;
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    if (this.picture) context.drawImage(this.picture, 0, 0, side, side);
    context.strokeStyle = context.fillStyle = "#fff";
    context.lineWidth = side / 16;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      stroke.forEach(([x, y]) => context.lineTo(x * side, y * side));
      if (stroke.length === 1) context.lineTo(stroke[0][0] * side, stroke[0][1] * side);
      context.stroke();
    }
    if (this.cursor) {
      const { x, y, down } = this.cursor;
      context.beginPath();
      context.arc(x * side, y * side, side / (down ? 40 : 24), 0, 2 * Math.PI);
      context.lineWidth = side / 100;
      context.strokeStyle = "#8fb0ff";
      context.stroke();
    }
  }
}

function onGrid(value) {
  return Math.round(Math.max(0, Math.min(1, value)) * GRID) / GRID;
}
