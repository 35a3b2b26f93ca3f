// One stream of server-sent events for the whole page. Parts of the page say which topics they need; when the set changes a new
// stream is opened, and the one before is closed once the new one is heard, so that no change falls between them. The browser's own
// EventSource reconnects with Last-Event-ID; when it gives up (a proxy answered with an error), we try again with growing pauses, and
// everything is taken to have changed meanwhile.
import { useEffect, useRef, useSyncExternalStore } from "react";

export interface WatchEvent {
  /** `changed`, `job`, `metrics`, `events`, `rollouts`, `log`, `build`, `session`, `session-event`, `end`. */
  kind: string;
  // biome-ignore lint/suspicious/noExplicitAny: each kind has its own shape, in docs/reference/dashboard.md
  data: any;
}

type Listener = (event: WatchEvent) => void;
export type Connection = "idle" | "connecting" | "open" | "lost";

const KINDS = [
  "changed",
  "job",
  "metrics",
  "events",
  "rollouts",
  "log",
  "build",
  "session",
  "session-event",
  "end",
];
/** Milliseconds: browsers open few connections to one server, and the new stream may be waiting for the older one's. */
const PATIENCE = 3000;
const PAUSES = [1000, 2000, 4000, 8000, 15_000];

export class Watch {
  private readonly topics = new Map<string, Set<Listener>>();
  private source: EventSource | null = null;
  /** Streams that go on until the newest is heard. */
  private readonly older = new Set<EventSource>();
  /** The stream broke, and what was told meanwhile is not known. */
  private missed = false;
  private opened = "";
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private patience: ReturnType<typeof setTimeout> | undefined;
  private state: Connection = "idle";
  private readonly wakes = new Set<() => void>();
  private base = "";

  /** Where the stream is, e.g. `/v1/accounts/local/watch`. */
  setBase(base: string): void {
    if (base === this.base) return;
    this.base = base;
    this.opened = "";
    this.refresh();
  }

  listen(topic: string, listener: Listener): () => void {
    const listeners = this.topics.get(topic) ?? new Set();
    listeners.add(listener);
    this.topics.set(topic, listeners);
    this.refresh();
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.topics.get(topic) === listeners) this.topics.delete(topic);
      this.refresh();
    };
  }

  readonly connection = (): Connection => this.state;

  readonly subscribe = (wake: () => void): (() => void) => {
    this.wakes.add(wake);
    return () => this.wakes.delete(wake);
  };

  /** After the page's effects of this turn: navigating from one page to the next opens one stream, not two. */
  private refresh(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), 0);
  }

  private open(): void {
    const wanted =
      this.base && this.topics.size
        ? `${this.base}?${[...this.topics.keys()]
            .sort()
            .map((topic) => `topic=${encodeURIComponent(topic)}`)
            .join("&")}`
        : "";
    if (wanted === this.opened && this.source?.readyState !== EventSource.CLOSED) return;
    if (this.source) this.older.add(this.source);
    this.source = null;
    this.opened = wanted;
    this.show(wanted ? "connecting" : "idle");
    if (!wanted) {
      this.closeOlder();
      return;
    }
    clearTimeout(this.patience);
    this.patience = setTimeout(() => {
      if (this.older.size) this.missed = true;
      this.closeOlder();
    }, PATIENCE);
    const source = new EventSource(wanted);
    this.source = source;
    source.onopen = () => {
      if (this.source !== source) return;
      this.closeOlder();
      this.tries = 0;
      this.show("open");
      if (this.missed) this.tell({ kind: "changed", data: { noun: null, names: [] } });
      this.missed = false;
    };
    source.onerror = () => {
      if (this.source !== source) return;
      this.closeOlder();
      this.show("lost");
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.missed = true;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.open(), PAUSES[Math.min(this.tries++, PAUSES.length - 1)]);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (message) => {
        // The new stream tells the other topics from their beginning, whatever an older one told of them.
        if (this.source === source || kind === "changed")
          this.tell({ kind, data: JSON.parse((message as MessageEvent).data) });
      });
    }
  }

  private closeOlder(): void {
    clearTimeout(this.patience);
    for (const source of this.older) source.close();
    this.older.clear();
  }

  private tell(event: WatchEvent): void {
    for (const [topic, listeners] of this.topics) {
      if (concerns(topic, event)) for (const listener of listeners) listener(event);
    }
  }

  private show(state: Connection): void {
    this.state = state;
    for (const wake of this.wakes) wake();
  }
}

/** Whether an event belongs to a topic (docs/reference/dashboard.md, "Live changes"). */
function concerns(topic: string, event: WatchEvent): boolean {
  const { kind, data } = event;
  if (topic === "changes") return kind === "changed";
  const [head, ...rest] = topic.split("/");
  const name = rest.join("/");
  if (head === "jobs")
    return (
      ["job", "metrics", "events", "rollouts", "end"].includes(kind) && (data.job?.name ?? data.job) === name
    );
  if (head === "logs") return kind === "log" && data.job === name;
  if (head === "builds") return kind === "build" && data.name === name;
  if (head === "sessions")
    return (
      (kind === "session" && data.session.name === name) ||
      (kind === "session-event" && data.session === name)
    );
  return false;
}

export const watch = new Watch();

/** Hear a topic's events while the component is shown; null: nothing. A new stream tells a job's or a log's events from the beginning again. */
export function useWatch(topic: string | null, listener: Listener): void {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => (topic ? watch.listen(topic, (event) => latest.current(event)) : undefined), [topic]);
}

export function useConnection(): Connection {
  return useSyncExternalStore(watch.subscribe, watch.connection);
}
