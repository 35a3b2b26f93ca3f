import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Watch, type WatchEvent } from "./watch";

/** The browser's end of a stream, which the test opens, breaks and speaks through. */
class Stream extends EventTarget {
  static readonly CLOSED = 2;
  static all: Stream[] = [];
  readyState = 0;
  onopen = () => {};
  onerror = () => {};

  constructor(readonly url: string) {
    super();
    Stream.all.push(this);
  }

  close() {
    this.readyState = Stream.CLOSED;
  }

  opens() {
    this.readyState = 1;
    this.onopen();
  }

  breaks() {
    this.close();
    this.onerror();
  }

  says(kind: string, data: unknown) {
    if (this.readyState !== Stream.CLOSED)
      this.dispatchEvent(new MessageEvent(kind, { data: JSON.stringify(data) }));
  }
}

const JOB = "accounts/a/reinforcementFineTuningJobs/j";
let watch: Watch;
let heard: WatchEvent[];

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("EventSource", Stream);
  Stream.all = [];
  heard = [];
  watch = new Watch();
  watch.setBase("/v1/accounts/a/watch");
  watch.listen("changes", (event) => heard.push(event));
  vi.advanceTimersByTime(1);
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("no change falls between two streams, and what a job tells is told once", () => {
  const [first] = Stream.all;
  first?.opens();
  watch.listen(`jobs/${JOB}`, (event) => heard.push(event));
  vi.advanceTimersByTime(1);
  const second = Stream.all[1];
  expect(second?.url).toContain(encodeURIComponent(`jobs/${JOB}`));
  first?.says("changed", { noun: "datasets", names: [] });
  first?.says("end", { job: JOB });
  expect(heard.map(({ kind }) => kind)).toEqual(["changed"]);
  second?.opens();
  expect(first?.readyState).toBe(Stream.CLOSED);
  second?.says("end", { job: JOB });
  expect(heard.map(({ kind }) => kind)).toEqual(["changed", "end"]);
  expect(watch.connection()).toBe("open");
});

test("a stream that waits for the older one's connection gets it, and everything is read again", () => {
  Stream.all[0]?.opens();
  watch.listen(`jobs/${JOB}`, () => {});
  vi.advanceTimersByTime(5000);
  expect(Stream.all[0]?.readyState).toBe(Stream.CLOSED);
  Stream.all[1]?.opens();
  expect(heard).toEqual([{ kind: "changed", data: { noun: null, names: [] } }]);
});

test("after an answer that was no stream it is opened again, and everything is read again", () => {
  Stream.all[0]?.opens();
  Stream.all[0]?.breaks();
  expect(watch.connection()).toBe("lost");
  vi.advanceTimersByTime(1000);
  Stream.all[1]?.opens();
  expect(heard).toEqual([{ kind: "changed", data: { noun: null, names: [] } }]);
  expect(watch.connection()).toBe("open");
});
