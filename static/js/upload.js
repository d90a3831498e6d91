// Sends files into a bundle: dropped or chosen, folders too, in parts, several at a time.
//
// Markup (templates/studio/uploader.html):
//   <section data-uploader data-create="…/bundles/7/uploads/" data-uploads="…/uploads/">
//     <form class="dropzone" …>   works by itself without scripts; its token is used for every request
//       <input type="file" name="files" multiple>
//       <label data-folder hidden><input type="file" webkitdirectory></label>
//       <button data-send>        hidden here: choosing is sending
//     <p data-summary role="status">
//     <ul data-list class="file-tree">
//     <template data-row>         li: [data-name] [data-size] progress [data-state] [data-pause] [data-cancel]
//     <template data-word="…">    what is said, translated
// When nothing is under way any more the section sends `uploads:done` (it bubbles), so that a list of files
// can be fetched anew: hx-trigger="uploads:done from:body".
//
// The protocol is in studio/uploads.py. A part that fails is sent again, later each time; what the server
// refuses for good is shown in its own words.

const FILES_AT_ONCE = 3;
const PARTS_AT_ONCE = 4;
const ATTEMPTS = 8;
// What systems leave in folders without being asked.
const CLUTTER = /(^|\/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(\/|$)/i;

const later = (ms, signal) =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
    signal?.addEventListener("abort", resolve, { once: true });
  });

const network = (signal) =>
  new Promise((resolve) => {
    addEventListener("online", resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });

class Refused extends Error {}
class Again extends Error {}
class Stopped extends Error {}

// One request, with progress; fetch cannot tell how much it has sent.
function send(method, url, { token, body, headers = {}, progress, signal }) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.responseType = "json";
    xhr.setRequestHeader("Accept", "application/json");
    xhr.setRequestHeader("X-CSRFToken", token);
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    if (progress) xhr.upload.onprogress = (event) => progress(event.loaded);
    const stop = () => xhr.abort();
    signal?.addEventListener("abort", stop, { once: true });
    xhr.onloadend = () => signal?.removeEventListener("abort", stop);
    xhr.onabort = () => reject(new Stopped());
    xhr.onerror = xhr.ontimeout = () => reject(new Again());
    xhr.onload = () => {
      const answer = xhr.response;
      if (xhr.status >= 200 && xhr.status < 300 && answer) return resolve(answer);
      // No answer of ours: a proxy's page may pass, the sign-in page will not.
      if (!answer) return reject(xhr.status >= 500 || xhr.status === 429 ? new Again() : new Refused());
      const error = answer.retry ? new Again(answer.error) : new Refused(answer.error);
      reject(Object.assign(error, { missing: answer.missing }));
    };
    if (signal?.aborted) return reject(new Stopped());
    xhr.send(body);
  });
}

// What failed on the way is tried again: after 1, 2, 4 … 30 seconds, and not while there is no network.
async function patiently(action, signal, trouble) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof Again) || attempt + 1 >= ATTEMPTS) throw error;
      trouble?.();
      await later(Math.min(30, 2 ** attempt) * 1000 * (0.75 + Math.random() / 2), signal);
      if (!navigator.onLine && !signal.aborted) await network(signal);
      if (signal.aborted) throw new Stopped();
    }
  }
}

// At most `limit` of them run; the others wait their turn.
function turns(limit) {
  const waiting = [];
  let free = limit;
  return async (action) => {
    if (free) free--;
    else await new Promise((turn) => waiting.push(turn));
    try {
      return await action();
    } finally {
      if (waiting.length) waiting.shift()();
      else free++;
    }
  };
}

const inTurn = turns(PARTS_AT_ONCE);

async function digestOf(blob) {
  if (!globalThis.crypto?.subtle) return {};
  const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return { "Content-Digest": `sha-256=:${btoa(String.fromCharCode(...new Uint8Array(hash)))}:` };
}

const language = document.documentElement.lang || undefined;

// As the server writes sizes: steps of 1,024.
export function bytes(n) {
  const step = Math.min(3, Math.floor(Math.log2(n || 1) / 10));
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: step ? 1 : 0 }).format(n / 1024 ** step);
  return `${number} ${["bytes", "KB", "MB", "GB"][step]}`;
}

export function duration(seconds) {
  const [value, unit] =
    seconds < 90 ? [Math.ceil(seconds), "second"] : seconds < 5400 ? [Math.round(seconds / 60), "minute"] : [Math.round(seconds / 3600), "hour"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "long" }).format(value);
}

