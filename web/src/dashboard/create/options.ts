// The options of RFT and SFT jobs that the form asks for: where they stand in a create, what they may be, which flag they have.
// Defaults and ranges that depend on the base model come from it (`trainingOptions`); the documented ones of real base models stand in
// for a model that is not on this machine yet.
import type { Model, OptionRange } from "~/api/models";
import { RFT } from "./rftOptions";
import { SFT } from "./sftOptions";

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
