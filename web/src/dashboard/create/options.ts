// The options of RFT and SFT jobs that the form asks for: where they stand in a create, what they may be, which flag they have.
// Defaults and ranges that depend on the base model come from it (`trainingOptions`); the documented ones of real base models stand in
// for a model that is not on this machine yet.
import type { Model, OptionRange } from "~/api/models";

export type Kind = "rft" | "sft";
export type Group = "training" | "rollout";

export interface Option {
  key: string;
  /** Where it stands in the body of a create. */
  path: readonly string[];
  label: string;
  unit?: string;
  /** What it does, in a sentence or two. */
  hint: string;
  input: "number" | "choice" | "switch" | "lines";
  /** Only whole numbers. */
  whole?: boolean;
  /** Of a choice: value and what it is called; "" is the default. */
  choices?: readonly (readonly [value: string, label: string])[];
  /** Where the base model says nothing. */
  range?: Partial<OptionRange>;
  /** A value outside the range that means something of its own. */
  except?: { value: number; means: string };
  /** What leaving it empty does, where that is no number. */
  whenEmpty?: string;
  flag?: string;
  group: Group;
  /** Shown only while this holds. */
  when?: (values: Values) => boolean;
}

/** What was typed, by option; "" is the default. */
export type Values = Record<string, string>;

const positive = { low: 0 };

const RFT: Option[] = [
  {
    key: "epochs",
    path: ["trainingConfig", "epochs"],
    label: "Epochs",
    input: "number",
    whole: true,
    group: "training",
    flag: "--epochs",
    range: { default: 1, low: 1, high: 10 },
    hint: "Passes over the dataset. Each row is rolled out anew in every pass, with the policy as it is by then.",
  },
  {
    key: "learningRate",
    path: ["trainingConfig", "learningRate"],
    label: "Learning rate",
    input: "number",
    group: "training",
    flag: "--learning-rate",
    range: { default: 1e-4, low: 1e-5, high: 5e-4 },
    hint: "How far one step moves the weights. Too high and the reward collapses; too low and nothing happens.",
  },
  {
    key: "loraRank",
    path: ["trainingConfig", "loraRank"],
    label: "LoRA rank",
    input: "number",
    whole: true,
    group: "training",
    flag: "--lora-rank",
    range: { default: 8, choices: [4, 8, 16, 32] },
    hint: "Size of the adapter that is trained. Reinforcement learning needs little: 8 is enough for most tasks.",
  },
  {
    key: "chunkSize",
    path: ["chunkSize"],
    label: "Chunk size",
    unit: "rows",
    input: "number",
    whole: true,
    group: "training",
    flag: "--chunk-size",
    range: { default: 200, low: 1, high: 10_000 },
    except: { value: -1, means: "the whole epoch in one step" },
    hint: "Rows rolled out for one optimizer step. Smaller: more steps, each from fewer groups. The default applies from twice as many rows on.",
  },
  {
    key: "lossMethod",
    path: ["lossConfig", "method"],
    label: "Loss",
    input: "choice",
    group: "training",
    flag: "--rl-loss-method",
    choices: [
      ["", "importance-weighted, masked (default)"],
      ["GRPO", "GRPO: clipped, with a KL term"],
      ["DAPO", "DAPO: clipped higher, no KL"],
      ["GSPO_TOKEN", "GSPO-token: one ratio a sequence"],
    ],
    hint: "How scores become gradients. The default corrects for what the engine sampled with, without a reference model.",
  },
  {
    key: "klBeta",
    path: ["lossConfig", "klBeta"],
    label: "KL beta",
    input: "number",
    group: "training",
    flag: "--rl-kl-beta",
    range: { default: 0.001, ...positive },
    when: (values) => values.lossMethod === "GRPO",
    hint: "How strongly GRPO holds the policy near the base model. 0 or empty: the method's own 0.001.",
  },
  {
    key: "warmupSteps",
    path: ["trainingConfig", "learningRateWarmupSteps"],
    label: "Warm-up",
    unit: "steps",
    input: "number",
    whole: true,
    group: "training",
    flag: "--learning-rate-warmup-steps",
    range: { default: 0, ...positive },
    hint: "Steps over which the learning rate rises to its value.",
  },
  {
    key: "weightDecay",
    path: ["trainingConfig", "optimizerWeightDecay"],
    label: "Weight decay",
    input: "number",
    group: "training",
    flag: "--optimizer-weight-decay",
    range: { default: 0, ...positive },
    hint: "Pulls the adapter's weights towards zero. Rarely useful for a short run.",
  },
  {
    key: "maxContextLength",
    path: ["trainingConfig", "maxContextLength"],
    label: "Context",
    unit: "tokens",
    input: "number",
    whole: true,
    group: "training",
    flag: "--max-context-length",
    range: { low: 2 },
    whenEmpty: "the model's",
    hint: "Prompt and answer together. Rows whose prompt does not fit are refused at the start.",
  },
  {
    key: "evaluationEverySteps",
    path: ["evaluationEverySteps"],
    label: "Evaluate every",
    unit: "steps",
    input: "number",
    whole: true,
    group: "training",
    range: { low: 1 },
    whenEmpty: "spread over the run",
    hint: "How often the held-out rows are scored. Needs held-out rows.",
  },
  {
    key: "keepAllCheckpoints",
    path: ["keepAllCheckpoints"],
    label: "Keep all checkpoints",
    input: "switch",
    group: "training",
    hint: "Every version can be rewound to later; takes more disk.",
  },
  {
    key: "n",
    path: ["inferenceParameters", "responseCandidatesCount"],
    label: "Rollouts per row",
    input: "number",
    whole: true,
    group: "rollout",
    flag: "--response-candidates-count",
    range: { default: 8, low: 2, high: 128 },
    hint: "Attempts at each row; they are compared with one another. 4 to 8 is common, more than 32 is costly.",
  },
  {
    key: "temperature",
    path: ["inferenceParameters", "temperature"],
    label: "Temperature",
    input: "number",
    group: "rollout",
    flag: "--temperature",
    range: { default: 1, low: 0.1, high: 2 },
    hint: "Variety of the rollouts. Without variety the scores of a group are equal, and nothing is learned from it.",
  },
  {
    key: "maxTokens",
    path: ["inferenceParameters", "maxOutputTokens"],
    label: "Longest completion",
    unit: "tokens",
    input: "number",
    whole: true,
    group: "rollout",
    flag: "--max-output-tokens",
    range: { default: 2048, low: 16, high: 16_384 },
    hint: "A model call ends here. Cut answers usually score low, so leave room.",
  },
  {
    key: "maxConcurrentRollouts",
    path: ["maxConcurrentRollouts"],
    label: "Concurrent rollouts",
    input: "number",
    whole: true,
    group: "rollout",
    flag: "--max-concurrent-rollouts",
    range: { default: 96, low: 1, high: 4096 },
    hint: "How many run at once. Speed only, no effect on what is learned.",
  },
  {
    key: "seed",
    path: ["inferenceParameters", "extraBody"],
    label: "Seed",
    input: "number",
    whole: true,
    group: "rollout",
    range: { default: 0, low: 0, high: 2_147_483_647 },
    hint: "Of sampling. The same seed samples the same from the same weights.",
  },
  {
    key: "stop",
    path: ["inferenceParameters", "extraBody"],
    label: "Stop strings",
    input: "lines",
    group: "rollout",
    whenEmpty: "none",
    hint: "A completion ends when it has written one of these. One a line, at most 16.",
  },
];

