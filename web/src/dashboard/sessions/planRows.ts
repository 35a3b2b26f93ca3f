// A plan as lines that people read: what will be done, and which of it nobody said (the documented defaults).
import type { Plan } from "~/api/sessions";
import { count, figure } from "~/design/figures";

interface PlanRow {
  label: string;
  values: string[];
  /** Not said by the person: decided by the documented default. */
  assumed: boolean;
}

const METHODS: Record<string, string> = {
  sft: "Supervised fine-tuning (SFT)",
  classification: "Classification (SFT on labels)",
  dpo: "Preference tuning (DPO)",
  orpo: "Preference tuning (ORPO)",
};
const PATHS: Record<string, string> = {
  validation_loss: "validation loss",
  evaluator: "an evaluator of the account",
  generated: "an evaluator that the Agent writes",
};

/** `said`: what was read from words or a plan file; `decided`: the same with every field decided, once it is approved. */
export function planRows(said: Plan, decided: Plan | null | undefined): PlanRow[] {
  const plan = decided ?? said;
  const rows: PlanRow[] = [];
  const add = (label: string, value: string | string[] | null | undefined, assumed: boolean) => {
    const values = (Array.isArray(value) ? value : [value]).filter((one): one is string => !!one);
    if (values.length) rows.push({ label, values, assumed });
  };
  const open = "decided when the plan is shown";
  add("Method", plan.method ? METHODS[plan.method] : open, said.method === null);
  add("Dataset", plan.dataset, said.dataset === null);
  add("Evaluation dataset", plan.evaluationDataset, false);
  add("Base models", plan.baseModels, said.baseModels.length === 0);
  add("Pairs", plan.strongModel && `${plan.strongModel} preferred to ${plan.weakModel ?? "?"}`, false);
  const { grid } = said;
  const given =
    grid.points.length + grid.loraRanks.length + grid.learningRates.length + grid.betas.length > 0;
  add("Settings tried", settings(plan), !given);
  add("Epochs", plan.epochs === null ? "from the number of rows" : figure(plan.epochs), said.epochs === null);
  add(
    "Rows of the sweep",
    plan.subsample === null ? "at most 1,000" : plan.subsample === 0 ? "all" : count(plan.subsample),
    said.subsample === null,
  );
  add("Jobs at a time", String(plan.parallel ?? 6), said.parallel === null);
  add("Batch size", plan.batchSizeSamples?.toString(), false);
  add(
    "Context length",
    plan.maxContextLength === null ? null : `${count(plan.maxContextLength)} tokens`,
    false,
  );
  const path = plan.evaluation.path;
  add(
    "Compared by",
    [path ? (PATHS[path] ?? path) : "validation loss", plan.evaluation.evaluator ?? ""],
    said.evaluation.path === null,
  );
  add(
    "Final run on all data",
    yes(plan.finalRun ?? !/dpo|orpo/.test(plan.method ?? "")),
    said.finalRun === null,
  );
  add(
    "Deploy",
    plan.deployment ?? yes(plan.deploy ?? true),
    said.deploy === null && said.deployment === null,
  );
  add("Model's name", plan.outputModel, false);
  const waits = [plan.approvals.plan && "the plan", plan.approvals.promotion && "the promotion"].filter(
    Boolean,
  );
  add("Waits for you at", waits.length ? waits.join(" and ") : "nothing", false);
  add("Seed", String(plan.seed), plan.seed === 42);
  return rows;
}

function settings(plan: Plan): string[] {
  const { points, loraRanks, learningRates, betas } = plan.grid;
  if (points.length)
    return points.map(
      ({ loraRank, learningRate, beta }) =>
        `${rank(loraRank)}, learning rate ${figure(learningRate)}${beta === null ? "" : `, beta ${figure(beta)}`}`,
    );
  const parts = [
    loraRanks.length ? `LoRA ranks ${loraRanks.join(", ")}` : "",
    learningRates.length ? `learning rates ${learningRates.map(figure).join(", ")}` : "",
    betas.length ? `betas ${betas.map(figure).join(", ")}` : "",
  ].filter(Boolean);
  return parts.length ? parts : ["the documented grid of three"];
}

export function rank(value: number): string {
  return value === 0 ? "full parameters" : `rank ${value}`;
}

function yes(value: boolean): string {
  return value ? "yes" : "no";
}
