import assert from 'node:assert/strict';
import test from 'node:test';
import { eventsOf } from '../../client/events.js';
import { watchTask } from '../../client/watch.js';
import { at, follow, server, task, world } from './world.mjs';

test('the address of the events lies beside that of the status', () => {
  assert.equal(eventsOf('/task/a/status/'), '/task/a/events/');
  assert.equal(eventsOf('/task/a/status'), '/task/a/events');
  assert.equal(eventsOf('/task/status/status/?token=a/status/#x'), '/task/status/events/?token=a/status/#x');
  assert.equal(eventsOf(new URL('http://h/t/a/status/?q=1')), 'http://h/t/a/events/?q=1');
  assert.equal(eventsOf('/task/a'), undefined);
});

test('after one question the server tells by itself', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1)], [({ task: send }) => {
    send(at(2));
    send(at(3));
    send(task('SUCCESS', 7));
  }]);
  const seen = follow(watchTask, played);
  await clock.pass(1000);
  assert.deepEqual(seen.names(), ['progress', 'progress', 'progress', 'success']);
  assert.deepEqual([played.statuses().length, played.events().length], [1, 1]);
  assert.equal((await seen.done).result, 7);
  assert.equal(clock.timers, 0);
});

test('a task that has ended opens no stream', async (t) => {
  const clock = world(t);
  const played = server(clock, [task('SUCCESS')], [() => {}]);
  await Promise.all([follow(watchTask, played).done, clock.pass(10000)]);
  assert.deepEqual(played.events(), []);
});

for (const [what, answer] of [
  ['404', undefined],
  ['204', new Response(null, { status: 204 })],
  ['a page of HTML', new Response('<html>', { headers: { 'Content-Type': 'text/html' } })],
]) {
  test(`a server without events (${what}) is asked for them once, for all its tasks`, async (t) => {
    const clock = world(t);
    const place = `/${encodeURIComponent(what)}`;
    const played = server(clock, [at(1)], [answer]);
    const first = follow(watchTask, played, { url: `${place}/a/status/` });
    await clock.pass(60000);
    assert.equal(played.events().length, 1);
    assert.ok(played.statuses()[1] <= 600, 'falls back at once');
    const second = follow(watchTask, played, { url: `${place}/b/status/` });
    await clock.pass(60000);
    assert.equal(played.events().length, 1);
    first.stop();
    second.stop();
  });
}

test('a stream kept back on the way is given up after 8 seconds', async (t) => {
  for (const stream of ['hang', () => {}]) {
    const clock = world(t);
    const played = server(clock, [at(1)], [stream]);
    const seen = follow(watchTask, played);
    await clock.pass(60000);
    assert.equal(played.events().length, 1);
    assert.ok(played.statuses()[1] >= 8000 && played.statuses()[1] < 10000);
    assert.ok(!seen.names().includes('error'));
    seen.stop();
  }
});

test('comments keep a stream; 45 seconds of silence end it, and it is opened anew', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1)], [({ push, task: send }) => {
    send(at(2));
    for (let minute = 1; minute < 4; minute++) setTimeout(() => push(': alive\n\n'), minute * 40000);
  }]);
  const seen = follow(watchTask, played);
  await clock.pass(164000);
  assert.deepEqual([played.statuses().length, played.events().length], [1, 1]);
  await clock.pass(10000);
  assert.deepEqual([played.statuses().length, played.events().length], [2, 2]);
  seen.stop();
  await seen.done;
});

test('a stream that the server ends is soon opened anew, after a question', async (t) => {
  const clock = world(t);
  const slow = { retry_after: 30 };
  const played = server(clock, [at(1, slow), at(3, slow)], [
    ({ task: send, close }) => { send(at(2, slow)); close(); },
    ({ task: send }) => { send(at(4)); setTimeout(() => send(task('FAILURE', 'no')), 1000); },
  ]);
  const seen = follow(watchTask, played);
  await clock.pass(10000);
  const percents = seen.calls.map(([, { result }]) => result.progress_percent);
  assert.deepEqual(percents, [1, 2, 3, 4, undefined]);
  assert.equal((await seen.done).status, 'FAILURE');
});