const SFT: Option[] = [
  {
    key: "epochs",
    path: ["epochs"],
    label: "Epochs",
    input: "number",
    group: "training",
    flag: "--epochs",
    range: { default: 1, low: 0.001, high: 1000 },
    hint: "Passes over the dataset; a fraction stops within a pass.",
  },
  {
    key: "learningRate",
    path: ["learningRate"],
    label: "Learning rate",
    input: "number",
    group: "training",
    flag: "--learning-rate",
    range: { default: 2e-4, low: 0, high: 0.01 },
    hint: "How far one step moves the weights. Full parameters begin with a tenth of a LoRA's. 0 is a control.",
  },
  {
    key: "loraRank",
    path: ["loraRank"],
    label: "LoRA rank",
    input: "number",
    whole: true,
    group: "training",
    flag: "--lora-rank",
    range: { default: 8, choices: [0, 1, 2, 4, 8, 16, 32] },
    hint: "Size of the adapter that is trained. 0 trains all parameters and makes a full model.",
  },
  {
    key: "batchSizeSamples",
    path: ["batchSizeSamples"],
    label: "Batch",
    unit: "samples",
    input: "number",
    whole: true,
    group: "training",
    flag: "--batch-size-samples",
    range: { default: 32, low: 1, high: 65_536 },
    hint: "Samples of one optimizer step.",
  },
  {
    key: "schedule",
    path: ["lrScheduler"],
    label: "Schedule",
    input: "choice",
    group: "training",
    flag: "--learning-rate-scheduler",
    choices: [
      ["", "constant (default)"],
      ["linear", "linear"],
      ["cosine", "cosine"],
    ],
    hint: "How the learning rate goes on after its warm-up.",
  },
  {
    key: "minLrRatio",
    path: ["lrScheduler", "minLrRatio"],
    label: "Floor",
    input: "number",
    group: "training",
    flag: "--learning-rate-min-lr-ratio",
    range: { default: 0, low: 0, high: 1 },
    when: (values) => !!values.schedule,
    hint: "Where the learning rate ends, as a share of it.",
  },
  {
    key: "decayRatio",
    path: ["lrScheduler", "decayRatio"],
    label: "Decay over",
    input: "number",
    group: "training",
    flag: "--learning-rate-decay-ratio",
    range: { default: 0, low: 0, high: 1 },
    when: (values) => !!values.schedule,
    hint: "Share of the run over which it falls; 0 is the whole run.",
  },
  {
    key: "warmupSteps",
    path: ["learningRateWarmupSteps"],
    label: "Warm-up",
    unit: "steps",
    input: "number",
    whole: true,
    group: "training",
    flag: "--learning-rate-warmup-steps",
    range: { default: 0, ...positive },
    hint: "Steps over which the learning rate rises to its value.",
  },
  {
    key: "weightDecay",
    path: ["optimizerWeightDecay"],
    label: "Weight decay",
    input: "number",
    group: "training",
    flag: "--optimizer-weight-decay",
    range: { default: 0.01, ...positive },
    hint: "Pulls the weights towards zero; on matrices only.",
  },
  {
    key: "maxContextLength",
    path: ["maxContextLength"],
    label: "Context",
    unit: "tokens",
    input: "number",
    whole: true,
    group: "training",
    flag: "--max-context-length",
    range: { low: 2 },
    whenEmpty: "the model's",
    hint: "Longer samples are cut there.",
  },
  {
    key: "thinking",
    path: ["thinkingTraceHistoryMode"],
    label: "Thinking traces",
    input: "choice",
    group: "training",
    flag: "--thinking-trace-history-mode",
    choices: [
      ["", "as the model's template does (default)"],
      ["THINKING_TRACE_HISTORY_MODE_INTERLEAVED", "interleaved"],
      ["THINKING_TRACE_HISTORY_MODE_PRESERVED", "preserved"],
    ],
    hint: "Which earlier thinking a later turn sees: that after the last user message, or all.",
  },
];

