// @ts-check
/**
 * task-client: waits in a browser for the end of a task. An ES module without dependencies; copy it
 * or serve it.
 *
 *   import { watchTask } from "./task-client.js";
 *   const url = "https://.../task_status";
 *   const task = await watchTask(id, { url, token, onUpdate: ({ message }) => show(message) });
 *   if (task.state === "completed") use(task.result); else show(task.error);
 *
 * It polls, soon at first and more slowly later; each poll also heals the task if it is overdue, so
 * that it has an end. With a Realtime channel of Supabase it asks when something has changed, and
 * polls rarely, in case the channel is silent.
 */

/** @typedef {"pending" | "running" | "resting" | "completed" | "failed" | "cancelled"} State */

/** @typedef {{fraction?: number | null, message?: string}} Progress */

/**
 * @typedef {object} Task
 * @property {string} task_id
 * @property {string} kind
 * @property {State} state
 * @property {any} result
 * @property {string | null} error - a sentence for the user, of a task that failed
 * @property {string | null} reason
 * @property {number | null} due_in - seconds until a pending task may start
 * @property {{number: number, of: number, progress: Progress | null} | null} attempt
 */

/**
 * @typedef {object} Update
 * @property {Task | null} task - as it was when the server last answered
 * @property {boolean} answering - whether the server answered the last time
 * @property {string} message - where the task is, in a sentence for the user
 */

/**
 * What is used of a channel of supabase-js, before it is subscribed.
 * @typedef {object} Channel
 * @property {(type: any, filter: any, changed: () => void) => any} on
 * @property {(status: (state: string) => void) => any} subscribe
 * @property {() => any} unsubscribe
 */

/**
 * @typedef {object} Options
 * @property {string} url - of task_status
 * @property {string | (() => string | undefined | Promise<string | undefined>)} [token] - the user's JWT, or a function
 *   that gives a fresh one
 * @property {(update: Update) => void} [onUpdate] - called when there is something new to show
 * @property {number} [timeout] - milliseconds until it gives up waiting (an hour)
 * @property {number} [patience] - milliseconds without an answer of the server until it gives up
 *   (2 minutes)
 * @property {AbortSignal} [signal] - ends the watch; the task goes on
 * @property {Channel} [channel] - of Realtime, not yet subscribed: `supabase.channel("my-task")`
 * @property {string} [table] - that the channel listens to ("public.tasks")
 * @property {string} [key] - the column of the task's id ("id")
 */

/** @typedef {"not_found" | "unauthorized" | "refused" | "unreachable" | "timeout"} Code */

/**
 * The task can't be watched any more; what became of it is not known. `message` is for the user.
 */
export class WatchError extends Error {
  /** @param {Code} code @param {string} message @param {Task | null} task - as it was last seen */
  constructor(code, message, task) {
    super(message);
    this.name = "WatchError";
    this.code = code;
    this.task = task;
  }
}

/** Milliseconds between two polls: the first time, and at most; each pause is longer by FACTOR. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
const FACTOR = 1.5;
/** The same while a channel tells of changes, nobody looks at the page, or the task is not due. */
const RARE_PAUSE_MS = 30_000;
/** For one answer of the server. */
const ANSWER_MS = 10_000;
const ENDS = new Set(["completed", "failed", "cancelled"]);

/**
 * Waits for the end of a task.
 * @param {string} id
 * @param {Options} options
 * @returns {Promise<Task>} the task when it has ended: completed, failed or cancelled
 * @throws {WatchError} when it can't be watched any more; `signal.reason` when it was aborted
 */
export async function watchTask(id, options) {
  const { signal, timeout = 3_600_000, patience = 120_000, onUpdate = () => {} } = options;
  const pauses = new Pauses(id, options);
  const until = Date.now() + timeout;
  /** @type {Task | null} */
  let task = null;
  let [heard, misses, shown, pause] = [Date.now(), 0, "", FIRST_PAUSE_MS];
  try {
    for (;;) {
      signal?.throwIfAborted();
      const answer = await ask(id, options, task);
      signal?.throwIfAborted();
      if (answer.task) {
        if (said(answer.task) !== said(task)) pause = FIRST_PAUSE_MS;
        [task, heard, misses] = [answer.task, Date.now(), 0];
      } else {
        misses += 1;
      }
      const update = { task, answering: misses === 0, message: misses ? AWAY : said(task) };
      if (JSON.stringify(update) !== shown) onUpdate(update);
      shown = JSON.stringify(update);
      if (misses === 0 && task && ENDS.has(task.state)) return task;
      if (misses >= MISSES && Date.now() - heard >= patience) {
        throw new WatchError("unreachable", "The server does not answer. Look again later.", task);
      }
      if (Date.now() >= until) {
        const message = "This takes longer than it should. It goes on: look again later.";
        throw new WatchError("timeout", message, task);
      }
      const length = answer.wait ?? pauses.length(pause, task);
      await pauses.pause(Math.min(until - Date.now(), length), signal);
      pause = Math.min(LONGEST_PAUSE_MS, pause * FACTOR);
    }
  } finally {
    pauses.end();
  }
}

