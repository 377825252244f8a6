/** Types of jobtastic.js, the browser client of jobtastic_ext. */

export type Status =
  | 'PENDING' | 'RECEIVED' | 'STARTED' | 'PROGRESS' | 'RETRY' | 'SUCCESS' | 'FAILURE' | 'REVOKED';

/** What a task in PROGRESS has told; times in seconds, -1 when unknown. */
export interface Progress {
  progress_percent?: number;
  time_remaining?: number;
  time_remaining_low?: number | null;
  time_remaining_high?: number | null;
  completed?: number | null;
  total?: number | null;
  elapsed?: number | null;
  message?: string | null;
  /** The percentage comes from earlier runs only. */
  estimated?: boolean;
  /** When it began, in seconds since 1970; and which attempt it is, from the second on. */
  begun?: number;
  attempt?: number;
}

/** The dict that the status views send as `{"task": …}`. */
export interface Task<Result = any> {
  id: string;
  /** One of `Status`, or a state of your own. */
  status: Status | (string & {});
  /** SUCCESS: the result. FAILURE: the message. PROGRESS: a `Progress`. */
  result: Result;
  /** FAILURE, RETRY, REVOKED: the name of the exception's type. */
  exc?: string;
  /** Why `result` is null although there is one: it cannot be JSON, or is too large. */
  omitted?: string;
  /**
   * FAILURE: nothing is heard of the run, so its worker is probably dead. If it is heard of again,
   * or somebody starts it again, the status is another one.
   */
  lost?: boolean;
  /** With `lost`: when there was a sign of it last, in seconds since 1970. */
  heard?: number;
  /** There should have been another report by now: its worker may not reach the result backend. */
  unconfirmed?: boolean;
  /** FAILURE, RETRY, REVOKED: the exception's own words are not for everybody. */
  private?: boolean;
  /** FAILURE, RETRY: which attempt it was, if that is known. */
  attempt?: number;
  /** RETRY, when known: seconds until the next attempt begins. */
  retry_in?: number;
  /** SUCCESS: when, in seconds since 1970. */
  ended?: number;
  /** Seconds after which it makes sense to ask again. */
  retry_after?: number;
  /** PENDING, when known: tasks ahead of this one, and seconds until it begins. */
  queue?: { ahead?: number };
}

export interface WatchError extends Error {
  /** Of the HTTP answer; 0 when there was none, or one without a task. */
  status: number;
  /** Nothing more will be asked: the server refused (4xx) for good. */
  final: boolean;
}

export interface WatchOptions<Result = any> {
  /** PENDING, RECEIVED, RETRY. */
  onPending?(task: Task): void;
  /** STARTED, PROGRESS, and states of your own. */
  onProgress?(task: Task<Progress | any>): void;
  onSuccess?(task: Task<Result>): void;
  /** FAILURE (with `lost` if nothing is heard of it) and REVOKED. */
  onFailure?(task: Task<string>): void;
  /** What was told last has not been confirmed for a while; the next call back takes it back. */
  onUnconfirmed?(task: Task): void;
  /** The server could not be asked four times in a row. Unless `final`, the watch goes on. */
  onError?(error: WatchError): void;
  /** Ends the watch. */
  signal?: AbortSignal;
  /** Address of the server-sent events; `false` for none. Default: `/status/` → `/events/`. */
  events?: string | false;
  /** Milliseconds between two questions, unless the server asks for more. */
  interval?: number;
  /** Sends the requests; for headers of your own. */
  fetch?(url: string, init: RequestInit): Promise<Response>;
}

/**
 * Follows a task until it ends. Resolves to its last status, or to undefined if it was stopped
 * or refused; never rejects. A lost task is followed for an hour more, as it may be heard of again.
 */
export function watchTask<Result = any>(
  url: string | URL, options?: WatchOptions<Result>,
): Promise<Task<Result> | undefined>;

/** Texts; `{time}`, `{percent}` and the like stand for values, formatted for `lang`. */
export interface Strings {
  lang: string;
  label: string;
  pending: string;
  ahead: string;
  begun: string;
  working: string;
  left: string;
  most: string;
  moments: string;
  finishing: string;
  estimated: string;
  likely: string;
  counted: string;
  elapsed: string;
  attempt: string;
  retry: string;
  again: string;
  success: string;
  took: string;
  failure: string;
  quote: string;
  revoked: string;
  lost: string;
  unconfirmed: string;
  error: string;
  gone: string;
}

/** The texts of every element on the page; change them in place. */
export const strings: Strings;

export type State =
  | '' | 'pending' | 'progress' | 'retry' | 'success' | 'failure' | 'revoked' | 'error';

export interface JobtasticProgressEventMap {
  progress: CustomEvent<Task<Progress | any>>;
  success: CustomEvent<Task>;
  failure: CustomEvent<Task<string>>;
  error: CustomEvent<WatchError>;
}

/** `<jobtastic-progress src="/task/<id>/status/" label="…" events="…" strings='{…}'>` */
export class JobtasticProgress extends HTMLElement {
  src: string;
  strings: Partial<Strings>;
  readonly task: Task | undefined;
  readonly state: State;
  readonly percent: number | null;
  show(task: Pick<Task, 'status'> & Partial<Task>): void;
  tell(task: Pick<Task, 'status'> & Partial<Task>): void;
  doubt(): void;
  fail(error: Pick<WatchError, 'final'>): void;
  fetch(url: string, init: RequestInit): Promise<Response>;
  addEventListener<Name extends keyof JobtasticProgressEventMap>(
    type: Name,
    listener: (this: JobtasticProgress, event: JobtasticProgressEventMap[Name]) => any,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** `<jobtastic-list src="/task/status/?id=…&id=…">`: a bar for each task, on one request. */
export class JobtasticList extends HTMLElement {
  fetch(url: string, init: RequestInit): Promise<Response>;
}

declare global {
  interface HTMLElementTagNameMap {
    'jobtastic-list': JobtasticList;
    'jobtastic-progress': JobtasticProgress;
  }
}