export const OPTIONS: Record<Kind, readonly Option[]> = { rft: RFT, sft: SFT };

/** Default and range of an option on a base model. */
export function rangeOf(kind: Kind, option: Option, base: Model | undefined): Partial<OptionRange> {
  const field = option.path.at(-1) ?? "";
  if (field === "maxContextLength" && base?.contextLength) return { low: 2, high: base.contextLength };
  const own =
    option.key === "seed" || option.key === "stop" ? undefined : base?.trainingOptions?.[kind]?.[field];
  return own ?? option.range ?? {};
}

/** What is wrong with what was typed; undefined: nothing. */
export function problemOf(option: Option, value: string, range: Partial<OptionRange>): string | undefined {
  if (value.trim() === "" || option.input === "choice" || option.input === "switch") return undefined;
  if (option.input === "lines") return linesOf(value).length > 16 ? "At most 16 strings." : undefined;
  const number = Number(value);
  if (!Number.isFinite(number)) return "Not a number.";
  if (number === option.except?.value) return undefined;
  if (option.whole && !Number.isInteger(number)) return "A whole number.";
  if (range.choices?.length && !range.choices.includes(number)) return `One of ${range.choices.join(", ")}.`;
  if (typeof range.low === "number" && number < range.low) return `At least ${range.low}.`;
  if (typeof range.high === "number" && number > range.high) return `At most ${range.high}.`;
  return undefined;
}

/** "1e-5 to 5e-4", "4, 8, 16 or 32"; "" where there are no bounds. */
export function rangeText(range: Partial<OptionRange>, option: Option): string {
  const number = (value: number) =>
    value !== 0 && Math.abs(value) < 0.001 ? value.toExponential().replace("e-", "e-") : String(value);
  const { low, high, choices } = range;
  let text = "";
  if (choices?.length) text = `${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`;
  else if (typeof low === "number" && typeof high === "number") text = `${number(low)} to ${number(high)}`;
  else if (typeof low === "number") text = `at least ${number(low)}`;
  return option.except ? `${text}; ${option.except.value}: ${option.except.means}` : text;
}

export function linesOf(value: string): string[] {
  return value.split("\n").filter((line) => line !== "");
}

/** Whether a value is no other than the default. */
export function isDefault(option: Option, value: string | undefined, range: Partial<OptionRange>): boolean {
  if (value === undefined || value.trim() === "") return true;
  if (option.input === "switch") return value !== "true";
  if (option.input !== "number") return false;
  return range.default !== undefined && Number(value) === range.default;
}