class Upload {
  constructor(uploader, file, path) {
    Object.assign(this, { uploader, file, path, done: new Set(), flying: new Map(), samples: [] });
    this.row = uploader.template.content.firstElementChild.cloneNode(true);
    const part = (name) => this.row.querySelector(`[data-${name}]`);
    [this.name, this.size, this.state, this.pauseButton, this.cancelButton] = ["name", "size", "state", "pause", "cancel"].map(part);
    this.bar = this.row.querySelector("progress");
    this.name.textContent = path;
    this.bar.setAttribute("aria-label", path);
    this.size.textContent = bytes(file.size);
    this.pauseButton.addEventListener("click", () => (this.paused ? this.resume() : this.pause()));
    this.cancelButton.addEventListener("click", () => this.cancel());
    uploader.list.append(this.row);
    this.say("waiting");
  }

  get token() {
    return this.uploader.token;
  }

  get url() {
    return `${this.uploader.uploads}${this.id}/`;
  }

  say(word, values = {}) {
    this.state.textContent = Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, value), this.uploader.words[word] ?? word);
  }

  // Ends when the file is in the bundle, refused, cancelled or paused: its turn is for the next one then, and
  // going on waits for another.
  async run() {
    if (this.running) return;
    this.running = true;
    while (!this.over && !this.paused) {
      this.stop = new AbortController();
      try {
        await this.begin();
        await this.sendParts();
        await this.finish();
      } catch (error) {
        if (error instanceof Stopped) continue;
        if (error instanceof Again) {
          // The network stayed away: hold everything, the person decides.
          this.pause("lost");
          continue;
        }
        this.end("bad", error.message || "refused");
      }
    }
    this.running = false;
  }

  async begin() {
    if (this.id) return;
    const { signal } = this.stop;
    const body = JSON.stringify({ path: this.path, size: this.file.size });
    const headers = { "Content-Type": "application/json" };
    const answer = await patiently(() => send("POST", this.uploader.create, { token: this.token, body, headers, signal }), signal);
    this.id = answer.upload;
    this.partSize = answer.part_size;
    this.parts = answer.parts;
    this.name.textContent = answer.path;
  }

  async sendParts() {
    const missing = Array.from({ length: this.parts }, (_, index) => index + 1).filter((number) => !this.done.has(number));
    this.bar.max = this.file.size;
    this.samples = [];
    try {
      await Promise.all(missing.map((number) => inTurn(() => this.sendPart(number))));
    } catch (error) {
      this.stop.abort();
      throw error;
    }
  }

  async sendPart(number) {
    const { signal } = this.stop;
    if (signal.aborted) throw new Stopped();
    const blob = this.file.slice((number - 1) * this.partSize, number * this.partSize);
    try {
      const headers = { "Content-Type": "application/octet-stream", ...(await digestOf(blob)) };
      const progress = (loaded) => {
        this.flying.set(number, loaded);
        this.show();
      };
      await patiently(() => send("PUT", `${this.url}parts/${number}/`, { token: this.token, body: blob, headers, progress, signal }), signal, () => this.say("again"));
      this.done.add(number);
    } catch (error) {
      // The file was changed or taken away on the person's own disk.
      throw error instanceof DOMException ? new Refused(this.uploader.words.unreadable) : error;
    } finally {
      this.flying.delete(number);
      this.show();
    }
  }

  async finish() {
    const { signal } = this.stop;
    this.pauseButton.hidden = this.cancelButton.hidden = true;
    this.bar.removeAttribute("value");
    this.say("checking");
    try {
      if (!this.complete) await patiently(() => send("POST", `${this.url}complete/`, { token: this.token, signal }), signal);
      this.complete = true;
    } catch (error) {
      if (!error.missing) throw error;
      error.missing.forEach((number) => this.done.delete(number));
      this.pauseButton.hidden = this.cancelButton.hidden = false;
      throw new Stopped();
    }
    for (let wait = 500; ; wait = Math.min(wait * 1.5, 5000)) {
      await later(wait);
      const { state, reason, warning } = await patiently(() => send("GET", this.url, { token: this.token, signal }), signal);
      if (state === "done") return this.end(warning ? "warn" : "good", warning || "done");
      if (state === "refused" || state === "cancelled") return this.end("bad", reason || "refused");
    }
  }

  show() {
    const sent = [...this.done].reduce((sum, number) => sum + Math.min(this.partSize, this.file.size - (number - 1) * this.partSize), 0);
    const loaded = Math.min(this.file.size, [...this.flying.values()].reduce((sum, n) => sum + n, sent));
    this.bar.value = loaded;
    // Speed over the last ten seconds: steady enough to read, quick enough to trust.
    const now = performance.now();
    this.samples.push([now, loaded]);
    while (this.samples.length > 2 && now - this.samples[0][0] > 10_000) this.samples.shift();
    const [[then, before]] = this.samples;
    const speed = (loaded - before) / ((now - then) / 1000);
    if (this.paused || now - then < 1000 || speed <= 0) return;
    if (now - (this.shownAt ?? 0) < 500) return;
    this.shownAt = now;
    this.say("sending", { speed: bytes(speed), left: duration((this.file.size - loaded) / speed) });
  }

  pause(word = "paused") {
    this.paused = true;
    this.stop?.abort();
    this.pauseButton.hidden = false;
    // What has arrived whole is the server's: it can no longer be cancelled, only looked for again.
    this.cancelButton.hidden = Boolean(this.complete);
    this.show();
    this.pauseButton.textContent = this.uploader.words.resume;
    this.say(word);
  }

  resume() {
    this.paused = false;
    this.pauseButton.textContent = this.uploader.words.pause;
    this.say("waiting");
    this.uploader.inTurn(() => this.run());
  }

  cancel() {
    this.end("", "cancelled");
    this.stop?.abort();
    if (this.id) send("POST", `${this.url}cancel/`, { token: this.token }).catch(() => {});
  }

  end(tone, word) {
    this.over = true;
    this.tone = tone;
    this.pauseButton.hidden = this.cancelButton.hidden = this.bar.hidden = true;
    this.say(word);
    this.uploader.count();
  }
}

