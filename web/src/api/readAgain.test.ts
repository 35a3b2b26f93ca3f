import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Throttle } from "./readAgain";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test("what changes fast is read at once, then once in a pause, and the last change is read, too", () => {
  const read: string[] = [];
  const throttle = new Throttle((key) => read.push(String(key[0])));
  for (let time = 0; time < 10; time++) {
    throttle.call(["jobs"], 1000);
    vi.advanceTimersByTime(250);
  }
  expect(read).toEqual(["jobs", "jobs", "jobs"]);
  throttle.call(["datasets"], 1000);
  expect(read.at(-1)).toBe("datasets");
  vi.advanceTimersByTime(5000);
  expect(read.filter((noun) => noun === "jobs")).toHaveLength(4);
  throttle.close();
});

test("a page in the background reads when it is looked at", () => {
  const read: unknown[] = [];
  const throttle = new Throttle((key) => read.push(key));
  const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
  throttle.call(["jobs"], 1000);
  throttle.call(["jobs"], 1000);
  expect(read).toEqual([]);
  hidden.mockReturnValue(false);
  document.dispatchEvent(new Event("visibilitychange"));
  expect(read).toEqual([["jobs"]]);
  throttle.close();
});
