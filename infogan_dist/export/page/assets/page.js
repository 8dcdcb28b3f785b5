"use strict";
// The page: its state, what changes it, and what follows from it. `content` is what Python says of the checkpoint.

const LARGEST_SEED = 999_999_999_999_999; // every integer up to here is a number of JavaScript, and so is the next

class Page {
  constructor(content, compute) {
    this.content = content;
    this.spec = content.latents;
    this.compute = compute;
    this.queue = new Queue(compute, ["read", "picture", "cards", "strips", "match", "sheet"], () => {
      showProblem("Something went wrong while computing. Reload the page to try again.");
    });
    this.reading = null; // what Q says of the drawing or image: {probabilities, mean}
    this.keys = {}; // of what each panel shows, so that nothing is drawn twice
    this.code = content.code; // the categorical code that cards and sheet show
    this.build();
    this.restore();
    addEventListener("hashchange", () => this.restore());
  }

  build() {
    const { content, spec } = this, { size } = content.image;
    document.body.classList.toggle("no-drawing", !content.draws);
    if (!content.draws) setAttributes(element("board"), { role: "button", "aria-label": "Open an image" });
    document.body.classList.toggle("no-classes", !spec.categorical.length);
    for (const id of ["seen", "picture"]) Object.assign(element(id), { width: size, height: size });
    this.board = new Board(element("board"), content.draws, (finished) => this.drew(finished));
    this.cards = new Cards(document.querySelector("#cards .grid"), content, (k) => this.choose(this.code, k));
    this.sliders = Array.from({ length: spec.continuous }, (_, i) => new Slider(content, i, (value) => this.slide(i, value)));
    element("sliders").append(...this.sliders.map(({ node }) => node));
    if (!spec.continuous) this.walk = new Walk(content);
    if (this.walk) element("sliders").append(this.walk.node);
    this.pickers = spec.categorical.map((_, code) => new Picker(content, code, (k) => this.choose(code, k)));
    const needed = this.pickers.filter((_, code) => spec.categorical.length > 1 || spec.categorical[code] > MOST_CLASSES);
    element("pickers").append(...needed.map(({ node }) => node));
    this.buildCodeChoice();
    this.listen();
  }

  buildCodeChoice() {
    if (this.spec.categorical.length < 2) return;
    const choice = element("cards-code");
    choice.append(...this.spec.categorical.map((_, code) => made("option", { value: code, textContent: `categorical_${code}` })));
    choice.value = this.code;
    choice.closest("p").hidden = false;
    choice.addEventListener("change", () => {
      this.code = Number(choice.value);
      this.refresh();
    });
  }

  listen() {
    element("undo").addEventListener("click", () => this.board.undo());
    element("clear").addEventListener("click", () => this.clear());
    element("seed").addEventListener("change", ({ target }) => {
      target.value = Math.max(0, Math.min(LARGEST_SEED, Math.floor(Number(target.value))));
      this.setSeed(Number(target.value));
    });
    element("dice").addEventListener("click", () => this.setSeed(Math.floor(Math.random() * 10_000)));
    element("save").addEventListener("click", () => savePng(element("picture"), `${this.fileName()}.png`, 8));
    element("save-sheet").addEventListener("click", () => savePng(this.sheet.canvas, "every-class.png", 4));
    element("copy").addEventListener("click", () => this.copyLink());
    element("sheet").addEventListener("click", (event) => this.chooseCell(event));
    listenForImages((files) => this.open(files[0]), this.content.draws);
  }

  // What changes the state

  restore() {
    if (location.hash.slice(1) === this.hash) return; // our own
    const said = stateOfHash(location.hash, this.spec), seed = said.seed ?? this.seed ?? 0;
    const drawn = latentsAt(this.spec, seed);
    this.seed = seed;
    this.categorical = said.categorical.map((k, i) => k ?? drawn.categorical[i]);
    this.continuous = said.continuous.map((value, i) => value ?? inRange(drawn.continuous[i]));
    this.board.replace(said.strokes);
    this.matched = false;
    if (said.strokes.length) this.read(false);
    else this.forget();
    this.refresh();
  }

