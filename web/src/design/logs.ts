// Lines of a log: what they are, which are shown, and what is taken away before they are.
import { count } from "./figures";

export type LogLevel = "DEBUG" | "INFO" | "WARNING" | "ERROR";

export interface LogLine {
  /** RFC 3339 or Unix seconds; null where the process wrote none. */
  time: string | number | null;
  level: LogLevel;
  source?: string;
  rolloutId?: string | null;
  message: string;
}

export const LEVELS: LogLevel[] = ["DEBUG", "INFO", "WARNING", "ERROR"];
const LONGEST = 5000; // characters of one line that are shown
/** Colours, cursor movements, titles, and every other control character but tab and line feed. */
const CODES = new RegExp(
  [
    "\\u001b\\[[0-9;?]*[A-Za-z]",
    "\\u001b\\][^\\u0007]*\\u0007",
    "[\\u0000-\\u0008\\u000b-\\u001f\\u007f]",
  ].join("|"),
  "g",
);

/** Numbers of the lines of that level and above, from that source ("": any). */
export function filterLines(lines: readonly LogLine[], level: LogLevel, source: string): number[] {
  const least = LEVELS.indexOf(level);
  const shown: number[] = [];
  lines.forEach((line, number) => {
    if (LEVELS.indexOf(line.level) >= least && (!source || line.source === source)) shown.push(number);
  });
  return shown;
}

/** Places in `shown` of the lines that contain `wanted` (lower case; "": none). */
export function findLines(lines: readonly LogLine[], shown: readonly number[], wanted: string): number[] {
  if (!wanted) return [];
  const found: number[] = [];
  shown.forEach((number, place) => {
    if (lines[number]?.message.toLowerCase().includes(wanted)) found.push(place);
  });
  return found;
}

/** A line without the control codes of a terminal, and not longer than a page can bear. */
export function plain(message: string): string {
  const text = message.replace(CODES, "");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${count(text.length)} characters)` : text;
}
