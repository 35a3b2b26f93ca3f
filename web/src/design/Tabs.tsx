// Tabs as links: the chosen one stands in the URL. On a narrow screen they scroll sideways.
import { clsx } from "clsx";
import type { ReactNode } from "react";

export interface Tab {
  id: string;
  label: ReactNode;
  count?: number;
}

export function Tabs(props: {
  tabs: readonly Tab[];
  active: string;
  onChange: (id: string) => void;
  label: string;
  actions?: ReactNode;
}) {
  return (
    <div className="flex flex-wrap items-center justify-between gap-2 border-b">
      <div role="tablist" aria-label={props.label} className="flex min-w-0 gap-1 overflow-x-auto">
        {props.tabs.map((tab, index) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            aria-selected={tab.id === props.active}
            tabIndex={tab.id === props.active ? 0 : -1}
            onClick={() => props.onChange(tab.id)}
            onKeyDown={(event) => {
              const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
              if (!step) return;
              const next = props.tabs[(index + step + props.tabs.length) % props.tabs.length];
              if (!next) return;
              props.onChange(next.id);
              (
                event.currentTarget.parentElement?.children[props.tabs.indexOf(next)] as
                  | HTMLElement
                  | undefined
              )?.focus();
            }}
            className={clsx(
              "-mb-px border-b-2 px-3 py-2 text-[13px] font-medium whitespace-nowrap",
              tab.id === props.active
                ? "border-accent text-ink"
                : "border-transparent text-ink-soft hover:text-ink",
            )}
          >
            {tab.label}
            {tab.count !== undefined && (
              <span className="tabular ml-1.5 text-xs text-ink-faint">{tab.count}</span>
            )}
          </button>
        ))}
      </div>
      {props.actions && <div className="flex items-center gap-2 pb-1">{props.actions}</div>}
    </div>
  );
}
