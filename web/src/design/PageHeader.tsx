// The head of a page: where it stands, its one h1, a line about it, and what can be done here.
import { ChevronRight } from "lucide-react";
import type { ReactNode } from "react";

export function PageHeader(props: {
  title: ReactNode;
  /** Links to what this page is part of, outermost first. */
  crumbs?: readonly ReactNode[];
  /** State, version and the like, right behind the title. */
  marks?: ReactNode;
  /** One line below the title. */
  children?: ReactNode;
  actions?: ReactNode;
}) {
  return (
    <header className="mb-5 flex flex-wrap items-end justify-between gap-x-6 gap-y-3">
      <div className="min-w-0">
        {props.crumbs && (
          <nav aria-label="Breadcrumb" className="mb-0.5 flex items-center gap-1 text-xs text-ink-soft">
            {props.crumbs.map((crumb, place) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: crumbs are known by their place
              <span key={place} className="flex items-center gap-1 [&_a]:hover:underline">
                {crumb}
                <ChevronRight size={12} aria-hidden="true" className="text-ink-faint" />
              </span>
            ))}
          </nav>
        )}
        <div className="flex min-w-0 flex-wrap items-center gap-x-3 gap-y-1">
          <h1 className="min-w-0 text-xl font-semibold tracking-tight break-words">{props.title}</h1>
          {props.marks}
        </div>
        {props.children && <div className="mt-1 max-w-prose text-ink-soft">{props.children}</div>}
      </div>
      {props.actions && <div className="flex flex-wrap items-center gap-2">{props.actions}</div>}
    </header>
  );
}
