// Chart or table: two buttons of which one is pressed.
import { clsx } from "clsx";
import { ChartLine, Table2 } from "lucide-react";

export function ViewToggle(props: { view: "chart" | "table"; onView: (view: "chart" | "table") => void }) {
  return (
    <fieldset className="inline-flex h-8 items-center rounded-md border border-line-strong p-0.5">
      <legend className="sr-only">Show as</legend>
      {(["chart", "table"] as const).map((view) => (
        <button
          key={view}
          type="button"
          aria-label={view === "chart" ? "Chart" : "Table"}
          title={view === "chart" ? "Chart" : "Table"}
          aria-pressed={props.view === view}
          onClick={() => props.onView(view)}
          className={clsx(
            "inline-flex h-full w-8 items-center justify-center rounded",
            props.view === view ? "bg-accent-soft text-accent-text" : "text-ink-faint hover:text-ink",
          )}
        >
          {view === "chart" ? <ChartLine size={15} /> : <Table2 size={15} />}
        </button>
      ))}
    </fieldset>
  );
}
