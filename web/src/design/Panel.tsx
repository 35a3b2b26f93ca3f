// Surfaces: a panel with a heading, a tile with one figure, and the three states that every piece of data has before it is there.
import { clsx } from "clsx";
import { CircleAlert } from "lucide-react";
import type { ReactNode } from "react";
import { Button } from "./Button";

export function Panel(props: {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  className?: string;
  /** Without inner padding, for tables and charts. */
  flush?: boolean;
}) {
  return (
    <section className={clsx("min-w-0 rounded-lg border bg-surface", props.className)}>
      {(props.title || props.actions) && (
        <header className="flex flex-wrap items-center justify-between gap-2 border-b px-4 py-2.5">
          <h2 className="text-[13px] font-semibold">{props.title}</h2>
          <div className="flex flex-wrap items-center gap-2">{props.actions}</div>
        </header>
      )}
      <div className={props.flush ? "" : "p-4"}>{props.children}</div>
    </section>
  );
}

/** One figure with its name; `hint` says more on a second line. */
export function Tile(props: { label: string; value: ReactNode; hint?: ReactNode; className?: string }) {
  return (
    <div className={clsx("min-w-0 rounded-lg border bg-surface px-3.5 py-2.5", props.className)}>
      <div className="text-xs text-ink-faint">{props.label}</div>
      <div className="tabular truncate text-lg font-semibold">{props.value}</div>
      {props.hint && <div className="truncate text-xs text-ink-soft">{props.hint}</div>}
    </div>
  );
}

/** Nothing is there yet: what would be here, and how it comes about. */
export function Empty(props: {
  title: string;
  children?: ReactNode;
  action?: ReactNode;
  picture?: ReactNode;
}) {
  return (
    <div className="flex flex-col items-center gap-2 px-6 py-12 text-center">
      {props.picture && <div className="text-ink-faint">{props.picture}</div>}
      <p className="font-semibold">{props.title}</p>
      {props.children && <div className="max-w-prose text-ink-soft">{props.children}</div>}
      {props.action && <div className="mt-2">{props.action}</div>}
    </div>
  );
}

/** Something could not be had: what, why, and a way to try again. */
export function Failure(props: { title: string; error: unknown; retry?: () => void }) {
  return (
    <div
      role="alert"
      className="flex flex-col items-start gap-2 rounded-lg border border-bad bg-bad-soft px-4 py-3"
    >
      <p className="flex items-center gap-2 font-semibold text-bad">
        <CircleAlert size={16} aria-hidden="true" />
        {props.title}
      </p>
      <p className="break-words">
        {props.error instanceof Error ? props.error.message : String(props.error)}
      </p>
      {props.retry && (
        <Button small onClick={props.retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** Grey bars where text will stand. */
export function Skeleton({ lines = 3, className }: { lines?: number; className?: string }) {
  return (
    <div className={clsx("animate-pulse space-y-2.5 p-4", className)} role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, line) => (
        <div
          // biome-ignore lint/suspicious/noArrayIndexKey: the bars never change places
          key={line}
          className="h-3.5 rounded bg-sunken"
          style={{ width: `${92 - ((line * 17) % 40)}%` }}
        />
      ))}
    </div>
  );
}

/** What a query brings: its loading, error and data states in one place. */
export function Loaded<T>(props: {
  query: { data: T | undefined; error: unknown; isPending: boolean; refetch: () => unknown };
  what: string;
  lines?: number;
  children: (data: T) => ReactNode;
}) {
  const { query } = props;
  if (query.data !== undefined) return <>{props.children(query.data)}</>;
  if (query.error)
    return (
      <Failure
        title={`${props.what} could not be loaded`}
        error={query.error}
        retry={() => query.refetch()}
      />
    );
  return <Skeleton lines={props.lines ?? 4} />;
}