class Uploader {
  constructor(section) {
    this.section = section;
    const words = section.querySelectorAll("template[data-word]");
    this.words = Object.fromEntries([...words].map((word) => [word.dataset.word, word.content.textContent]));
    this.create = section.dataset.create;
    this.uploads = section.dataset.uploads;
    this.form = section.querySelector("form");
    this.list = section.querySelector("[data-list]");
    this.summary = section.querySelector("[data-summary]");
    this.template = section.querySelector("template[data-row]");
    this.all = [];
    this.inTurn = turns(FILES_AT_ONCE);
    this.form.querySelector("[data-send]").hidden = true;
    section.querySelector("[data-folder]").hidden = false;
    for (const input of section.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        this.take([...input.files].map((file) => [file, file.webkitRelativePath || file.name]));
        input.value = "";
      });
    }
    this.listenForDrops();
    addEventListener("beforeunload", (event) => {
      if (this.running) event.preventDefault();
    });
  }

  get token() {
    return this.form.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  get running() {
    return this.all.some((upload) => !upload.over);
  }

  listenForDrops() {
    const over = (is) => this.form.classList.toggle("over", is);
    this.form.addEventListener("dragover", (event) => {
      event.preventDefault();
      over(true);
    });
    this.form.addEventListener("dragleave", (event) => {
      if (!this.form.contains(event.relatedTarget)) over(false);
    });
    this.form.addEventListener("drop", async (event) => {
      event.preventDefault();
      over(false);
      // Taken now: the list is empty as soon as this handler has waited for anything.
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
      this.take((await Promise.all(entries.map(walk))).flat());
    });
  }

  take(found) {
    const files = found.filter(([, path]) => !CLUTTER.test(path));
    const leftOut = found.length - files.length;
    for (const [file, path] of files) {
      const upload = new Upload(this, file, path);
      this.all.push(upload);
      this.inTurn(() => upload.run());
    }
    this.leftOut = (this.leftOut ?? 0) + leftOut;
    this.count();
  }

  count() {
    const asked = this.all.filter((upload) => upload.tone !== "");
    const refused = asked.filter((upload) => upload.tone === "bad").length;
    const said = [];
    if (asked.length) said.push(this.words.summary.replace("{done}", asked.filter((upload) => upload.over).length - refused).replace("{all}", asked.length));
    if (refused) said.push(this.words.summary_refused.replace("{n}", refused));
    if (this.leftOut) said.push(this.words.left_out.replace("{n}", this.leftOut));
    this.summary.textContent = said.join(" ");
    if (!this.all.length || this.running) return;
    // What the server knows of is in its list from now on; here stays only what never got that far.
    for (const upload of this.all) if (upload.id || upload.tone === "") upload.row.remove();
    this.section.dispatchEvent(new CustomEvent("uploads:done", { bubbles: true }));
  }
}

// Every file under a dropped entry, with its path from where it was dropped.
async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject)).catch(() => null);
    return file ? [[file, entry.fullPath.replace(/^\//, "")]] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(walk))).flat());
  }
}

for (const section of document.querySelectorAll("[data-uploader]")) new Uploader(section);
