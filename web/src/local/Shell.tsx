// The frame of the local UI: name, tabs, connection, theme.
import { useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { clsx } from "clsx";
import { RefreshCw } from "lucide-react";
import { useState } from "react";
import { StateMark } from "~/design/Badge";
import { Button } from "~/design/Button";
import mark from "~/design/mark.svg";
import { ThemeMenu } from "~/design/ThemeMenu";
import { type Connection, useLive } from "./live";

const PAGES = [
  ["/table", "Table"],
  ["/pivot", "Pivot"],
  ["/compare", "Compare"],
] as const;

export function Shell() {
  const connection = useLive();
  const path = useLocation({ select: (location) => location.pathname });
  return (
    <div className="flex min-h-dvh flex-col">
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:z-50 focus:rounded focus:bg-surface focus:px-3 focus:py-2"
      >
        Skip to content
      </a>
      <header className="flex flex-wrap items-stretch justify-between gap-x-6 border-b bg-surface px-4 lg:px-6">
        <div className="flex items-stretch gap-6">
          <Link to="/table" className="flex items-center gap-2 py-2.5 font-semibold">
            <img src={mark} alt="" className="size-6" />
            <span className="max-sm:sr-only">Eval Protocol</span>
          </Link>
          <nav aria-label="Main" className="flex items-stretch gap-1">
            {PAGES.map(([to, label]) => (
              <Link
                key={to}
                to={to}
                // What is filtered stays filtered from page to page.
                search={true}
                aria-current={path === to ? "page" : undefined}
                className={clsx(
                  "-mb-px flex items-center border-b-2 px-2.5 text-[13px] font-medium",
                  path === to ? "border-accent text-ink" : "border-transparent text-ink-soft hover:text-ink",
                )}
              >
                {label}
              </Link>
            ))}
          </nav>
        </div>
        <div className="flex items-center gap-2 py-1.5 text-[13px]">
          <ConnectionMark connection={connection} />
          <Refresh />
          <ThemeMenu />
        </div>
      </header>
      <main id="content" className="flex min-w-0 flex-1 flex-col gap-4 px-4 py-4 lg:px-6">
        <Outlet />
      </main>
    </div>
  );
}

function ConnectionMark({ connection }: { connection: Connection }) {
  const words = { open: "Connected", connecting: "Connecting", lost: "Disconnected" };
  return (
    <span
      role="status"
      title={
        connection === "lost"
          ? "The server of `ep logs` does not answer; trying again. What is shown may be old."
          : "New rollouts appear by themselves."
      }
    >
      <StateMark tone={connection === "open" ? "good" : connection === "lost" ? "bad" : "fair"}>
        {words[connection]}
      </StateMark>
    </span>
  );
}

function Refresh() {
  const client = useQueryClient();
  const [busy, setBusy] = useState(false);
  const refresh = async () => {
    setBusy(true);
    await client.invalidateQueries().finally(() => setBusy(false));
  };
  return (
    <Button small busy={busy} icon={<RefreshCw size={13} aria-hidden="true" />} onClick={refresh}>
      Refresh
    </Button>
  );
}
