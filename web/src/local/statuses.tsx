// How a rollout or an evaluation went, as words: google.rpc codes, and from 100 on Eval Protocol's own.
import { StateMark, type Tone } from "~/design/Badge";
import type { Status } from "./rows";

const NAMES: Record<number, string> = {
  0: "ok",
  1: "cancelled",
  2: "unknown error",
  3: "invalid argument",
  4: "deadline exceeded",
  5: "not found",
  6: "already exists",
  7: "permission denied",
  8: "resource exhausted",
  9: "failed precondition",
  10: "aborted",
  11: "out of range",
  12: "not implemented",
  13: "internal error",
  14: "unavailable",
  15: "data loss",
  16: "not signed in",
  100: "finished",
  101: "running",
  102: "score invalid",
  103: "poor response",
};

function statusName(code: number): string {
  return NAMES[code] ?? `code ${code}`;
}

export function isError(code: number): boolean {
  return ![0, 100, 101, 102].includes(code);
}

export function StatusMark({ status }: { status: Status | null | undefined }) {
  if (!status) return <span className="text-ink-faint">none</span>;
  const { code } = status;
  const tone: Tone =
    code === 0 || code === 100
      ? "good"
      : code === 101
        ? "note"
        : code === 1 || code === 10 || code === 102
          ? "fair"
          : "bad";
  return (
    <span title={status.message || undefined}>
      <StateMark tone={tone} live={code === 101}>
        {statusName(code)}
      </StateMark>
    </span>
  );
}
