"use strict";
// Who computes the networks: a worker in this page, or Python behind it. Both take and give arrays of Float32Array.

/** The page's own kernel, in a worker. */
class InPage {
  constructor(source) {
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    this.waiting = new Map();
    this.asked = 0;
    this.loading = {};
    this.loaded = { G: new Promise((done) => (this.loading.G = done)), Q: new Promise((done) => (this.loading.Q = done)) };
    this.worker.onmessage = ({ data }) => {
      this.waiting.get(data.id).done(data);
      this.waiting.delete(data.id);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { failed } of this.waiting.values()) failed(new Error(event.message));
    };
  }

  /** Hand over a network's weights, once the browser has read them. */
  load(network, layers, base64) {
    this.worker.postMessage({ load: network, layers, base64 });
    this.loading[network]();
  }

  async run(network, inputs) {
    await this.loaded[network];
    const id = this.asked++;
    this.worker.postMessage({ id, network, inputs });
    return new Promise((done, failed) => this.waiting.set(id, { done, failed }));
  }
}

/** The server that sent this page, for networks too large for it. */
class InPython {
  async run(network, inputs) {
    const body = new Float32Array(inputs.length * inputs[0].length);
    inputs.forEach((input, i) => body.set(input, i * input.length));
    const started = performance.now();
    const answer = await fetch(network, { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body });
    if (!answer.ok) throw new Error(await answer.text());
    const floats = new Float32Array(await answer.arrayBuffer()), length = floats.length / inputs.length;
    const outputs = inputs.map((_, i) => floats.subarray(i * length, (i + 1) * length));
    return { outputs, milliseconds: performance.now() - started };
  }
}

/** What is to be computed for each panel of the page, by priority. A panel's new request replaces its old one. */
class Queue {
  constructor(compute, panels, failed) {
    this.compute = compute;
    this.panels = panels;
    this.failed = failed;
    this.requests = new Map();
    this.busy = false;
    this.pace = { G: NaN, Q: NaN }; // milliseconds an image, the least seen
  }

  /** Compute `network` of each input; `output` gets its index and value as soon as it is there, `done` follows the last. */
  ask(panel, network, inputs, output, done = () => {}) {
    this.requests.set(panel, { network, inputs, output, done, next: 0 });
    this.work();
  }

  cancel(panel) {
    this.requests.delete(panel);
  }

  async work() {
    if (this.busy) return;
    this.busy = true;
    try {
      for (let panel; (panel = this.panels.find((name) => this.requests.has(name))); ) {
        await this.step(panel, this.requests.get(panel));
      }
    } catch (error) {
      this.requests.clear();
      this.failed(error);
    } finally {
      this.busy = false;
    }
  }

  /** As many images of one request as take about a frame. */
  async step(panel, request) {
    const count = Math.max(1, Math.min(16, Math.floor(16 / this.pace[request.network]) || 1));
    const inputs = request.inputs.slice(request.next, request.next + count);
    const { outputs, milliseconds } = await this.compute.run(request.network, inputs);
    this.pace[request.network] = Math.min(this.pace[request.network] || Infinity, milliseconds / inputs.length);
    if (this.requests.get(panel) !== request) return; // replaced meanwhile
    const first = request.next;
    request.next += inputs.length;
    const last = request.next >= request.inputs.length;
    if (last) this.requests.delete(panel);
    outputs.forEach((output, i) => request.output(first + i, output));
    if (last) request.done();
  }
}
