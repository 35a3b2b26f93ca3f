// Rollouts as drawings: what a rollout shows, and which sixteen rows stand in the grid.
import type { WholeRollout } from "~/api/control";
import type { RolloutSummary } from "~/api/rft";
import { svgIn } from "~/conversation/segments";

export const SHOWN = 16;

/** The last thing that the model said, whole where the row is there. */
export function answerOf(rollout: WholeRollout): string {
  const messages = rollout.row?.messages ?? [];
  const last = messages.findLast((message) => message.role === "assistant");
  return typeof last?.content === "string" ? last.content : (rollout.answer ?? "");
}

/** Its drawing; null: it has none. */
export function drawingOf(rollout: WholeRollout): string | null {
  return svgIn(answerOf(rollout));
}

/** The newest rollout of each row, at most sixteen, in the order of the rows. `rollouts`: newest first. */
export function gridOf<T extends RolloutSummary>(rollouts: readonly T[]): T[] {
  const newest = new Map<number, T>();
  for (const rollout of rollouts) if (!newest.has(rollout.rowIndex)) newest.set(rollout.rowIndex, rollout);
  return [...newest.values()].sort((a, b) => a.rowIndex - b.rowIndex).slice(0, SHOWN);
}

/** One rollout of a row for each version, oldest first. */
export function historyOf<T extends RolloutSummary>(rollouts: readonly T[]): T[] {
  const by = new Map<number, T>();
  for (const rollout of rollouts) if (!by.has(rollout.step)) by.set(rollout.step, rollout);
  return [...by.values()].sort((a, b) => a.step - b.step);
}
