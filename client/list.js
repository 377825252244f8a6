// <jobtastic-list src="/task/status/?id=…&id=…">: a bar for each of many tasks, on one request.
import { ENDED } from './element.js';
import { create } from './page.js';
import { watchTask } from './watch.js';

/** Its bars are its children: those with the attribute `task`, and new ones for the other ids. */
export class JobtasticList extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ['src'];

  #watch;
  #bars = new Map(); // by id: the bar, and what it was told last

  /** Replace it to send requests in another way. */
  fetch(url, init) { return fetch(url, init); }

  connectedCallback() { this.#start(); }

  disconnectedCallback() { this.#watch?.abort(); }

  attributeChangedCallback(name, before, now) {
    // Not before it is connected: it begins there.
    if (this.isConnected && this.#watch && before !== now) this.#start();
  }

  #start() {
    this.#watch?.abort();
    const { signal } = this.#watch = new AbortController();
    const src = this.getAttribute('src');
    if (!src) return;
    const running = (tell) => this.#bars.forEach(([bar]) => ENDED.test(bar.state) || tell(bar));
    const show = ({ result }) => result.forEach((task) => this.#show(task));
    watchTask(src, {
      signal,
      events: false,
      fetch: (...request) => this.fetch(...request),
      onProgress: show,
      onSuccess: show,
      onFailure: show,
      onUnconfirmed: () => running((bar) => bar.doubt()),
      onError: (error) => running((bar) => bar.fail(error)),
    });
  }

  #show(task) {
    let [bar, before] = this.#bars.get(task.id) ?? [];
    if (!bar) {
      bar = [...this.children].find((child) => child.getAttribute('task') === task.id);
      if (!bar) this.append(bar = create('jobtastic-progress'));
    }
    const now = JSON.stringify(task);
    this.#bars.set(task.id, [bar, now]);
    if (before === now) bar.show(task); // which takes back that it was unconfirmed
    else bar.tell(task);
  }
}
