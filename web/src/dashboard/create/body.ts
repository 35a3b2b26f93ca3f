// From what was typed to the body of a create and the command that does the same, and back from a job. Defaults are never sent.
import type { JobBody } from "~/api/fineTuningJobs";
import type { Model } from "~/api/models";
import { shortId } from "~/api/names";
import { isDefault, type Kind, linesOf, OPTIONS, type Option, rangeOf, type Values } from "./options";

export interface Form {
  kind: Kind;
  baseModel: string;
  /** A model of the account's to continue from, in place of a base model. */
  warmStartFrom: string;
  dataset: string;
  evaluator: string;
  /** A second one, which is not trained on. */
  auditEvaluator: string;
  evaluationDataset: string;
  carveout: boolean;
  jobId: string;
  displayName: string;
  outputModel: string;
  values: Values;
}

export const EMPTY: Omit<Form, "kind"> = {
  baseModel: "",
  warmStartFrom: "",
  dataset: "",
  evaluator: "",
  auditEvaluator: "",
  evaluationDataset: "",
  carveout: false,
  jobId: "",
  displayName: "",
  outputModel: "",
  values: {},
};

/** Options that take effect with what was chosen and are not at their default. */
export function given(form: Form, base: Model | undefined): [Option, string][] {
  return OPTIONS[form.kind].flatMap((option): [Option, string][] => {
    const value = form.values[option.key];
    if (value === undefined || option.when?.(form.values) === false) return [];
    return isDefault(option, value, rangeOf(form.kind, option, base)) ? [] : [[option, value]];
  });
}

export function bodyOf(form: Form, base: Model | undefined): JobBody {
  const body: JobBody = {};
  const set = (path: readonly string[], value: unknown) => {
    let place: Record<string, unknown> = body;
    for (const name of path.slice(0, -1)) {
      place[name] ??= {};
      place = place[name] as Record<string, unknown>;
    }
    place[path.at(-1) as string] = value;
  };
  const nested = form.kind === "rft" ? ["trainingConfig"] : [];
  if (form.warmStartFrom) set([...nested, "warmStartFrom"], form.warmStartFrom);
  else if (form.baseModel) set([...nested, "baseModel"], form.baseModel);
  if (form.outputModel) set([...nested, "outputModel"], form.outputModel);
  body.dataset = form.dataset;
  if (form.kind === "rft") body.evaluator = form.evaluator;
  if (form.kind === "rft" && form.auditEvaluator) body.auditEvaluator = form.auditEvaluator;
  if (form.evaluationDataset) body.evaluationDataset = form.evaluationDataset;
  else if (form.carveout) body.evalAutoCarveout = true;
  if (form.displayName.trim()) body.displayName = form.displayName.trim();
  const extra: Record<string, unknown> = {};
  for (const [option, value] of given(form, base)) {
    if (option.key === "seed") extra.seed = Number(value);
    else if (option.key === "stop") extra.stop = linesOf(value);
    else if (option.path[0] === "lrScheduler") continue;
    else if (option.input === "number") set(option.path, Number(value));
    else if (option.input === "switch") set(option.path, true);
    else set(option.path, value);
  }
  if (Object.keys(extra).length) set(["inferenceParameters", "extraBody"], JSON.stringify(extra));
  const { schedule } = form.values;
  if (form.kind === "sft" && schedule) {
    const decay = Object.fromEntries(
      (["minLrRatio", "decayRatio"] as const).flatMap((name) => {
        const value = Number(form.values[name] || 0);
        return value ? [[name, value]] : [];
      }),
    );
    body.lrScheduler = { [schedule]: decay };
  }
  return body;
}

