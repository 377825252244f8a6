import assert from 'node:assert/strict';
import test from 'node:test';
import { watchTask } from '../../client/watch.js';
import { at, follow, server, task, world } from './world.mjs';

test('a hidden tab asks seldom, and at once when it is seen again', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1, { retry_after: 1 })]);
  const seen = follow(watchTask, played, { events: false });
  await clock.pass(10500);
  const shown = played.asked.length;
  assert.equal(shown, 11);
  clock.hide(true);
  await clock.pass(60000);
  const hidden = played.asked.length - shown;
  assert.ok(hidden >= 3 && hidden <= 5, `${hidden}`);
  clock.hide(false);
  await clock.settle();
  assert.equal(played.asked.length, shown + hidden + 1);
  seen.stop();
});

test('a hidden tab gives its stream back, and takes it up when seen again', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1)], [({ task: send }) => send(at(2))]);
  const seen = follow(watchTask, played);
  for (let round = 1; round < 6; round++) {
    await clock.pass(1000);
    assert.equal(played.events().length, round);
    clock.hide(true);
    await clock.pass(40000);
    assert.equal(played.events().length, round);
    assert.ok(played.asked.filter(({ url }) => url.includes('/events'))[round - 1].signal.aborted);
    clock.hide(false);
  }
  assert.ok(!seen.names().includes('error'));
  seen.stop();
});

test('a page that is left asks nothing, and goes on when it comes back', async (t) => {
  for (const stream of [[], [({ task: send }) => send(at(2))]]) {
    const clock = world(t);
    const played = server(clock, [at(1), task('SUCCESS')], stream);
    const seen = follow(watchTask, played);
    await clock.settle();
    clock.leave();
    const before = played.asked.length;
    await clock.pass(600000);
    assert.equal(played.asked.length, before);
    assert.equal(clock.timers, 0);
    clock.comeBack();
    await clock.settle();
    assert.equal(seen.names().at(-1), 'success');
    assert.equal((await seen.done).status, 'SUCCESS');
  }
});

test('a page left in the middle of a question has not failed', async (t) => {
  const clock = world(t);
  const played = server(clock, ['hang', 'hang', 'hang', 'hang', 'hang', task('SUCCESS')]);
  const seen = follow(watchTask, played, { events: false });
  for (let round = 0; round < 5; round++) {
    await clock.settle();
    clock.leave();
    await clock.settle();
    clock.comeBack();
  }
  await clock.settle();
  assert.deepEqual(seen.names(), ['success']);
});

test('a stream that a hidden tab ended before anything came is no bad stream', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1)], [() => {}]);
  const seen = follow(watchTask, played);
  for (let round = 1; round < 6; round++) {
    await clock.pass(1000);
    assert.equal(played.events().length, round);
    clock.hide(true);
    await clock.pass(1000);
    clock.hide(false);
  }
  seen.stop();
});