/**
 * Polls in a row without an answer, at least, before the server is given up: a laptop that wakes up
 * has no network yet.
 */
const MISSES = 3;
const AWAY = "The server does not answer. Trying again …";

/**
 * Where a task is, in a sentence for the user.
 * @param {Task | null} task
 * @returns {string}
 */
export function said(task) {
  if (!task) return "";
  if (task.state === "completed") return "Done.";
  if (task.state === "failed") return task.error ?? "It failed.";
  if (task.state === "cancelled") return "Cancelled.";
  if (task.state === "resting") return "Waiting for a person.";
  const triedBefore = (task.attempt?.number ?? 0) > (task.state === "pending" ? 0 : 1);
  const again = triedBefore ? ", trying again" : "";
  if (task.state === "pending") return `Waiting to start${again} …`;
  const { fraction, message } = task.attempt?.progress ?? {};
  const percent = Math.round(100 * Math.min(1, Math.max(0, fraction ?? 0)));
  const part = typeof fraction === "number" ? ` (${percent} %)` : "";
  return `${message || "Working"}${part}${again} …`;
}

/**
 * Asks once. `task` is null when the server did not answer, or not with a task: `wait` is after how
 * many milliseconds it wants to be asked again.
 * @param {string} id @param {Options} options @param {Task | null} last
 * @returns {Promise<{task: Task | null, wait?: number}>}
 */
async function ask(id, options, last, again = false) {
  const url = new URL(options.url, globalThis.location?.href);
  url.searchParams.set("task_id", id);
  const aborter = new AbortController();
  const abort = () => aborter.abort();
  options.signal?.addEventListener("abort", abort);
  const timer = setTimeout(abort, ANSWER_MS);
  try {
    const token = typeof options.token === "function" ? await options.token() : options.token;
    const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
    const answer = await fetch(url, { headers, signal: aborter.signal, cache: "no-store" });
    if (answer.ok) return { task: taskOf(await answer.json()) };
    if (answer.status === 401 && typeof options.token === "function" && !again) {
      return await ask(id, options, last, true);
    }
    if (answer.status === 404) {
      const message = "There is no such task, or it is not yours.";
      throw new WatchError("not_found", message, last);
    }
    if (answer.status === 401 || answer.status === 403) {
      const message = "You are not signed in any more. Sign in, and look again.";
      throw new WatchError("unauthorized", message, last);
    }
    if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) {
      const body = await answer.json().catch(() => null);
      const message = body?.error?.message ?? `The server refused (${answer.status}).`;
      throw new WatchError("refused", message, last);
    }
    const seconds = Number(answer.headers.get("Retry-After"));
    return { task: null, wait: seconds > 0 ? Math.min(RARE_PAUSE_MS, seconds * 1000) : undefined };
  } catch (error) {
    if (error instanceof WatchError) throw error;
    return { task: null };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", abort);
  }
}

/**
 * A proxy's page is not a task.
 * @param {any} body
 * @returns {Task | null}
 */
function taskOf(body) {
  return typeof body?.state === "string" && typeof body.task_id === "string" ? body : null;
}

/**
 * How long to wait between two polls; and what ends the wait sooner: the channel tells of a change,
 * or somebody looks at the page again.
 */
class Pauses {
  /** @param {string} id @param {Options} options */
  constructor(id, { channel, table = "public.tasks", key = "id" }) {
    this.channel = channel;
    this.listening = false;
    this.changed = false;
    /** @type {() => void} */
    this.wake = () => {};
    this.seen = () => document.hidden || this.wake();
    globalThis.document?.addEventListener("visibilitychange", this.seen);
    if (!channel) return;
    const [schema, name] = table.includes(".") ? table.split(".") : ["public", table];
    const change = () => {
      this.changed = true;
      this.wake();
    };
    const filter = { event: "*", schema, table: name, filter: `${key}=eq.${id}` };
    channel.on("postgres_changes", filter, change);
    channel.subscribe((state) => {
      this.listening = state === "SUBSCRIBED";
      change(); // what changed before it listened, or since it does no more
    });
  }

  /** @param {number} pause @param {Task | null} task */
  length(pause, task) {
    const hidden = globalThis.document?.hidden ?? false;
    const due = Math.min(RARE_PAUSE_MS, 1000 * (task?.due_in ?? 0));
    return this.listening || hidden ? RARE_PAUSE_MS : Math.max(due, pause * (0.5 + Math.random()));
  }

  /**
   * Until the time is over, something wakes it, or the signal aborts it.
   * @param {number} time
   * @param {AbortSignal | undefined} signal
   */
  async pause(time, signal) {
    if (!this.changed) {
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let timer;
      await new Promise((/** @type {(value: void) => void} */ resolve) => {
        this.wake = resolve;
        timer = setTimeout(resolve, time);
        signal?.addEventListener("abort", this.wake);
        if (signal?.aborted) resolve();
      });
      clearTimeout(timer);
      signal?.removeEventListener("abort", this.wake);
    }
    this.changed = false;
  }

  end() {
    globalThis.document?.removeEventListener("visibilitychange", this.seen);
    this.channel?.unsubscribe();
  }
}
