// A build log's text as lines with levels, which the builder does not write: they are read from the words.
import type { LogLevel, LogLine } from "~/design/LogView";

const ERROR = /^(\S*(Error|Exception)\b|Traceback|error:|ERROR\b)|\b(build failed|No module named)\b/i;
const WARNING = /\bwarn(ing)?\b/i;

export function buildLines(text: string): LogLine[] {
  if (!text) return [];
  return text
    .replace(/\n$/, "")
    .split("\n")
    .map((message) => ({ time: null, level: levelOf(message), message }));
}

function levelOf(message: string): LogLevel {
  const line = message.trimStart();
  return ERROR.test(line) ? "ERROR" : WARNING.test(line) ? "WARNING" : "INFO";
}