  choose(code, k) {
    this.categorical[code] = k;
    this.refresh();
  }

  slide(i, value) {
    this.continuous[i] = value;
    this.refresh();
  }

  setSeed(seed) {
    this.seed = seed;
    this.matched = false;
    this.queue.cancel("match");
    this.refresh();
  }

  chooseCell(event) {
    const [column, row] = this.sheet.at(event);
    this.setSeed(this.firstSeed() + column);
    if (this.spec.categorical.length) this.choose(this.code, this.sheet.classes[row]);
  }

  drew(finished) {
    showProblem("");
    this.queue.cancel("match");
    if (this.board.strokes.length) this.read(true, finished);
    else this.forget();
    this.refresh();
  }

  clear() {
    this.board.replace([]);
    showProblem("");
    this.forget();
    this.refresh();
    element("board").focus();
  }

  async open(file) {
    const { image: { size, channels }, inkBox } = this.content;
    try {
      const photo = await readPhoto(file, channels, size);
      const ink = inkBox && channels === 1 ? inkOfPhoto(photo, size, inkBox) : null;
      if (inkBox && channels === 1 && !ink) throw new Error(`No ink was found in ${file.name || "the image"}. Use one with more contrast.`);
      const image = imageOf(ink ? [ink] : middleSquare(photo, size));
      const shown = made("canvas", { width: size, height: size });
      paint(shown, image, this.content.image);
      showProblem("");
      this.board.replace([], shown);
      this.readImage(image, true, true);
      this.refresh();
    } catch (error) {
      showProblem(error.message);
    }
  }

  // Q's side

  /** Have Q read the drawing; with `follow` the codes become what it says, and where it is `finished`, z too. */
  read(follow, finished = false) {
    const { image: { size, channels }, inkBox } = this.content;
    const plane = inkOfStrokes(this.board.strokes, size, inkBox);
    this.readImage(imageOf(Array(channels).fill(plane)), follow, finished);
  }

  readImage(image, follow, finished) {
    paint(element("seen"), image, this.content.image);
    this.queue.ask("read", "Q", [image], (_, output) => {
      this.reading = posterior(this.spec, output);
      if (follow) this.follow(image, finished);
      this.refresh();
    });
  }

  follow(image, finished) {
    const { probabilities, mean } = this.reading;
    this.categorical = probabilities.map((shares) => shares.indexOf(Math.max(...shares)));
    this.continuous = mean.map(inRange);
    if (finished) this.match(image);
  }

  /** Find, among the first seeds, the z with which G comes nearest to an image. */
  match(image) {
    const seeds = Array.from({ length: this.content.tries }, (_, seed) => seed);
    let best = Infinity, nearest = 0;
    const output = (seed, drawn) => {
      let distance = 0;
      for (let i = 0; i < image.length; i++) distance += (drawn[i] - image[i]) ** 2;
      if (distance < best) [best, nearest] = [distance, seed];
    };
    this.queue.ask("match", "G", seeds.map((seed) => this.vector({ seed })), output, () => {
      this.seed = nearest;
      this.matched = true;
      this.refresh();
    });
  }

  forget() {
    this.queue.cancel("read");
    this.queue.cancel("match");
    this.reading = null;
    this.matched = false;
    const { size, channels } = this.content.image;
    paint(element("seen"), new Float32Array(size * size * channels).fill(-1), this.content.image);
  }

  // G's side

  /** G's input for this state, but for what is given: a seed, classes, continuous codes or noise. */
  vector(changes = {}) {
    const { seed, categorical, continuous, noise } = { seed: this.seed, categorical: this.categorical, continuous: this.continuous, ...changes };
    return latentVector(this.spec, { noise: noise ?? this.noise(seed), categorical, continuous });
  }

  noise(seed) {
    this.noises ??= new Map();
    if (this.noises.size > 1000) this.noises.clear();
    if (!this.noises.has(seed)) this.noises.set(seed, latentsAt(this.spec, seed).noise);
    return this.noises.get(seed);
  }

