// The lines of a training run as curves: what is measured at each step, and what at evaluations, on one x.
import type { TuningKind, TuningLine } from "~/api/tuningJobs";
import { align, type Series } from "~/design/series";

export interface Curve {
  label: string;
  x: number[];
  series: Series[];
  log?: boolean;
  range?: { min?: number; max?: number };
}

const SFT: [string, [string, string][]][] = [
  [
    "Loss, nats per trained token",
    [
      ["training", "loss"],
      ["held out", "eval_loss"],
    ],
  ],
  ["Learning rate", [["learning rate", "learning_rate"]]],
  ["Held-out bits per byte", [["bits per byte", "eval_bits_per_byte"]]],
  ["Gradient norm, before clipping", [["gradient norm", "grad_norm"]]],
  ["Tokens per second", [["tokens per second", "tokens_per_second"]]],
];
const DPO: typeof SFT = [
  [
    "Loss, nats",
    [
      ["training", "loss"],
      ["held out", "eval_loss"],
    ],
  ],
  [
    "Accuracy, share of pairs",
    [
      ["training", "accuracy"],
      ["held out", "eval_accuracy"],
    ],
  ],
  [
    "Margin, chosen over rejected",
    [
      ["training", "margin"],
      ["held out", "eval_margin"],
    ],
  ],
  [
    "Reward of both answers",
    [
      ["chosen", "chosen_reward"],
      ["rejected", "rejected_reward"],
    ],
  ],
  ["Learning rate", [["learning rate", "learning_rate"]]],
  ["Gradient norm, before clipping", [["gradient norm", "grad_norm"]]],
];

/** The curves of a job; those of which nothing was measured are left out. */
export function curvesOf(kind: TuningKind, lines: readonly TuningLine[]): Curve[] {
  return (kind === "sft" ? SFT : DPO).flatMap(([label, parts]) => {
    const measured = parts
      .map(([name, field]) => ({ name, field, ...column(lines, field) }))
      .filter((one) => one.x.length > 0);
    if (!measured.length) return [];
    const { x, values } = align(measured);
    const series = measured.map(
      ({ name, field }, place): Series => ({
        label: name,
        values: values[place] ?? [],
        points: field.startsWith("eval_"),
        exact: field.startsWith("eval_") || field === "learning_rate",
        colour: name === "held out" || name === "rejected" ? 2 : 1,
      }),
    );
    return [{ label, x, series, range: label.startsWith("Accuracy") ? { min: 0, max: 1 } : undefined }];
  });
}

function column(lines: readonly TuningLine[], field: string): { x: number[]; values: (number | null)[] } {
  const found = lines.filter((line) => typeof line[field] === "number");
  return { x: found.map((line) => line.step), values: found.map((line) => line[field] as number) };
}

/** Newest value of a field; null where it was never measured. */
export function newest(lines: readonly TuningLine[], field: string): number | null {
  return lines.findLast((line) => typeof line[field] === "number")?.[field] ?? null;
}
