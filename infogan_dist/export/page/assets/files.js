"use strict";
// Image files that reach the page: opened, dropped anywhere, or pasted.

/** Call `open` with the files. The board opens them too where nothing is drawn on it. */
function listenForImages(open, draws) {
  const input = element("file"), drop = element("drop"), board = element("board");
  const choose = () => input.click();
  element("open").addEventListener("click", choose);
  board.addEventListener("click", () => !draws && choose());
  board.addEventListener("keydown", (event) => !draws && ["Enter", " "].includes(event.key) && choose());
  input.addEventListener("change", () => {
    if (input.files.length) open(input.files);
    input.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => event.clipboardData.files.length && open(event.clipboardData.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.hidden = true; // it has left the window
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.hidden = true;
    if (event.dataTransfer.files.length) open(event.dataTransfer.files);
  });
}