test('a stream that brings nothing three times is not opened again', async (t) => {
  for (const stream of [({ close }) => close(), ({ push }) => push('data: nonsense\n\n'),
    new Response('', { status: 502 }), new Response('', { status: 403 })]) {
    const clock = world(t);
    const played = server(clock, [at(1)], [stream]);
    const seen = follow(watchTask, played);
    await clock.pass(120000);
    assert.equal(played.events().length, 3);
    assert.ok(played.statuses().length > 10);
    assert.ok(!seen.names().includes('error'));
    seen.stop();
  }
});

test('events arrive whole, however they are cut, with CRLF, comments and other fields', async (t) => {
  const clock = world(t);
  const text = `: hi\r\n\r\nid: 4\r\ndata: ${JSON.stringify({ task: at(2, { note: 'zwölf – 十二' }) })}\r\n\r\n` +
    'data: {"task":\ndata: {"id": "x", "status": "SUCCESS", "result": 1}}\n\n';
  const bytes = new TextEncoder().encode(text);
  const played = server(clock, [at(1)]);
  const send = played.send;
  played.send = (url, init) => url.includes('/status') ? send(url, init) : new Response(
    new ReadableStream({ start(c) { for (const byte of bytes) c.enqueue(Uint8Array.of(byte)); } }),
    { headers: { 'Content-Type': 'text/event-stream' } },
  );
  const seen = follow(watchTask, played);
  await clock.pass(1000);
  assert.deepEqual(seen.names(), ['progress', 'progress', 'success']);
  assert.equal(seen.calls[1][1].note, 'zwölf – 十二');
});

test('a page holds two streams at most; further bars poll until one is free', async (t) => {
  const clock = world(t);
  const open = [];
  const played = server(clock, [at(1)], [({ task: send }) => { send(at(2)); open.push(send); }]);
  const seen = [1, 2, 3, 4].map((n) => follow(watchTask, played, { url: `/many/${n}/status/` }));
  await clock.pass(20000);
  assert.equal(played.events().length, 2);
  open[0](task('SUCCESS'));
  await clock.pass(10000);
  assert.equal(played.events().length, 3);
  for (const each of seen) each.stop();
});

test('aborting closes the stream', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1)], [({ task: send }) => send(at(2))]);
  const seen = follow(watchTask, played);
  await clock.pass(1000);
  assert.equal(played.asked[1].signal.aborted, false);
  seen.stop();
  assert.equal(await seen.done, undefined);
  assert.equal(played.asked[1].signal.aborted, true);
});

test('a call back that aborts is the last, though more has come already', async (t) => {
  const clock = world(t);
  const stop = new AbortController();
  const lines = [at(2), at(3), task('SUCCESS')].map((each) => `data: ${JSON.stringify({ task: each })}\n\n`);
  const played = server(clock, [at(1)], [({ push }) => push(lines.join(''))]);
  const told = [];
  const note = (each) => {
    told.push(each.result?.progress_percent);
    if (told.length === 2) stop.abort();
  };
  const seen = follow(watchTask, played, { signal: stop.signal, onProgress: note, onSuccess: note });
  await clock.pass(1000);
  assert.deepEqual(told, [1, 2]);
  await seen.done;
});

test('the ETag of a state that an event has replaced is not asked with', async (t) => {
  const clock = world(t);
  const tagged = Response.json({ task: at(1) }, { headers: { ETag: '"a"' } });
  const played = server(clock, [tagged, at(3)], [({ task: send, close }) => { send(at(2)); close(); }]);
  const seen = follow(watchTask, played);
  await clock.pass(3000);
  const [, , again] = played.asked;
  assert.ok(again.url.includes('/status/'));
  assert.equal(again.headers['If-None-Match'], undefined);
  seen.stop();
});
