// Any JSON value as a tree that folds, copies, and shows large lists and texts in portions.
import { clsx } from "clsx";
import { ChevronRight } from "lucide-react";
import { useState } from "react";
import { CopyButton } from "~/design/Copy";

/** Children of a list or object, and characters of a text, before someone asks for more. */
const CHILDREN = 100;
const CHARACTERS = 600;

export function Json({
  value,
  depth = 2,
  className,
}: {
  value: unknown;
  depth?: number;
  className?: string;
}) {
  return (
    <div className={clsx("relative rounded-md border bg-sunken", className)}>
      <div className="overflow-auto p-2.5 pr-10 font-mono text-xs leading-5">
        <Node value={value} depth={depth} />
      </div>
      <CopyButton
        text={() => JSON.stringify(value, null, 2) ?? ""}
        label="Copy JSON"
        className="absolute top-1 right-1 bg-sunken"
      />
    </div>
  );
}

function Node({ name, value, depth }: { name?: string; value: unknown; depth: number }) {
  const [open, setOpen] = useState(depth > 0);
  const [count, setCount] = useState(CHILDREN);
  if (typeof value !== "object" || value === null)
    return (
      <div className="pl-4">
        <Name name={name} />
        <Leaf value={value} />
      </div>
    );
  const list = Array.isArray(value);
  const keys = list ? value : Object.keys(value);
  const size = keys.length;
  const bare = list ? `[${size}]` : `{${size}}`;
  if (size === 0)
    return (
      <div className="pl-4">
        <Name name={name} />
        <span className="text-ink-faint">{list ? "[]" : "{}"}</span>
      </div>
    );
  return (
    <div>
      <button
        type="button"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
        className="flex items-center rounded text-left hover:bg-surface"
      >
        <ChevronRight
          size={12}
          aria-hidden="true"
          className={clsx("mr-1 shrink-0 text-ink-faint transition-transform", open && "rotate-90")}
        />
        <Name name={name} />
        <span className="text-ink-faint">{bare}</span>
        {!open && <span className="ml-2 max-w-96 truncate text-ink-faint">{hint(value)}</span>}
      </button>
      {open && (
        <div className="ml-1.5 border-l border-line pl-2">
          {list
            ? value.slice(0, count).map((child, place) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: a place in a list is its name
                <Node key={place} name={String(place)} value={child} depth={depth - 1} />
              ))
            : Object.keys(value)
                .slice(0, count)
                .map((key) => (
                  <Node
                    key={key}
                    name={key}
                    value={(value as Record<string, unknown>)[key]}
                    depth={depth - 1}
                  />
                ))}
          {size > count && (
            <button
              type="button"
              className="pl-4 text-accent-text underline underline-offset-2"
              onClick={() => setCount(count * 4)}
            >
              {(size - count).toLocaleString()} more
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function Name({ name }: { name: string | undefined }) {
  return name === undefined ? null : (
    <span className="mr-1.5 text-accent-text">
      {name}
      <span className="text-ink-faint">:</span>
    </span>
  );
}

function Leaf({ value }: { value: unknown }) {
  const [all, setAll] = useState(false);
  if (typeof value !== "string")
    return <span className={value === null ? "text-ink-faint" : "text-note"}>{String(value)}</span>;
  const cut = !all && value.length > CHARACTERS;
  return (
    <span className="whitespace-pre-wrap text-ink [overflow-wrap:anywhere]">
      "{cut ? value.slice(0, CHARACTERS) : value.slice(0, 200_000)}"
      {cut && (
        <button
          type="button"
          className="ml-1 text-accent-text underline underline-offset-2"
          onClick={() => setAll(true)}
        >
          {(value.length - CHARACTERS).toLocaleString()} more characters
        </button>
      )}
    </span>
  );
}

/** What a folded value holds, in a few words. */
function hint(value: object): string {
  if (Array.isArray(value)) return "";
  return Object.keys(value).slice(0, 6).join(", ");
}
