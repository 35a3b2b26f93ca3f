// A path of the dashboard that leads nowhere.
import { Link, useLocation } from "@tanstack/react-router";
import { Compass } from "lucide-react";
import { useEffect } from "react";
import { PageHeader } from "~/design/PageHeader";
import { Empty } from "~/design/Panel";

export function NotFound() {
  const path = useLocation({ select: (location) => location.pathname });
  useEffect(() => {
    document.title = "Page not found · Tunesmith";
  }, []);
  return (
    <>
      <PageHeader title="Page not found" />
      <div className="rounded-lg border bg-surface">
        <Empty
          picture={<Compass size={32} />}
          title="There is no page here"
          action={
            <Link to="/dashboard" className="font-medium text-accent-text underline underline-offset-2">
              Go to the overview
            </Link>
          }
        >
          Nothing of this dashboard is at <code className="font-mono break-all">{path}</code>. The address may
          be mistyped, or what it named was removed.
        </Empty>
      </div>
    </>
  );
}
