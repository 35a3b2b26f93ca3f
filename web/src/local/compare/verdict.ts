// What a comparison comes to, in words.
import type { Comparison, Invocation, Model, Pair } from "../rows";

/** Below it a difference counts as unlikely to be chance. */
const SIGNIFICANT = 0.05;

export function signed(value: number): string {
  // The minus of mathematics is as wide as the plus: columns line up.
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(3)}`;
}

export function chance(p: number): string {
  return p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
}

export function verdict(summary: Comparison["summary"]): { title: string; tone: "good" | "bad" | "plain" } {
  const { n, difference, p } = summary;
  if (n === 0 || difference === null) return { title: "No row was scored on both sides", tone: "plain" };
  if (p === null || n < 2) return { title: "Too few rows to say anything", tone: "plain" };
  if (p >= SIGNIFICANT) return { title: "No difference that chance could not make", tone: "plain" };
  return difference > 0
    ? { title: "The right side is better", tone: "good" }
    : { title: "The right side is worse", tone: "bad" };
}

export function kindOf(pair: Pair): "wins" | "losses" | "ties" {
  return pair.difference > 0 ? "wins" : pair.difference < 0 ? "losses" : "ties";
}

/** Two that are worth comparing: the newest invocation beside the one before it of the same evaluation. */
export function suggestInvocations(invocations: readonly Invocation[]): [string, string] | null {
  for (const [place, newer] of invocations.entries()) {
    const older = invocations
      .slice(place + 1)
      .find((one) => one.names.some((name) => newer.names.includes(name)));
    if (older) return [older.invocationId, newer.invocationId];
  }
  return null;
}

/** The two models with the most scores. */
export function suggestModels(models: readonly Model[]): [string, string] | null {
  const [first, second] = [...models].sort((a, b) => b.valid - a.valid);
  return first && second ? [first.model, second.model] : null;
}
