// Links that look like buttons, and how menus look here.
import { Link } from "@tanstack/react-router";
import { clsx } from "clsx";
import type { ReactNode } from "react";

export const MENU = "z-50 min-w-52 rounded-lg border bg-raised p-1 shadow-raised";
export const MENU_ITEM =
  "flex cursor-pointer items-center gap-2 rounded px-2.5 py-1.5 text-[13px] outline-none data-[highlighted]:bg-sunken";

export function LinkButton(props: {
  to: string;
  search?: Record<string, unknown>;
  icon?: ReactNode;
  primary?: boolean;
  children: ReactNode;
}) {
  return (
    <Link
      to={props.to}
      search={props.search as never}
      className={clsx(
        "inline-flex h-8 shrink-0 items-center justify-center gap-1.5 rounded-md border px-3 text-[13px] font-medium whitespace-nowrap transition-colors",
        props.primary
          ? "border-transparent bg-accent text-accent-ink hover:opacity-90"
          : "border-line-strong bg-surface hover:bg-sunken",
      )}
    >
      {props.icon}
      {props.children}
    </Link>
  );
}
