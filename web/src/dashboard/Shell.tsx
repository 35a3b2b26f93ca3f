// The frame of the dashboard: navigation, who is signed in, connection, theme. On a narrow screen the navigation is a strip that scrolls.
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { clsx } from "clsx";
import {
  Bot,
  Boxes,
  Database,
  Gauge,
  KeyRound,
  Lock,
  MessagesSquare,
  Network,
  Radio,
  Scale,
  SlidersHorizontal,
} from "lucide-react";
import type { ReactNode } from "react";
import { useConnection } from "~/api/watch";
import mark from "~/design/mark.svg";
import { Failure, Skeleton } from "~/design/Panel";
import { ThemeMenu } from "~/design/ThemeMenu";
import { useChanges } from "./changes";
import { SignIn } from "./SignIn";
import { type Session, useSession, useSigning } from "./session";

const NAVIGATION: [string, string, ReactNode][] = [
  ["/dashboard", "Overview", <Gauge key="i" size={16} />],
  ["/dashboard/fine-tuning", "Fine-tuning", <SlidersHorizontal key="i" size={16} />],
  ["/dashboard/evaluators", "Evaluators", <Scale key="i" size={16} />],
  ["/dashboard/datasets", "Datasets", <Database key="i" size={16} />],
  ["/dashboard/models", "Models", <Boxes key="i" size={16} />],
  ["/dashboard/deployments", "Deployments", <Network key="i" size={16} />],
  ["/dashboard/playground", "Playground", <MessagesSquare key="i" size={16} />],
  ["/dashboard/sessions", "Agent", <Bot key="i" size={16} />],
  ["/dashboard/secrets", "Secrets", <Lock key="i" size={16} />],
  ["/dashboard/api-keys", "API keys", <KeyRound key="i" size={16} />],
];

export function Shell() {
  const session = useSession();
  if (session.isPending) return <Skeleton className="m-8" />;
  if (session.error)
    return (
      <div className="m-8">
        <Failure title="The platform did not answer" error={session.error} retry={() => session.refetch()} />
      </div>
    );
  return session.data ? <Frame session={session.data} /> : <SignIn />;
}

function Frame({ session }: { session: Session }) {
  useChanges();
  const path = useLocation({ select: (location) => location.pathname });
  if (path === "/dashboard/sign-in") return <SignIn />;
  return (
    <div className="min-h-dvh lg:grid lg:grid-cols-[13.5rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:z-50 focus:rounded focus:bg-surface focus:px-3 focus:py-2"
      >
        Skip to content
      </a>
      <div className="border-b bg-raised lg:sticky lg:top-0 lg:flex lg:h-dvh lg:flex-col lg:border-r lg:border-b-0">
        <div className="flex items-center justify-between gap-2 px-4 py-3">
          <Link to="/dashboard" className="flex items-center gap-2 font-semibold">
            <img src={mark} alt="" className="size-6" />
            Tunesmith
          </Link>
          <div className="lg:hidden">
            <ThemeMenu />
          </div>
        </div>
        <nav
          aria-label="Main"
          className="flex gap-1 overflow-x-auto px-2 pb-2 lg:flex-1 lg:flex-col lg:overflow-y-auto"
        >
          {NAVIGATION.map(([to, label, icon]) => {
            const active = to === "/dashboard" ? path === to || path === `${to}/` : path.startsWith(to);
            return (
              <Link
                key={to}
                to={to}
                aria-current={active ? "page" : undefined}
                className={clsx(
                  "flex items-center gap-2.5 rounded-md px-2.5 py-1.5 whitespace-nowrap",
                  active
                    ? "bg-accent-soft font-medium text-accent-text"
                    : "text-ink-soft hover:bg-sunken hover:text-ink",
                )}
              >
                {icon}
                {label}
              </Link>
            );
          })}
        </nav>
        <Foot session={session} />
      </div>
      <main id="content" className="min-w-0 px-4 py-5 lg:px-7">
        <Outlet />
      </main>
    </div>
  );
}

function Foot({ session }: { session: Session }) {
  const connection = useConnection();
  const { signOut } = useSigning();
  return (
    <div className="hidden flex-col gap-2 border-t px-4 py-3 text-xs text-ink-soft lg:flex">
      <div className="flex items-center justify-between">
        <span className={clsx("flex items-center gap-1.5", connection === "lost" && "text-bad")}>
          <Radio size={13} aria-hidden="true" />
          {connection === "lost"
            ? "connection lost, trying again"
            : connection === "open"
              ? "live"
              : "connecting"}
        </span>
        <ThemeMenu />
      </div>
      <div className="truncate" title={session.account}>
        {session.user?.split("/").pop() ?? session.account} · {session.role}
      </div>
      <div className="flex items-center justify-between">
        {session.role === "viewer" ? (
          <Link to="/dashboard/sign-in" className="font-medium text-accent-text underline underline-offset-2">
            Sign in to change things
          </Link>
        ) : (
          <button
            type="button"
            onClick={() => signOut()}
            className="underline underline-offset-2 hover:text-ink"
          >
            Sign out
          </button>
        )}
        <span className="tabular">{session.version}</span>
      </div>
    </div>
  );
}
