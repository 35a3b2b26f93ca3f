// The frame of the local UI: name, tabs, connection, theme.
import { Outlet } from "@tanstack/react-router";
import mark from "~/design/mark.svg";
import { ThemeMenu } from "~/design/ThemeMenu";

export function Shell() {
  return (
    <div className="flex min-h-dvh flex-col">
      <header className="flex items-center justify-between gap-3 border-b bg-surface px-4 py-2">
        <span className="flex items-center gap-2 font-semibold">
          <img src={mark} alt="" className="size-6" />
          Eval Protocol
        </span>
        <ThemeMenu />
      </header>
      <main className="min-w-0 flex-1 p-4">
        <Outlet />
      </main>
    </div>
  );
}
