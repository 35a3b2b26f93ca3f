// @vitest-environment node
import { expect, test } from "vitest";
import { thin } from "./Sparkline";

test("a long curve is thinned, its ends stay", () => {
  const values = Array.from({ length: 1000 }, (_, place) => place);
  const thinned = thin(values, 50);
  expect(thinned).toHaveLength(50);
  expect([thinned[0], thinned.at(-1)]).toEqual([0, 999]);
  expect(thin([1, 2], 50)).toEqual([1, 2]);
});