  withClass(k, changes = {}) {
    if (!this.spec.categorical.length) return this.vector(changes);
    return this.vector({ ...changes, categorical: this.categorical.map((held, code) => (code === this.code ? k : held)) });
  }

  withContinuous(i, value) {
    return this.vector({ continuous: this.continuous.map((held, each) => (each === i ? value : held)) });
  }

  classes() {
    return this.spec.categorical.length ? shownClasses(this.content, this.code, this.categorical[this.code]) : [0];
  }

  /** The first of the sheet's seeds: their tens hold still while one of them is chosen. */
  firstSeed() {
    return this.seed - (this.seed % SHEET_COLUMNS);
  }

  /** Draw a panel, unless it shows what `key` says already. */
  draw(panel, key, vectors, paintOne) {
    if (String(key) === this.keys[panel]) return;
    this.keys[panel] = String(key);
    this.queue.ask(panel, "G", vectors(), paintOne, () => showPace(this.queue.pace.G));
  }

  refresh() {
    const classes = this.classes(), { image } = this.content, { seed, categorical, continuous } = this;
    const others = [this.code, categorical.filter((_, code) => code !== this.code), continuous]; // what cards and sheet hold still
    this.draw("picture", [seed, categorical, continuous], () => [this.vector()], (_, drawn) => paint(element("picture"), drawn, image));
    if (this.spec.categorical.length) {
      this.cards.build(this.code, classes);
      const cards = Array.from(this.cards.cards.values());
      this.draw("cards", [seed, others, classes], () => classes.map((k) => this.withClass(k)), (i, drawn) => paint(cards[i].canvas, drawn, image));
    }
    this.draw("strips", [seed, categorical, continuous], () => this.stripVectors(), (n, drawn) => {
      (this.walk ?? this.sliders[Math.floor(n / FRAMES)]).strip.paint(n % FRAMES, drawn);
    });
    this.layOutSheet(classes);
    this.draw("sheet", [this.firstSeed(), others, classes], () => this.sheetVectors(), (n, drawn) => this.sheet.paint(n, drawn));
    showPage(this);
    clearTimeout(this.linking);
    this.linking = setTimeout(() => this.link(), 200);
  }

  stripVectors() {
    if (!this.walk) return this.sliders.flatMap((_, i) => Slider.levels.map((value) => this.withContinuous(i, value)));
    const [from, to] = [this.noise(this.seed), this.noise(this.seed + 1)];
    const steps = Array.from({ length: FRAMES }, (_, i) => from.map((z, n) => z + ((to[n] - z) * i) / (FRAMES - 1)));
    return steps.map((noise) => this.vector({ noise }));
  }

  layOutSheet(classes) {
    if (String(this.sheet?.classes) === String(classes)) return;
    this.sheet = new Strip(this.content, SHEET_COLUMNS, classes.length, element("sheet"));
    this.sheet.classes = classes;
  }

  sheetVectors() {
    const seeds = Array.from({ length: SHEET_COLUMNS }, (_, i) => this.firstSeed() + i);
    return this.sheet.classes.flatMap((k) => seeds.map((seed) => this.withClass(k, { seed })));
  }

  // What leaves the page

  fileName() {
    return [`seed-${this.seed}`, ...this.categorical.map((k) => `class-${k}`)].join("-");
  }

  link() {
    this.hash = hashOf({ ...this, strokes: this.board.strokes });
    history.replaceState(null, "", `#${this.hash}`);
  }

  async copyLink() {
    this.link();
    try {
      await navigator.clipboard.writeText(location.href);
      const without = this.board.picture ? " It holds z and the codes, not your image." : "";
      element("copied").textContent = `Link copied.${without}`;
    } catch {
      element("copied").textContent = "Copy the link from the address bar.";
    }
    setTimeout(() => (element("copied").textContent = ""), 4000);
  }
}

/** A value of a continuous code, as links and the command line have it. */
const inRange = (value) => Math.round(100 * Math.max(-1, Math.min(1, value))) / 100;
