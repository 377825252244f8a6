// Server-sent events, read through fetch: unlike EventSource it tells a 404 from an outage.

const IDLE = 45000; // ms of silence after which a stream counts as dead; servers send comments

/** The address of a task's events, beside that of its status; undefined if it has another form. */
export function eventsOf(url) {
  const events = String(url).replace(/\/status(\/?(?:[?#].*)?)$/, '/events$1');
  return events === String(url) ? undefined : events;
}

/** Hands each event's JSON to `take`, until the stream ends or `take` returns true. */
export async function readEvents(body, alive, take) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive(IDLE);
      const text = decoder.decode(value, { stream: true });
      buffer += text;
      // A large result comes in many pieces, and has no line end but its last.
      if (!/[\r\n]/.test(text)) continue;
      const blocks = buffer.split(/\r?\n\r?\n/);
      buffer = blocks.pop();
      for (const block of blocks) {
        const data = block.split(/\r?\n/).filter((line) => line.startsWith('data:'))
          .map((line) => line.slice(5)).join('\n');
        if (data && take(JSON.parse(data))) return;
      }
    }
  } finally {
    // Frees the connection; one that is aborted already has nothing to free.
    reader.cancel().catch(() => {});
  }
}
