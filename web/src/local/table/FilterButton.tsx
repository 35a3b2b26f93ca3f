// An id, a name or a model with a funnel beside it: one click shows only what has the same.
import { clsx } from "clsx";
import { Filter as Funnel } from "lucide-react";
import { useChangeFilters } from "../filters/Filters";
import { withEquals } from "../state";
import { useLocalState } from "../useLocalState";

export function Filterable(props: {
  field: string;
  value: string | null | undefined;
  /** What it is, read aloud: "invocation". */
  noun: string;
  mono?: boolean;
  className?: string;
}) {
  const [{ filterConfig }] = useLocalState();
  const change = useChangeFilters();
  const { field, value, noun } = props;
  if (!value) return <span className="text-ink-faint">none</span>;
  const label = `Show only ${noun} ${value}`;
  return (
    <span className={clsx("flex min-w-0 items-center gap-1.5", props.className)}>
      <span className={clsx("truncate", props.mono && "font-mono text-xs")} title={value}>
        {value}
      </span>
      <button
        type="button"
        aria-label={label}
        title={label}
        onClick={() => change(withEquals(filterConfig, { field, value }))}
        className="shrink-0 rounded p-1 text-ink-faint hover:bg-sunken hover:text-accent-text"
      >
        <Funnel size={12} aria-hidden="true" />
      </button>
    </span>
  );
}
