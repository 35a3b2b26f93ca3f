import { expect, test } from "vitest";
import type { Comparison, Invocation } from "../rows";
import { chance, signed, suggestInvocations, verdict } from "./verdict";

const SUMMARY: Comparison["summary"] = {
  n: 20,
  wins: 12,
  losses: 4,
  ties: 4,
  meanLeft: 0.5,
  meanRight: 0.6,
  difference: 0.1,
  low: 0.02,
  high: 0.18,
  p: 0.01,
  test: "sign-flip permutation test",
};

test("only a difference that chance hardly makes is called one", () => {
  expect(verdict(SUMMARY)).toEqual({ title: "The right side is better", tone: "good" });
  expect(verdict({ ...SUMMARY, difference: -0.1 }).tone).toBe("bad");
  expect(verdict({ ...SUMMARY, p: 0.05 }).tone).toBe("plain");
  expect(verdict({ ...SUMMARY, n: 0, difference: null, p: null }).title).toMatch(/No row/);
  expect(verdict({ ...SUMMARY, n: 1, p: 1 }).title).toMatch(/Too few/);
});

test("numbers carry their sign, and small chances are not shown as zero", () => {
  expect([signed(0.1), signed(-0.1), signed(0)]).toEqual(["+0.100", "−0.100", "±0.000"]);
  expect([chance(0.0001), chance(0.04)]).toEqual(["p < 0.001", "p = 0.040"]);
});

test("the suggestion is the newest evaluation that was run twice, the older one on the left", () => {
  const invocation = (invocationId: string, ...names: string[]) => ({ invocationId, names }) as Invocation;
  expect(suggestInvocations([invocation("c", "x"), invocation("b", "y"), invocation("a", "y")])).toEqual([
    "a",
    "b",
  ]);
  expect(suggestInvocations([invocation("c", "x")])).toBeNull();
});
