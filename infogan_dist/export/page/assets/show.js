"use strict";
// What the page shows of its state, in words and in its controls.

function showPage(page) {
  const { board, spec, content, reading } = page;
  showWords(page);
  element("hint").hidden = board.strokes.length > 0 || board.picture !== null;
  element("undo").disabled = !board.strokes.length;
  element("clear").disabled = !board.strokes.length && !board.picture;
  if (document.activeElement !== element("seed")) element("seed").value = page.seed; // it may be being typed
  if (spec.categorical.length) page.cards.show(page.categorical[page.code], reading?.probabilities[page.code]);
  page.pickers.forEach((picker, code) => picker.show(page.categorical[code]));
  page.walk?.show(page.seed);
  page.sliders.forEach((slider, i) => {
    const asRead = reading && page.continuous[i] === inRange(reading.mean[i]);
    slider.show(page.continuous[i], asRead ? `as Q reads your ${content.noun}` : "");
  });
  showMark(page);
}

/** Frame the sheet's image that is chosen. */
function showMark({ seed, sheet, ...page }) {
  const { style } = element("mark"), row = Math.max(0, sheet.classes.indexOf(page.categorical[page.code]));
  const place = (count, i) => [`${(100 / count) * i}%`, `${100 / count}%`];
  [style.left, style.width] = place(SHEET_COLUMNS, seed % SHEET_COLUMNS);
  [style.top, style.height] = place(sheet.classes.length, row);
}

function showProblem(problem) {
  element("problem").textContent = problem;
  element("problem").hidden = !problem;
}

function showPace(milliseconds) {
  const said = milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds);
  element("pace").textContent = `A picture takes ${said} ms on this device.`;
}

function showWords(page) {
  const { spec, content } = page, named = spec.categorical.length ? className(content, page.code, page.categorical[page.code]) : "";
  verdict(page);
  const matched = `The one of ${content.tries} seeds whose picture comes nearest to your ${content.noun}.`;
  element("matched").textContent = page.matched ? matched : "";
  element("picture").setAttribute("aria-label", `What G draws: ${[named, `seed ${page.seed}`].filter(Boolean).join(", ")}`);
  const seeds = `seeds ${page.firstSeed()} to ${page.firstSeed() + SHEET_COLUMNS - 1}`;
  element("sheet-title").textContent = spec.categorical.length ? "Every class, ten times" : "Ten times";
  element("sheet-note").textContent = spec.categorical.length ? `A row for each class, a column for each z: ${seeds}. Choose one.` : `A column for each z: ${seeds}. Choose one.`;
  const first = page.firstSeed();
  fill(".sheet .columns", Array.from({ length: SHEET_COLUMNS }, (_, i) => String(first + i).length > 6 ? `+${i}` : String(first + i)));
  fill(".sheet .rows", spec.categorical.length ? page.classes().map((k) => className(content, page.code, k)) : []);
  const settings = settingsOf(page).join(" ");
  element("command").textContent = `infogan-dist sample ${content.checkpoint} --count 1 --seed ${page.seed} --set ${settings} --out picture.png`;
}

/** What Q says, in words: one class, two where it is not sure, or what the continuous codes are. */
function verdict({ spec, content, reading, code }) {
  let said = "nothing yet", sure = "";
  if (reading && spec.categorical.length) {
    const shares = reading.probabilities[code], order = shares.map((_, k) => k).sort((a, b) => shares[b] - shares[a]);
    const unsure = shares[order[0]] < 0.6;
    said = order.slice(0, unsure ? 2 : 1).map((k) => className(content, code, k)).join(" or ");
    sure = unsure ? order.slice(0, 2).map((k) => percent(shares[k])).join(" and ") : `${percent(shares[order[0]])} sure`;
  } else if (reading) {
    said = reading.mean.map((value) => value.toFixed(2).replace("-", "−")).join(", ");
  }
  const [strong, small] = [document.querySelector("#verdict strong"), document.querySelector("#verdict .sure")];
  if (strong.textContent !== said) strong.textContent = said; // a screen reader says every change
  if (small.textContent !== sure) small.textContent = sure;
  strong.classList.toggle("none", !reading);
}

function fill(selector, texts) {
  const parent = document.querySelector(selector), text = texts.join("\n");
  if (parent.dataset.text === text) return;
  parent.dataset.text = text;
  parent.replaceChildren(...texts.map((each) => made("span", { textContent: each })));
}
