import assert from 'node:assert/strict';
import test from 'node:test';
import { describe, strings } from '../../client/words.js';
import { at, task } from './world.mjs';

const text = (given, table) => describe(given, table).text;
const running = (result) => task('PROGRESS', { progress_percent: 40, ...result });

test('every state has words of its own', () => {
  const seen = [
    task('PENDING'), task('STARTED'), task('RETRY'), task('SUCCESS'), task('FAILURE', 'no'),
    task('FAILURE', 'no', { lost: true, heard: 1e9 }), task('REVOKED'), at(0), at(50), at(100),
    running({ time_remaining: 120 }), running({ time_remaining: 3 }),
    task('PENDING', null, { queue: { ahead: 3 } }), task('RETRY', 'no', { retry_in: 29.6 }),
  ].map((given) => text(given));
  assert.equal(seen[0], 'Waiting for your task to begin');
  assert.ok(seen.every(Boolean));
  // STARTED, and a progress of which the time is not known, are the same to a reader.
  assert.equal(new Set(seen).size, seen.length - 1);
});

test('what is unknown is not shown as a number', () => {
  for (const percent of [undefined, null, NaN, Infinity, -1, '40']) {
    const { state, percent: shown, figure } = describe(task('PROGRESS', { progress_percent: percent }));
    assert.deepEqual([state, shown, figure], ['progress', null, '']);
  }
  assert.equal(describe(task('PROGRESS', null)).percent, null);
  for (const left of [undefined, null, -1, NaN, Infinity]) {
    assert.equal(text(running({ time_remaining: left })), strings.working);
  }
});

test('100 percent is not said before it is so', () => {
  assert.deepEqual([describe(at(99.99)).figure, describe(at(100)).figure], ['99%', '100%']);
  assert.equal(describe(at(250)).percent, 100);
  assert.equal(describe(running({ estimated: true })).figure, '~40%');
});

test('durations are as coarse as one would say them', () => {
  const said = [[8, '10 seconds'], [33, '35 seconds'], [54, '55 seconds'], [55, '1 minute'],
    [127, '2 minutes'], [3299, '55 minutes'], [3300, '1 hour'], [5400, '1.5 hours'],
    [86400, '24 hours'], [200000, '2.5 days']];
  for (const [seconds, expected] of said) {
    assert.equal(text(running({ time_remaining: seconds })), `about ${expected} left`);
  }
});

const left = (time, low, high) => text(running(
  { time_remaining: time, time_remaining_low: low, time_remaining_high: high }));

test('a wide range is said as one, a narrow one is not, and a vague one says less', () => {
  const said = [
    [[200, 120, 300], 'about 2–5 minutes left'],
    [[200, 190, 210], 'about 3 minutes left'],
    [[200, null, null], 'about 3 minutes left'],
    [[3, 1, 6], 'a few seconds left'],
    // What the point calls a few seconds is that, however little is known.
    [[3.3, 0.85, 18], 'a few seconds left'],
    [[15, 3, 75], 'less than 2 minutes left'],
    [[15, 12, 19], 'about 10–20 seconds left'],
    [[70, 1, 400], 'less than 7 minutes left'],
    [[570, 120, 2900], 'less than 50 minutes left'],
    [[300, 200, 470], 'about 3–8 minutes left'],
    [[1500, 900, 2000], 'about 15–35 minutes left'],
  ];
  for (const [given, expected] of said) assert.equal(left(...given), expected, given);
});

test('no words exclude what they stand for', () => {
  const length = { second: 1, minute: 60, hour: 3600, day: 86400 };
  for (let time = 0.5; time < 400000; time *= 1.17) {
    for (const below of [1, 1.2, 1.6, 2.1, 3.9, 30]) {
      for (const above of [1, 1.2, 1.6, 2.1, 3.9, 30]) {
        const said = left(time, time / below, time * above);
        const found = /([\d.]+)(?:–([\d.]+))? (second|minute|hour|day)/.exec(said);
        if (!found) {
          assert.ok(time < 8 && said === strings.moments, said);
          continue;
        }
        const [, first, second, unit] = found;
        const [from, to] = [first, second ?? first].map((each) => each * length[unit]);
        const why = `${said}: ${time / below} ${time} ${time * above}`;
        if (said.startsWith('less than')) assert.ok(time * above <= to * (1 + 1e-9), why);
        else if (second) assert.ok(from <= time / below && time * above <= to * (1 + 1e-9), why);
        else assert.ok(from / 1.5 <= time && time <= from * 1.5, why);
      }
    }
  }
});

