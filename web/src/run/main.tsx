// run.html: one job, in one file, to scrub through. It opens from a disk or a mail and asks nobody for anything.
import "~/design/theme.css";
import { type ReactNode, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Failure } from "~/design/Panel";
import { startTheme } from "~/design/theme";
import { readRun } from "./data";
import { RunPage } from "./RunPage";

startTheme();
const root = createRoot(document.getElementById("root") as HTMLElement);
const show = (page: ReactNode) => root.render(<StrictMode>{page}</StrictMode>);

readRun(document.getElementById("run-data")?.textContent ?? "").then(
  (run) => show(<RunPage run={run} />),
  (error) =>
    show(
      <main className="mx-auto max-w-xl p-8">
        <h1 className="mb-4 text-xl font-semibold">A run</h1>
        <Failure title="The run cannot be shown" error={error} />
      </main>,
    ),
);
