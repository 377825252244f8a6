// <jobtastic-progress src="/task/<id>/status/">: a bar that follows one task.
import { create } from './page.js';
import { css } from './style.js';
import { watchTask } from './watch.js';
import { describe, strings } from './words.js';

const MESSAGE = 1000; // characters shown of a message

export const ENDED = /^(success|failure|revoked)$/;

const EVENTS = { progress: 'progress', success: 'success', failure: 'failure', revoked: 'failure' };

// An object, because a page's Content-Security-Policy may forbid <style>.
let sheet;

function build(root) {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
  }
  root.adoptedStyleSheets = [sheet];
  const parts = {};
  const add = (parent, name) => {
    const part = parts[name] = create('div');
    part.part = name;
    parent.append(part);
    return part;
  };
  const base = add(root, 'base');
  add(base, 'label');
  add(base, 'figure').ariaHidden = true;
  const track = add(base, 'track');
  track.role = 'progressbar';
  track.ariaValueMin = 0;
  track.ariaValueMax = 100;
  add(track, 'fill');
  add(base, 'text');
  const foot = add(base, 'foot');
  add(foot, 'message');
  add(foot, 'detail');
  const beside = create('slot');
  beside.name = 'beside';
  base.append(beside);
  add(root, 'live').role = 'status';
  return parts;
}

/** Without a page, as in Node, there is nothing to extend. */
export class JobtasticProgress extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ['src', 'events', 'label', 'strings'];

  #parts;
  #watch;
  #seen;
  #strings = {};

  /** The last task dict, or undefined. */
  task;

  /** "pending", "progress", "retry", "success", "failure", "revoked", "error"; "" before. */
  get state() { return this.getAttribute('state') ?? ''; }

  /** 0 to 100, or null while nobody knows. */
  get percent() { return this.#seen?.percent ?? null; }

  get src() { return this.getAttribute('src') ?? ''; }
  set src(url) { this.setAttribute('src', url); }

  /** Texts of this element, over those of the page (`strings` of the module). */
  get strings() { return this.#strings; }
  set strings(table) {
    this.#strings = table ?? {};
    delete this.#seen?.words;
    if (this.task) this.show(this.task);
    this.#name();
  }

  /** Replace it to send requests in another way. */
  fetch(url, init) { return fetch(url, init); }

  /** Shows a task dict, such as one that came another way; with `src` this happens by itself. */
  show(task) {
    this.task = task;
    this.#show(describe(task, this.#table(), this.#seen));
    if (task.unconfirmed) this.doubt();
  }

  /** Shows a task and sends the event that belongs to it. */
  tell(task) {
    this.show(task);
    const event = EVENTS[this.state];
    if (event) this.#emit(event, task);
  }

  /** Shows that what was told last has not been confirmed for a while. */
  doubt() {
    if (!this.#seen) return;
    const text = this.#table().unconfirmed;
    this.#show({ ...this.#seen, state: this.state, text, title: '' });
    this.toggleAttribute('unconfirmed', true);
  }

  /** Shows that the task cannot be asked about; `error.final`: nor will it be. */
  fail(error) {
    const { error: trying, gone } = this.#table();
    this.#show({ figure: '', ...this.#seen, state: 'error', text: error.final ? gone : trying, title: '' });
  }

  connectedCallback() {
    this.#build();
    if (Object.hasOwn(this, 'strings')) { // set before the element was defined
      const table = this.strings;
      delete this.strings;
      this.strings = table;
    }
    if (!ENDED.test(this.state) || this.task?.lost) this.#start();
  }

  disconnectedCallback() { this.#watch?.abort(); }

  attributeChangedCallback(name, before, now) {
    if (name === 'strings') {
      try {
        this.strings = JSON.parse(now || '{}');
      } catch (error) {
        console.error('jobtastic-progress: strings is not JSON', error);
      }
    }
    if (!this.isConnected || !this.#parts || before === now) return;
    if (name === 'label') this.#name();
    else if (name !== 'strings') this.#start();
  }

  #emit(event, detail) { this.dispatchEvent(new CustomEvent(event, { detail })); }

  #table() { return { ...strings, ...this.#strings }; }

  #build() {
    if (this.#parts) return;
    this.#parts = build(this.attachShadow({ mode: 'open' }));
    this.#name();
  }

  #name() {
    if (!this.#parts) return;
    const label = this.getAttribute('label') ?? '';
    this.#parts.label.textContent = label;
    this.#parts.track.ariaLabel = label || this.#table().label;
  }

  #start() {
    this.#watch?.abort();
    const { src } = this;
    if (!src) return;
    this.#seen = undefined;
    this.show({ status: 'PENDING' });
    const watch = this.#watch = new AbortController();
    const tell = (task) => this.tell(task);
    watchTask(src, {
      signal: watch.signal,
      events: this.getAttribute('events') ?? undefined,
      fetch: (...request) => this.fetch(...request),
      onPending: tell,
      onProgress: tell,
      onSuccess: tell,
      onFailure: tell,
      onUnconfirmed: () => this.doubt(),
      onError: (error) => {
        this.fail(error);
        this.#emit('error', error);
      },
    });
  }

  #show(seen) {
    this.#build();
    const { state, percent, figure, text, message: said, detail = '', title = '' } = seen;
    const message = typeof said === 'string' ? said : '';
    const { track, fill, live, ...parts } = this.#parts;
    const ended = /^(failure|revoked|error)$/.test(state);
    // What has failed stays where it stood.
    const reached = percent ?? (ended ? this.#seen?.percent ?? null : null);
    const moved = this.state !== state;
    this.#seen = { ...seen, percent: reached };
    this.setAttribute('state', state);
    this.removeAttribute('unconfirmed');
    this.toggleAttribute('unknown', reached === null && !ended);
    fill.style.inlineSize = reached === null ? '' : `${reached}%`;
    parts.figure.textContent = figure;
    parts.text.textContent = text;
    parts.text.title = title;
    parts.detail.textContent = detail;
    parts.message.textContent = message.length > MESSAGE ? `${message.slice(0, MESSAGE)}…` : message;
    track.ariaValueNow = reached === null ? null : Math.floor(reached);
    parts.message.title = ended ? '' : message;
    track.ariaValueText = figure ? `${figure}, ${text}` : text;
    // Read aloud when the state changes, not at every step.
    if (moved) live.textContent = message && ended ? `${text}: ${message}` : text;
  }
}