/** What is said of a run of 600 s whose estimate wavers, with and without a memory. */
function course(remembers) {
  let seed = 1, before;
  const chance = () => (seed = (seed * 16807) % 2147483647) / 2147483647 - 0.5;
  const said = [];
  for (let now = 5; now < 600; now += 5) {
    const time = (600 - now) * Math.exp(0.3 * chance());
    const unsure = 1 + 3 * (1 - now / 600) ** 2 + 0.2 * chance();
    before = describe(running({
      time_remaining: time, time_remaining_low: time / unsure, time_remaining_high: time * unsure,
    }), strings, remembers ? before : undefined);
    const { text: words, words: { kind, from, to } } = before;
    if (kind !== 'moments') {
      // In seconds: what "about 5 minutes" stands for reaches three quarters of a step to each side.
      assert.ok(from <= time && time <= to, `${words}: ${from} ${time} ${to}`);
    }
    if (said.at(-1) !== words) said.push(words);
  }
  return said;
}

test('words are steady: those that were given up do not come back all the time', () => {
  const returns = (said) => said.length - new Set(said).size;
  const [steady, flapping] = [course(true), course(false)];
  assert.ok(returns(flapping) > 10, flapping.join(', '));
  assert.ok(returns(steady) <= 3, steady.join(', '));
  assert.ok(steady.length <= 0.6 * flapping.length, steady.join(', '));
});

test('how sure it is stands in a title, and no word more in the line', () => {
  const titled = (...given) => describe(running({ time_remaining: given[0],
    time_remaining_low: given[1], time_remaining_high: given[2] })).title;
  assert.equal(titled(200, 190, 210), 'Most likely 3–4 minutes');
  assert.equal(titled(15, 3, 75), 'Most likely 0–2 minutes');
  assert.equal(titled(200), '');
});

test('a time that is known is told at 0 percent', () => {
  const begun = (more) => text(task('PROGRESS', { progress_percent: 0, ...more }));
  assert.equal(begun({ time_remaining: 120 }), 'about 2 minutes left');
  assert.equal(begun({ time_remaining: -1 }), 'Your task has begun');
});

test('beside the words: the attempt, what is done of how much, and for how long', () => {
  const detail = (more, at) => describe(task('PROGRESS', { progress_percent: 40, ...more }, at)).detail;
  assert.equal(detail({ completed: 1200, total: 3000, elapsed: 12.4 }), '1,200 of 3,000 · 12 sec so far');
  assert.equal(detail({ completed: 40, total: 100, elapsed: 0.2, attempt: 2 }), 'attempt 2');
  assert.equal(detail({ completed: 3, attempt: 1, elapsed: 190 }), '3 min so far');
  assert.equal(describe(task('RETRY', 'no', { attempt: 3 })).detail, 'attempt 3');
});

test('how long it took is told by those who saw it begin', () => {
  const begun = 1700000000;
  const before = describe(running({ begun }));
  const done = task('SUCCESS', 1, { ended: begun + 12.3 });
  assert.equal(describe(done, strings, before).text, 'Done in 12 seconds');
  assert.equal(describe(task('SUCCESS', 1, { ended: begun + 200 }), strings, before).text, 'Done in 3 minutes');
  assert.equal(describe(done).text, 'Done');
  assert.equal(describe(task('SUCCESS'), strings, before).text, 'Done');
});

test('a failure whose words are not for everybody says what to quote', () => {
  const { message } = describe(task('FAILURE', 'Something went wrong', { private: true }));
  assert.equal(message, 'If you ask for help, please quote x');
});

test('the message of a failure is shown, and only text', () => {
  assert.equal(describe(task('FAILURE', 'division by zero')).message, 'division by zero');
  assert.equal(describe(task('FAILURE', { exc_type: 'X' })).message, '');
  assert.equal(describe(running({ message: 'Sheet 3' })).message, 'Sheet 3');
});

test('another language', () => {
  const table = { ...strings, lang: 'de', left: 'noch etwa {time}', estimated: 'etwa {percent}' };
  assert.equal(text(running({ time_remaining: 120 }), table), 'noch etwa 2 Minuten');
  assert.equal(describe(running({ estimated: true }), table).figure, 'etwa 40\u00a0%');
});
