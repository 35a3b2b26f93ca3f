// Short messages at the edge of the screen: something was done, or could not be.
import { clsx } from "clsx";
import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { IconButton } from "./Button";

interface Toast {
  id: number;
  tone: "plain" | "bad";
  text: string;
}

let toasts: Toast[] = [];
let last = 0;
const wakes = new Set<() => void>();

/** Say something for six seconds (errors: until closed). */
export function toast(text: string, tone: Toast["tone"] = "plain"): void {
  const id = ++last;
  show([...toasts, { id, tone, text }]);
  if (tone === "plain") setTimeout(() => close(id), 6000);
}

export function toastError(error: unknown): void {
  toast(error instanceof Error ? error.message : String(error), "bad");
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (wake) => {
      wakes.add(wake);
      return () => wakes.delete(wake);
    },
    () => toasts,
  );
  return (
    <div
      role="status"
      aria-live="polite"
      className="pointer-events-none fixed right-4 bottom-4 z-[60] flex w-[min(26rem,calc(100vw-2rem))] flex-col gap-2"
    >
      {shown.map((each) => (
        <div
          key={each.id}
          className={clsx(
            "pointer-events-auto flex items-start justify-between gap-3 rounded-lg border px-3 py-2 shadow-raised",
            each.tone === "bad" ? "border-bad bg-bad-soft" : "bg-raised",
          )}
        >
          <span className="min-w-0 break-words">{each.text}</span>
          <IconButton label="Close message" onClick={() => close(each.id)}>
            <X size={14} />
          </IconButton>
        </div>
      ))}
    </div>
  );
}

function close(id: number): void {
  show(toasts.filter((each) => each.id !== id));
}

function show(next: Toast[]): void {
  toasts = next;
  for (const wake of wakes) wake();
}
