// The frame of the dashboard: navigation, who is signed in, connection, theme. On a narrow screen a button opens the navigation.
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { clsx } from "clsx";
import {
  Bot,
  Boxes,
  Database,
  Gauge,
  KeyRound,
  Lock,
  Menu,
  MessagesSquare,
  Network,
  Radio,
  Scale,
  SlidersHorizontal,
  X,
} from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { useConnection } from "~/api/watch";
import { IconButton } from "~/design/Button";
import mark from "~/design/mark.svg";
import { Failure, Skeleton } from "~/design/Panel";
import { ThemeMenu } from "~/design/ThemeMenu";
import { useChanges } from "./changes";
import { SignIn } from "./SignIn";
import { type Session, useSession, useSigning } from "./session";
import { useTitle } from "./titles";

type Entry = [path: string, label: string, icon: ReactNode];

const NAVIGATION: { heading: string; entries: Entry[] }[] = [
  {
    heading: "Train",
    entries: [
      ["/dashboard", "Overview", <Gauge key="i" size={16} />],
      ["/dashboard/fine-tuning", "Fine-tuning", <SlidersHorizontal key="i" size={16} />],
      ["/dashboard/evaluators", "Evaluators", <Scale key="i" size={16} />],
      ["/dashboard/datasets", "Datasets", <Database key="i" size={16} />],
      ["/dashboard/sessions", "Agent", <Bot key="i" size={16} />],
    ],
  },
  {
    heading: "Serve",
    entries: [
      ["/dashboard/models", "Models", <Boxes key="i" size={16} />],
      ["/dashboard/deployments", "Deployments", <Network key="i" size={16} />],
      ["/dashboard/playground", "Playground", <MessagesSquare key="i" size={16} />],
    ],
  },
  {
    heading: "Account",
    entries: [
      ["/dashboard/secrets", "Secrets", <Lock key="i" size={16} />],
      ["/dashboard/api-keys", "API keys", <KeyRound key="i" size={16} />],
    ],
  },
];

export function Shell() {
  const session = useSession();
  useTitle();
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
  const [open, setOpen] = useState(false);
  // biome-ignore lint/correctness/useExhaustiveDependencies: whoever went somewhere wants to see it
  useEffect(() => setOpen(false), [path]);
  useEffect(() => {
    if (!open) return;
    const close = (event: KeyboardEvent) => event.key === "Escape" && setOpen(false);
    window.addEventListener("keydown", close);
    return () => window.removeEventListener("keydown", close);
  }, [open]);
  if (path === "/dashboard/sign-in") return <SignIn />;
  return (
    <div className="min-h-dvh lg:grid lg:grid-cols-[13.5rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:fixed focus:top-2 focus:left-2 focus:z-50 focus:rounded focus:bg-surface focus:px-3 focus:py-2"
      >
        Skip to content
      </a>
      <div className="sticky top-0 z-30 border-b bg-raised lg:flex lg:h-dvh lg:flex-col lg:border-r lg:border-b-0">
        <div className="flex items-center justify-between gap-2 px-4 py-2.5 lg:py-3.5">
          <Link to="/dashboard" className="flex items-center gap-2 font-semibold">
            <img src={mark} alt="" className="size-6" />
            Tunesmith
          </Link>
          <IconButton
            label={open ? "Close menu" : "Open menu"}
            aria-expanded={open}
            aria-controls="navigation"
            onClick={() => setOpen(!open)}
            className="lg:hidden"
          >
            {open ? <X size={18} /> : <Menu size={18} />}
          </IconButton>
        </div>
        <div
          id="navigation"
          className={clsx(
            "lg:flex lg:min-h-0 lg:flex-1 lg:flex-col",
            open
              ? "max-lg:max-h-[calc(100dvh-3.25rem)] max-lg:overflow-y-auto max-lg:border-t"
              : "max-lg:hidden",
          )}
        >
          <Navigation path={path} />
          <Foot session={session} />
        </div>
      </div>
      <main
        id="content"
        tabIndex={-1}
        className="mx-auto w-full max-w-[96rem] min-w-0 px-4 py-5 outline-none lg:px-7"
      >
        <Outlet />
      </main>
    </div>
  );
}

function Navigation({ path }: { path: string }) {
  return (
    <nav aria-label="Main" className="space-y-3 px-2 py-2 lg:flex-1 lg:overflow-y-auto lg:pt-0">
      {NAVIGATION.map(({ heading, entries }) => (
        <div key={heading}>
          <div className="px-2.5 pb-1 text-xs text-ink-faint" aria-hidden="true">
            {heading}
          </div>
          {entries.map(([to, label, icon]) => {
            const active = to === "/dashboard" ? path === to || path === `${to}/` : path.startsWith(to);
            return (
              <Link
                key={to}
                to={to}
                aria-current={active ? "page" : undefined}
                className={clsx(
                  "flex items-center gap-2.5 rounded-md px-2.5 py-1.5",
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
        </div>
      ))}
    </nav>
  );
}

function Foot({ session }: { session: Session }) {
  const connection = useConnection();
  const { signOut } = useSigning();
  const lost = connection === "lost";
  return (
    <div className="flex flex-col gap-2 border-t px-4 py-3 text-xs text-ink-soft">
      <div className="flex items-center justify-between">
        <span role="status" className={clsx("flex items-center gap-1.5", lost && "text-bad")}>
          <Radio size={13} aria-hidden="true" className={connection === "open" ? "text-good" : undefined} />
          {lost ? "connection lost, trying again" : connection === "open" ? "live" : "connecting"}
        </span>
        <ThemeMenu />
      </div>
      <div className="truncate" title={session.account}>
        {session.user?.split("/").pop() || session.account} · {session.role}
      </div>
      <div className="flex items-center justify-between gap-2">
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
