import { expect, test } from "vitest";
import { briefly, moment, span } from "./Time";

test("spans name their two largest units", () => {
  expect(span(0.44)).toBe("0.4 s");
  expect(span(59)).toBe("59 s");
  expect(span(3600 * 2 + 300 + 7)).toBe("2 h 5 min");
  expect(span(86_400 * 3)).toBe("3 d");
});

test("a number is Unix seconds, a text RFC 3339, and nonsense is nothing", () => {
  expect(moment(0)?.toISOString()).toBe("1970-01-01T00:00:00.000Z");
  expect(moment("2026-01-02T03:04:05Z")?.getUTCHours()).toBe(3);
  expect(moment("soon")).toBeNull();
});

test("a brief moment leaves out what is known or small: the year of today, and seconds", () => {
  const date = new Date(2026, 10, 23, 12, 14, 35);
  expect(briefly(date, new Date(2026, 11, 31))).not.toMatch(/2026|35/);
  expect(briefly(date, new Date(2026, 11, 31))).toContain("14");
  expect(briefly(date, new Date(2027, 0, 1))).toMatch(/2026/);
});
