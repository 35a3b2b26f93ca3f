// A small reward audit of the rollouts that the file holds: answers that repeat, and whether longer answers score higher.
import { answerOf } from "~/dashboard/studio/drawings";
import { asRollout, type RunRollout, type RunStep } from "./data";

interface RunAudit {
  rollouts: number;
  /** Share of rollouts whose answer another rollout of the file gave, too. */
  duplicateShare: number | null;
  duplicates: { answer: string; count: number; meanScore: number | null }[];
  /** Rank correlation of score with the number of sampled tokens; null: nothing varies. */
  lengthCorrelation: number | null;
}

export function auditOf(steps: readonly RunStep[]): RunAudit {
  const rollouts = steps.flatMap((step) => step.rollouts).filter((one) => one.isScoreValid);
  const byAnswer = new Map<string, RunRollout[]>();
  for (const rollout of rollouts) {
    const answer = answerOf(asRollout(rollout)).trim();
    if (answer) byAnswer.set(answer, [...(byAnswer.get(answer) ?? []), rollout]);
  }
  const repeated = [...byAnswer]
    .filter(([, group]) => group.length > 1)
    .sort((a, b) => b[1].length - a[1].length);
  const scored = rollouts.filter((one) => one.score !== null && one.completionTokens !== null);
  return {
    rollouts: rollouts.length,
    duplicateShare: rollouts.length
      ? repeated.reduce((sum, [, group]) => sum + group.length, 0) / rollouts.length
      : null,
    duplicates: repeated.slice(0, 5).map(([answer, group]) => ({
      answer,
      count: group.length,
      meanScore: group.reduce((sum, one) => sum + (one.score ?? 0), 0) / group.length,
    })),
    lengthCorrelation: spearman(
      scored.map((one) => one.completionTokens as number),
      scored.map((one) => one.score as number),
    ),
  };
}

/** Spearman's rank correlation, ties at their mean rank; null with fewer than three pairs or where one side is constant. */
export function spearman(x: readonly number[], y: readonly number[]): number | null {
  if (x.length < 3) return null;
  const [a, b] = [ranks(x), ranks(y)];
  const mean = (x.length + 1) / 2;
  let [up, left, right] = [0, 0, 0];
  a.forEach((rank, at) => {
    const [d, e] = [rank - mean, (b[at] as number) - mean];
    up += d * e;
    left += d * d;
    right += e * e;
  });
  return left && right ? up / Math.sqrt(left * right) : null;
}

function ranks(values: readonly number[]): number[] {
  const order = values.map((_, at) => at).sort((i, j) => (values[i] as number) - (values[j] as number));
  const found = new Array<number>(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to + 1 < order.length && values[order[to + 1] as number] === values[order[from] as number]) to++;
    for (let at = from; at <= to; at++) found[order[at] as number] = (from + to) / 2 + 1;
    from = to + 1;
  }
  return found;
}
