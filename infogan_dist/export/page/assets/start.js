"use strict";
// How the page starts: build.py calls these from the page, in this order.

let page, inPage;

function startInPage() {
  const content = JSON.parse(element("content").textContent);
  inPage = new InPage(element("worker").textContent);
  page = new Page(content, inPage);
}

function load(network) {
  const weights = element(`weights-${network}`);
  inPage.load(network, page.content.layers[network], weights.textContent);
  weights.remove(); // the worker has its copy
}

function startInPython() {
  page = new Page(JSON.parse(element("content").textContent), new InPython());
}