/** The command that starts the same job. */
export function commandOf(form: Form, base: Model | undefined): string {
  const words: string[] = [form.kind === "rft" ? "ep create rft" : "tunesmith sftj create"];
  const add = (flag: string, value: string | undefined) => value && words.push(`${flag} ${quoted(value)}`);
  if (form.warmStartFrom) add("--warm-start-from", form.warmStartFrom);
  else add("--base-model", form.baseModel || "BASE_MODEL");
  add("--dataset", shortId(form.dataset) || "DATASET");
  if (form.kind === "rft") add("--evaluator", shortId(form.evaluator) || "EVALUATOR");
  if (form.kind === "rft" && form.auditEvaluator) add("--audit-evaluator", shortId(form.auditEvaluator));
  if (form.evaluationDataset) add("--evaluation-dataset", shortId(form.evaluationDataset));
  else if (form.carveout) words.push("--eval-auto-carveout");
  const extra: Record<string, unknown> = {};
  const without: string[] = [];
  for (const [option, value] of given(form, base)) {
    if (option.key === "seed") extra.seed = Number(value);
    else if (option.key === "stop") extra.stop = linesOf(value);
    else if (!option.flag) without.push(option.path.at(-1) as string);
    else if (option.key === "thinking")
      add(option.flag, value.replace("THINKING_TRACE_HISTORY_MODE_", "").toLowerCase());
    else add(option.flag, value.trim());
  }
  if (Object.keys(extra).length) add("--extra-body", JSON.stringify(extra));
  if (form.outputModel) add("--output-model", form.outputModel);
  if (form.jobId) add("--job-id", form.jobId);
  if (form.displayName.trim()) {
    if (form.kind === "sft") add("--display-name", form.displayName.trim());
    else without.push("displayName");
  }
  if (form.kind === "rft") words.push("--yes");
  words.push("--wait");
  const command = words.join(" \\\n  ");
  return without.length ? `# ${without.join(", ")}: no flag, only here and in the API\n${command}` : command;
}

function quoted(value: string): string {
  return /^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}

/** The form that would start such a job again: values in force, those at their default left empty. */
export function formOf(kind: Kind, job: Record<string, unknown>, base: Model | undefined): Form {
  const at = (path: readonly string[]): unknown =>
    path.reduce<unknown>((place, name) => (place as Record<string, unknown> | undefined)?.[name], job);
  const nested = kind === "rft" ? ["trainingConfig"] : [];
  const warm = text(at([...nested, "warmStartFrom"]));
  const values: Values = {};
  for (const option of OPTIONS[kind]) {
    if (option.key === "seed" || option.key === "stop" || option.path[0] === "lrScheduler") continue;
    // What a job shows under `preflight` is what its preflight found; the rows of one that was nothing else are not those of a job.
    const path = option.key === "preflightRows" ? ["preflightRows"] : option.path;
    if (option.key === "preflightRows" && job.preflightOnly) continue;
    let value = text(at(path));
    if (/UNSPECIFIED|_DEFAULT$/.test(value)) value = "";
    if (option.input === "switch" && value === "false") value = "";
    if (!isDefault(option, value, rangeOf(kind, option, base))) values[option.key] = value;
  }
  Object.assign(values, extraOf(at(["inferenceParameters", "extraBody"])), scheduleOf(at(["lrScheduler"])));
  return {
    ...EMPTY,
    kind,
    warmStartFrom: warm,
    baseModel: warm ? "" : text(at([...nested, "baseModel"])),
    dataset: text(job.dataset),
    evaluator: text(job.evaluator),
    auditEvaluator: text(job.auditEvaluator),
    evaluationDataset: text(job.evaluationDataset),
    carveout: job.evalAutoCarveout === true,
    values,
  };
}

function extraOf(extraBody: unknown): Values {
  if (typeof extraBody !== "string" || !extraBody) return {};
  const { seed, stop } = JSON.parse(extraBody) as { seed?: number; stop?: string | string[] };
  return {
    ...(seed ? { seed: String(seed) } : {}),
    ...(stop?.length ? { stop: Array.isArray(stop) ? stop.join("\n") : stop } : {}),
  };
}

function scheduleOf(scheduler: unknown): Values {
  const [name, decay] = Object.entries((scheduler ?? {}) as Record<string, Record<string, number>>)[0] ?? [];
  if (!name || name === "constant") return {};
  return {
    schedule: name,
    ...(decay?.minLrRatio ? { minLrRatio: String(decay.minLrRatio) } : {}),
    ...(decay?.decayRatio ? { decayRatio: String(decay.decayRatio) } : {}),
  };
}

function text(value: unknown): string {
  return value === undefined || value === null ? "" : String(value);
}
