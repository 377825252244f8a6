// What a task's state is called. Every text can be replaced; numbers follow `lang`.

export const strings = {
  lang: 'en',
  label: 'Progress',
  pending: 'Waiting for your task to begin',
  ahead: 'Waiting for your task to begin, {ahead} ahead of it',
  begun: 'Your task has begun',
  working: 'Working on it',
  left: 'about {time} left',
  most: 'less than {time} left',
  moments: 'a few seconds left',
  finishing: 'Almost done',
  estimated: '~{percent}',
  likely: 'Most likely {time}',
  counted: '{completed} of {total}',
  elapsed: '{time} so far',
  attempt: 'attempt {attempt}',
  retry: 'That did not work. Trying again soon',
  again: 'That did not work. Trying again in {time}',
  success: 'Done',
  took: 'Done in {time}',
  failure: 'Your task failed',
  quote: 'If you ask for help, please quote {id}',
  revoked: 'Your task was cancelled',
  lost: 'No news of your task since {time}. It may be lost: you can start it again',
  unconfirmed: 'No news at the moment. Still trying',
  error: 'No connection to the server. Still trying',
  gone: 'The state of your task cannot be read',
};

const UNITS = [
  // up to (seconds), unit, its length, rounded to
  [55, 'second', 1, 5],
  [3300, 'minute', 60, 1],
  [36 * 3600, 'hour', 3600, 0.5],
  [Infinity, 'day', 86400, 0.5],
];

const known = (value) => typeof value === 'number' && isFinite(value) && value >= 0;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

// What is this many times as long is a range, and what is so much longer says only its end. The
// words stay on their side of both until it is clearly passed.
const WIDE = 1.5;
const VAGUE = 4;
const SLACK = 1.15;

function unitOf(seconds, lang, style = 'long') {
  const [, unit, length, step] = UNITS.find(([limit]) => seconds < limit);
  const format = new Intl.NumberFormat(lang, { style: 'unit', unit, unitDisplay: style });
  return { length, step, format };
}

/** "12 sec": what has been, to the second where it is short. */
function span(seconds, lang, style) {
  const { length, step, format } = unitOf(seconds, lang, style);
  const fine = Math.min(step, 1);
  return format.format(Math.max(Math.round(seconds / length / fine), 1) * fine);
}

/** A range of seconds, rounded outwards, so that it holds what it stands for. */
function around(low, high, lang) {
  const { length, step, format } = unitOf(high, lang);
  const round = (value, how) => {
    const coarse = value < 10 * length ? step : Math.max(step, 5);
    return how(value / length / coarse) * coarse;
  };
  const [from, to] = [round(low, Math.floor), round(high, Math.ceil)];
  const range = from && format.formatRange ? format.formatRange(from, to) : '';
  return { from: from * length, to: to * length, range, end: format.format(to) };
}

/** What to say of the time left: {kind, text, from, to (seconds that it stands for), title}. */
function timeLeft(result, table, before = {}) {
  const { time_remaining: time, time_remaining_low: least, time_remaining_high: most } = result;
  if (!known(time)) return { text: table.working };
  const sure = known(least) && known(most) && most > 0;
  const [low, high] = sure ? [Math.min(least, time), Math.max(most, time)] : [time, time];
  const said = around(low, high, table.lang);
  const title = sure && time ? fill(table.likely, { time: said.range || `0–${said.end}` }) : '';
  if (time < 8) return { kind: 'moments', text: table.moments, title };
  const bound = (limit, ...kinds) =>
    before.kind ? kinds.includes(before.kind) ? limit / SLACK : limit * SLACK : limit;
  let words;
  if (high < low * bound(WIDE, 'range', 'most')) {
    const { length, step, format } = unitOf(time, table.lang);
    const value = Math.max(Math.round(time / length / step), 1) * step;
    const from = Math.max(value - 0.75 * step, 0.75 * value) * length;
    words = { kind: 'about', from, to: (value + 0.75 * step) * length };
    words.text = fill(table.left, { time: format.format(value) });
  } else if (said.range && high <= low * bound(VAGUE, 'most')) {
    words = { kind: 'range', ...said, text: fill(table.left, { time: said.range }) };
  } else {
    words = { kind: 'most', ...said, from: 0, text: fill(table.most, { time: said.end }) };
  }
  // The same words, as long as they are true and not much vaguer than need be.
  const steady = before.kind === words.kind && before.from <= time && time <= before.to
    && high <= before.to * SLACK && (before.to <= words.to * 1.4 || words.kind === 'about');
  return { ...steady ? before : words, title };
}

function waiting(task, table) {
  const { ahead } = task.queue ?? {};
  return known(ahead) && ahead > 0 ? fill(table.ahead, { ahead }) : table.pending;
}

/** What stands beside the words: which attempt it is, how many are done, for how long. */
function details(task, table) {
  const { completed, total, elapsed } = Object(task.result);
  const number = new Intl.NumberFormat(table.lang);
  const attempt = task.attempt ?? task.result?.attempt;
  return [
    attempt > 1 && fill(table.attempt, { attempt: number.format(attempt) }),
    // Of a hundred it would be the percentage once more.
    known(completed) && known(total) && total > 0 && total !== 100 && fill(table.counted,
      { completed: number.format(completed), total: number.format(total) }),
    known(elapsed) && elapsed >= 1 && fill(table.elapsed, { time: span(elapsed, table.lang, 'short') }),
  ].filter(Boolean).join(' · ');
}

/**
 * What to show of a task: {state, percent (or null), figure, text, title, message, detail}.
 * `before` is what was shown of it before, for words that are steady.
 */
export function describe(task, table = strings, before = {}) {
  const { status, result } = task;
  const is = (state, text, percent = null, message = '', detail = '') =>
    ({ state, percent, figure: '', text, message, detail, title: '', begun: before.begun });
  if (status === 'SUCCESS') {
    const took = task.ended - before.begun;
    return is('success', known(took) ? fill(table.took, { time: span(took, table.lang) }) : table.success, 100);
  }
  if (task.lost) {
    const clock = new Intl.DateTimeFormat(table.lang, { timeStyle: 'short' });
    return is('failure', fill(table.lost, { time: clock.format(task.heard * 1000 || undefined) }));
  }
  if (status === 'FAILURE') {
    const message = task.private ? fill(table.quote, task) : result;
    return is('failure', table.failure, null, typeof message === 'string' ? message : '');
  }
  if (status === 'REVOKED') return is('revoked', table.revoked);
  if (status === 'RETRY') {
    const time = known(task.retry_in) && span(task.retry_in, table.lang);
    const text = time ? fill(table.again, { time }) : table.retry;
    return is('retry', text, null, '', details({ attempt: task.attempt }, table));
  }
  if (status === 'PENDING' || status === 'RECEIVED') return is('pending', waiting(task, table));
  const seen = is('progress', table.working, null, result?.message ?? '', details(task, table));
  seen.begun = result?.begun ?? before.begun;
  if (!known(result?.progress_percent)) return seen;
  const percent = Math.min(result.progress_percent, 100);
  // Rounded down: 100 % is said when all is done.
  const figure = new Intl.NumberFormat(table.lang, { style: 'percent' })
    .format(Math.floor(percent) / 100);
  seen.percent = percent;
  seen.figure = result.estimated ? fill(table.estimated, { percent: figure }) : figure;
  seen.words = timeLeft(result, table, before.words);
  if (percent === 100) seen.text = table.finishing;
  else if (percent === 0 && !known(result.time_remaining)) seen.text = table.begun;
  else [seen.text, seen.title] = [seen.words.text, seen.words.title ?? ''];
  return seen;
}
